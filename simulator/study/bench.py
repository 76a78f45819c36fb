"""Fleets in the event engine, all under the same requests: how many replicas keep an SLO, how much load some hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple

from simulator.metrics.slo import Slo
from simulator.quantity import Known
from simulator.scenario import Scenario, Traffic
from simulator.study.candidate import Candidate
from simulator.study.content import Contents
from simulator.study.evaluation import Evaluation
from simulator.study.point import Point

ROUNDS = 16
"""Steps towards the fewest replicas, and halvings between two numbers of them."""

MOST_GROWTH = 4
"""Of the replicas that a steady state needs: more do not help."""

RUNNER_UP = 1.25
"""Of the best: what a runner-up may cost."""

HALVINGS = 6
"""Of a range of loads."""


Cost = Callable[[int, int], float]
"""(which one, how many replicas) -> what they cost."""


@dataclass(frozen=True)
class Load:
    """Replicas of a candidate under the scenario's traffic, `factor` times as fast."""

    candidate: Candidate
    replicas: int
    factor: float


class Miss(NamedTuple):
    """The nearest that a candidate or a fleet came: what it missed, by which factor."""

    name: str
    what: str
    factor: float


@dataclass
class Bench:
    """Judges loads by their runs, one for each seed; all must keep the SLO. `misses`: of candidates that never do."""

    scenario: Scenario
    file: str
    folders: tuple[Path, ...]
    slo: Slo
    slo_by: str
    contents: Contents
    evaluation: Evaluation
    replications: int
    computed: int = 0
    misses: list[Miss] = field(default_factory=list)

    def smallest(self, loads: Sequence[Load], cost: Cost | None = None, least: float = inf) -> list[int | None]:
        """Of each the fewest replicas that keep the SLO, sought from the number it has; None: not with MOST_GROWTH
        times as many, nor with as many as cost RUNNER_UP times `least`, or what another one here does."""
        failed = dict.fromkeys(range(len(loads)), 0)  # the most replicas that are too few
        enough: dict[int, int] = {}
        trying = {index: each.replicas for index, each in enumerate(loads)}
        most = [MOST_GROWTH * (each.replicas + 1) for each in loads]
        last: dict[int, Sequence[Mapping[str, Any]]] = {}
        for _ in range(ROUNDS):
            asked = [Load(loads[index].candidate, count, loads[index].factor) for index, count in trying.items()]
            following: dict[int, int] = {}
            for (index, count), runs in zip(trying.items(), self.runs(asked), strict=True):
                if self.keeps(runs):
                    enough[index] = count
                else:
                    failed[index], last[index] = count, runs
                low, high = failed[index], enough.get(index)
                if high is None:
                    following[index] = ceil(low * 1.3) + (low < 4)
                elif high - low > 1:
                    following[index] = (low + high) // 2 if low else max(1, int(high * 0.8))
            least = min([least, *(cost(*each) for each in enough.items())]) if cost else inf
            trying = {
                index: count
                for index, count in following.items()
                if index in enough or not (count > most[index] or (cost and cost(index, count) > RUNNER_UP * least))
            }
            if not trying:
                break
        for index in failed.keys() - enough.keys():
            self.misses.append(self.miss(loads[index].candidate.name, last[index]))
        return [enough.get(index) for index in range(len(loads))]

    def largest(self, held: Callable[[float], bool], low: float, high: float) -> float:
        """The largest number between two at which `held`, which holds at the first, by halving."""
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if held(middle) else (low, middle)
        return low

    def hold(self, loads: Sequence[Load]) -> bool:
        """Whether all of them keep the SLO."""
        return all(self.keeps(runs) for runs in self.runs(loads))

    def keeps(self, runs: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the runs of all seeds keep the SLO; no runs do not."""
        return bool(runs) and all(not run["saturated"] and self._within(run) for run in runs)

    def _within(self, run: Mapping[str, Any]) -> bool:
        if self.slo_by == "goodput":
            return float(run["slo_attainment"] or 0.0) >= self.slo.percentile / 100.0
        every = run["requests_completed"] == run["requests"]
        return every and all(value <= limit for value, limit in self._latencies(run).values())

    def _latencies(self, run: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Name of each limited latency -> its percentile and its limit, ms; the nearest percentile that runs know."""
        known = min((50, 90, 99), key=lambda each: abs(each - self.slo.percentile))
        limits = {"ttft": self.slo.ttft_s, "tpot": self.slo.tpot_s, "e2el": self.slo.e2el_s}
        names = {f"{name}_p{known}": limit * 1e3 for name, limit in limits.items() if limit is not None}
        return {name: (float(run[f"{name}_ms"] or 0.0), limit) for name, limit in names.items()}

    def miss(self, name: str, runs: Sequence[Mapping[str, Any]]) -> Miss:
        """What the worst of some runs misses."""
        if not runs:
            return Miss(name, "the run fails", inf)
        worst = min(runs, key=lambda run: run["slo_attainment"] or 0.0)
        if worst["saturated"]:
            return Miss(name, "its queue grows however many replicas there are", inf)
        over = {latency: value / limit for latency, (value, limit) in self._latencies(worst).items()}
        latency = max(over, key=lambda each: over[each])
        attained = float(worst["slo_attainment"] or 0.0)
        share = f"{100 * attained:.3g} % of the requests keep the SLO"
        if over[latency] > 1.0:
            return Miss(name, f"{latency} above its limit, {share}", over[latency])
        # Each latency has its percentile, and too few requests have all of them.
        return Miss(name, share, self.slo.percentile / 100.0 / attained if attained else inf)

    def runs(self, wanted: Sequence[Load]) -> list[list[Mapping[str, Any]]]:
        """The summaries of each, one for every seed; none for one that fails."""
        points = [[self._point(each, seed) for seed in range(self.replications)] for each in wanted]
        keys = [[self.contents.key(point.scenario) for point in group] for group in points]
        named = {key: point for ks, ps in zip(keys, points, strict=True) for key, point in zip(ks, ps, strict=True)}
        results, count = self.evaluation.results(named)
        self.computed += count
        found = [[results[key].get("summary") for key in group] for group in keys]
        return [[run for run in runs if run] if all(runs) else [] for runs in found]

    def _point(self, load: Load, seed: int) -> Point:
        scenario = self.scenario.model_copy(
            update={
                "model": load.candidate.model,
                "machines": (load.candidate.choice(load.replicas),),
                "limits": load.candidate.limits,
                "traffic": _faster(self.scenario.traffic, load.factor),
                "seed": self.scenario.seed + seed,
            }
        )
        return Point({}, seed, 0, scenario, self.file, self.folders, "")


def _faster(traffic: Traffic, factor: float) -> Traffic:
    if traffic.request_rate is not None:
        return traffic.model_copy(update={"request_rate": Known(float(traffic.request_rate) * factor, unit="/s")})
    return traffic.model_copy(update={"speed": Known(float(traffic.speed) * factor, unit="")})
