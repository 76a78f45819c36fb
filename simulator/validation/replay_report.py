"""Replays for people: a table a run on the terminal, and a folder with document, table and distributions."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.errors import OutputError
from simulator.quantity import format_quantity
from simulator.report import canvas
from simulator.report.charts import save
from simulator.report.numerals import NOTHING, significant
from simulator.validation.replay import METRICS
from simulator.validation.replay_study import PREFIXES, STATISTICS, Outcome, Table, statistics
from simulator.validation.stack_numbers import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console, RenderableType

TITLES = {"queue": "Queue time", "ttft": "Time to first token", "tpot": "Time per output token", "e2el": "Latency"}


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Plain data, what --json prints."""
    return {"replays": [outcome.document() for outcome in outcomes]}


def print_replays(outcomes: Sequence[Outcome], width: int = 120, console: Console | None = None) -> None:
    """Print the distributions of each run, measured and simulated."""
    from rich.console import Console

    console = console or Console(width=width)
    for outcome in outcomes:
        for part in _parts(outcome):
            console.print(part, highlight=False)
        console.print()


def write_replays(outcomes: Sequence[Outcome], folder: str | Path) -> list[Path]:
    """Write replay.json, replay.txt and the plot into `folder`, made if need be. Raise OutputError."""
    from rich.console import Console

    place = Path(folder)
    text = io.StringIO()
    print_replays(outcomes, console=Console(file=text, width=120, color_system=None, emoji=False))
    plain = "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "replay.json").write_text(json.dumps(document(outcomes), indent=2, allow_nan=False) + "\n", "utf-8")
        (place / "replay.txt").write_text(plain, "utf-8")
        return [place / "replay.json", place / "replay.txt", *save(draw_replays(outcomes), place / "replay")]
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(f"cannot write to '{folder}': {why}; choose another folder with --out DIR") from error


def _parts(outcome: Outcome) -> list[RenderableType]:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    replay, machine = outcome.replay, outcome.replay.case.machine
    limits = replay.scenario.limits
    title = (
        f"{replay.case.architecture.name} on {machine.profile.name}, {machine.parallelism}, {replay.stack.name}: "
        f"{len(replay.case.requests):,} requests"
    )
    table = RichTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("")
    for name in STATISTICS:
        table.add_column(name, justify="right", no_wrap=True)
    theirs, ours = statistics(replay.measured), statistics(outcome.simulated)
    for metric in METRICS:
        table.add_row(metric, "measured ms", *_milliseconds(theirs, metric))
        table.add_row("", "simulated ms", *_milliseconds(ours, metric))
        table.add_row("", "error %", *_hundreds(outcome.errors, metric), style="bold")
        table.add_row("", "error %, fitted", *_hundreds(outcome.tested_half, metric), end_section=True)
    told = ", ".join(f"{metric} {significant(value, 2)} %" for metric, value in outcome.amplification.items())
    notes = [
        f"max_num_seqs {limits.max_num_seqs}, max_num_batched_tokens {limits.max_num_batched_tokens}, "
        f"memory_utilization {float(limits.memory_utilization):g}; assumed: {PREFIXES}",
        f"steps 1 % longer make the means longer by: {told}",
        "fitted to every other request, judged on the others: " + ", ".join(_changes(outcome)),
    ]
    return [table, *(Text(note) for note in notes)]


def _changes(outcome: Outcome) -> list[str]:
    found = []
    for path, value in outcome.numbers.items():
        before = number(outcome.replay.stack, path)
        text = [format_quantity(x, before.unit) if before.unit else significant(x) for x in (float(before), value)]
        found.append(f"{path} {text[0]} -> {text[1]}")
    return found


def _milliseconds(table: Table, metric: str) -> list[str]:
    return [significant(1e3 * table[metric][name]) for name in STATISTICS]


def _hundreds(table: Table, metric: str) -> list[str]:
    return [_hundred(table[metric][name]) for name in STATISTICS]


def _hundred(share: float) -> str:
    return f"{100 * share:+.1f}" if np.isfinite(share) else NOTHING


def draw_replays(outcomes: Sequence[Outcome]) -> Figure:
    """Cumulative distributions, a row of panels for each run: measured, simulated, and with the fitted numbers."""
    with canvas.style():
        fig = canvas.figure(0.5 + 1.9 * len(outcomes))
        grid = fig.subplots(len(outcomes), len(METRICS), sharey=True, squeeze=False)
        for axes, outcome in zip(grid, outcomes, strict=True):
            for ax, metric in zip(axes, METRICS, strict=True):
                _distributions(ax, outcome, metric)
            axes[0].set_ylabel("Requests (%)")
            axes[0].set_title(outcome.replay.name, loc="left", fontweight="bold")
        for ax, metric in zip(grid[-1], METRICS, strict=True):
            ax.set_xlabel(f"{TITLES[metric]} ({'ms' if metric == 'tpot' else 's'})")
        grid[0, -1].legend(loc="upper left", handlelength=1.6)
        return fig


def _distributions(ax: Axes, outcome: Outcome, metric: str) -> None:
    scale = 1e3 if metric == "tpot" else 1.0
    lines = (
        ("measured", outcome.replay.measured, canvas.INK, 0),
        ("simulated", outcome.simulated, canvas.MACHINES[0], 0),
        ("fitted to half", outcome.refitted, canvas.MACHINES[1], 1),
    )
    for label, latencies, color, dash in lines:
        values = np.sort(latencies[metric][np.isfinite(latencies[metric])]) * scale
        share = 100.0 * (np.arange(len(values)) + 0.5) / max(1, len(values))
        ax.plot(values, share, color=color, linestyle=canvas.DASHES[dash], linewidth=1.2, label=label)
    ax.set_ylim(0, 100)
    ax.set_xlim(left=0)
