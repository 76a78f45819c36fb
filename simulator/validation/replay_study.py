"""What is asked of replays: the distributions, how far a step's error grows in the queue, and a fit on half of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simulator.metrics.latency import PERCENTILES
from simulator.validation.replay import METRICS, Latencies, Replay, simulate
from simulator.validation.replay_fit import FITTED, TESTED, fit_half, half
from simulator.validation.stack_numbers import exchanged, number

STATISTICS = ("mean", *(f"p{rank}" for rank in PERCENTILES))
SLOWER = 1.01
PREFIXES = "no prompt shares a prefix with another one (the file does not hold the prompts)"

Table = dict[str, dict[str, float]]
"""Metric -> statistic -> value."""


def statistics(latencies: Latencies) -> Table:
    """Mean and percentiles of each metric in s, over the requests that have one; NaN where none has."""
    found = {}
    for metric in METRICS:
        seconds = latencies[metric][np.isfinite(latencies[metric])]
        figures = [np.mean(seconds), *np.percentile(seconds, PERCENTILES)] if len(seconds) else [np.nan] * 4
        found[metric] = dict(zip(STATISTICS, map(float, figures), strict=True))
    return found


def errors(simulated: Latencies, measured: Latencies) -> Table:
    """simulated / measured - 1 of each statistic; NaN where nothing was measured, or 0."""
    ours, theirs = statistics(simulated), statistics(measured)
    return {
        metric: {
            which: ours[metric][which] / value - 1.0 if value > 0.0 else float("nan") for which, value in row.items()
        }
        for metric, row in theirs.items()
    }


@dataclass(frozen=True)
class Outcome:
    """A replay as simulated with the stack's own numbers, and with those fitted to half of its requests."""

    replay: Replay
    simulated: Latencies
    slower: Latencies
    numbers: dict[str, float]
    refitted: Latencies

    @cached_property
    def errors(self) -> Table:
        """With the stack's own numbers."""
        return errors(self.simulated, self.replay.measured)

    @cached_property
    def amplification(self) -> dict[str, float]:
        """By how many per cent the mean of each metric grows when every step takes one per cent longer."""
        before, after = statistics(self.simulated), statistics(self.slower)
        return {
            metric: float(np.log(after[metric]["mean"] / before[metric]["mean"]) / np.log(SLOWER))
            if before[metric]["mean"] > 0.0
            else float("nan")
            for metric in METRICS
        }

    @cached_property
    def fitted_half(self) -> Table:
        """Errors, with the fitted numbers, over the requests that led the fit."""
        return errors(half(self.refitted, FITTED), half(self.replay.measured, FITTED))

    @cached_property
    def tested_half(self) -> Table:
        """Errors, with the fitted numbers, over the other requests."""
        return errors(half(self.refitted, TESTED), half(self.replay.measured, TESTED))

    def document(self) -> dict[str, Any]:
        """Plain data: times in ms, errors as fractions, None where there is none."""
        case, scenario = self.replay.case, self.replay.scenario
        ours, theirs = statistics(self.simulated), statistics(self.replay.measured)
        return {
            "name": self.replay.name,
            "hardware": case.machine.profile.name,
            "model": case.architecture.name,
            "layout": str(case.machine.parallelism),
            "stack": self.replay.stack.name,
            "requests": len(case.requests),
            "limits": scenario.limits.model_dump(mode="json"),
            "assumed": PREFIXES,
            "metrics": {
                metric: {
                    which: {
                        "measured_ms": _plain(1e3 * theirs[metric][which]),
                        "simulated_ms": _plain(1e3 * ours[metric][which]),
                        "error": _plain(self.errors[metric][which]),
                    }
                    for which in STATISTICS
                }
                for metric in METRICS
            },
            "amplification": {metric: _plain(value) for metric, value in self.amplification.items()},
            "fitted": {
                "numbers": {
                    path: {"before": float(number(self.replay.stack, path)), "after": value}
                    for path, value in self.numbers.items()
                },
                "fitted_half": _plain_table(self.fitted_half),
                "tested_half": _plain_table(self.tested_half),
            },
        }


def study(replays: Sequence[Replay]) -> list[Outcome]:
    """Simulate replays. Those of one stack on one chip share the numbers that are fitted to half of their requests."""
    together: dict[tuple[str, str], list[Replay]] = {}
    for replay in replays:
        together.setdefault((replay.stack.name, replay.case.machine.profile.chip.name), []).append(replay)
    numbers = {key: fit_half(members) for key, members in together.items()}
    outcomes = []
    for replay in replays:
        found = numbers[replay.stack.name, replay.case.machine.profile.chip.name]
        refitted = simulate(replay, exchanged(replay.stack, found))
        outcomes.append(Outcome(replay, simulate(replay), simulate(replay, slower=SLOWER), found, refitted))
    return outcomes


def _plain_table(table: Table) -> dict[str, dict[str, float | None]]:
    return {metric: {which: _plain(value) for which, value in row.items()} for metric, row in table.items()}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
