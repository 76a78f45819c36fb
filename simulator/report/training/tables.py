"""The tables of training runs for a terminal: all runs, one in detail with its memory sheet, and the bill by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.report.numerals import NOTHING, percent, significant
from simulator.report.tables import WIDE
from simulator.report.training.result import TrainingReport, TrainingRun, bill

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

SHOWN = 8  # parts of a step that are listed


def overview(report: TrainingReport, width: int) -> Group:
    """A row for each run; details of a single one; the bill by hand below."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_table(report, wide=width >= WIDE)]
    if len(report.runs) == 1:
        parts.append(_details(report.runs[0]))
    parts += [Text(line) for line in bill_lines(report)]
    return Group(*parts)


def plain_text(report: TrainingReport, width: int = 120) -> str:
    """The same, without colour: the content of summary.txt."""
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, force_terminal=False, emoji=False)
    console.print(f"{report.scenario}, seed {report.seed}", highlight=False, markup=False)
    console.print(overview(report, width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def bill_lines(report: TrainingReport) -> list[str]:
    """The arithmetic of the bill by hand, beside what was simulated."""
    if report.bill is None:
        return []
    stated, found = report.bill, bill(report.bill)
    machines, days = int(stated["machines"]), float(stated["duration"]) / 86_400.0
    share = float(stated["duration"]) / float(stated["life"])
    lines = [
        f"by hand ({stated['source']}):",
        f"  {machines} machines x {float(stated['price']):,.0f} USD x {days:g} days / "
        f"{float(stated['life']) / 86_400.0:g} days ({share:.4g}) = {found['bought_usd']:,.0f} USD",
        f"  {machines} machines x {float(stated['power']) / 1e3:g} kW x {days * 24:g} h x "
        f"{float(stated['electricity']) * 3.6e6:g} USD/kWh = {found['energy_usd']:,.0f} USD",
        f"  {found['bought_usd']:,.0f} + {found['energy_usd']:,.0f} = {found['cost_usd']:,.0f} USD for {days:g} days",
    ]
    for run in report.runs:
        s = run.summary
        cost = NOTHING if s["cost_usd"] is None else f"{s['cost_usd']:,.0f} USD"
        lines.append(
            f"  simulated, {s['machine']}: {s['days']:.3g} days, {s['energy_facility_mwh']:,.0f} MWh, {cost} "
            f"({s['node_power_w'] / 1e3:.3g} kW a node)"
        )
    return lines


def _table(report: TrainingReport, wide: bool) -> Table:
    """A row for each run, two figures a column; a narrow terminal leaves out what the details of a run repeat."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("model on machine\nchips, layout, stack", overflow="fold")  # the one that may wrap
    rows = [_figures(run.summary) for run in report.runs]
    shown = [name for name in rows[0] if wide or name not in ONLY_WIDE] if rows else []
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for run, figures in zip(report.runs, rows, strict=True):
        s = run.summary
        title = Text.assemble(
            f"{s['model']} on {s['machine']}\n{s['chips']:,}: {s['layout']}\n", (f"{s['stack']} ({s['label']})", "dim")
        )
        table.add_row(title, *(figures[name] for name in shown))
    return table


ONLY_WIDE = ("bubble\nexposed, %", "memory\n%")


def _figures(s: Mapping[str, Any]) -> dict[str, str]:
    """Column -> its two figures of a run."""
    return {
        "step, s\ndays": f"{significant(s['step_s'])}\n{significant(s['days'])}",
        "tokens/s\na chip": f"{significant(s['tokens_per_s'])}\n{significant(s['tokens_per_s_per_chip'])}",
        "mfu\nhfu, %": f"{100 * s['mfu']:.1f}\n{100 * s['hfu']:.1f}",
        "bubble\nexposed, %": f"{100 * s['bubble']:.1f}\n{100 * s['exposed_communication']:.1f}",
        "memory\n%": percent(s["memory_bytes"] / s["memory_capacity_bytes"]),
        "goodput\n%": f"{100 * s['goodput']:.1f}",
        "MWh\nUSD": f"{significant(s['energy_facility_mwh'])}\n{significant(s['cost_usd'])}",
    }


def _details(run: TrainingRun) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column("", no_wrap=True, style="dim")
    table.add_column("", overflow="fold")
    for name, value in _facts(run):
        table.add_row(name, value)
    return table


def _facts(run: TrainingRun) -> list[tuple[str, str]]:
    s = run.summary
    parts = sorted(s["step_by_part_s"].items(), key=lambda item: -item[1])
    facts = [
        ("batch", f"{s['global_batch']:,} x {s['sequence_length']:,} tokens, micro-batches of {s['micro_batch']:g}"),
        ("schedule", f"{s['schedule']}, recompute {s['recompute']}, {s['micro_batches']:g} micro-batches"),
        ("step", ", ".join(f"{name} {significant(seconds)} s" for name, seconds in parts[:SHOWN])),
        ("mfu", s["mfu_convention"]),
        ("hfu", s["hfu_convention"]),
        ("power", f"{s['chip_power_w']:,.0f} W a chip, {s['node_power_w'] / 1e3:.3g} kW a node"),
        ("run", f"{s['steps']:,} steps, {significant(s['tokens'])} tokens, {significant(s['chip_hours'])} chip-hours"),
    ]
    if s["optimal_interval_s"] is not None:
        low, high = s["goodput_p5_p95"]
        every = significant(s["checkpoint_interval_s"])
        facts.append(
            (
                "failures",
                f"{s['interruptions']:.0f} interruptions; goodput {100 * s['goodput']:.1f} % "
                f"({100 * low:.1f} to {100 * high:.1f}); a checkpoint every {every} s "
                f"(optimal {significant(s['optimal_interval_s'])} s), {significant(s['checkpoint_bytes'] / 1e12)} TB",
            )
        )
    facts += [
        (
            "runner-up" if number == 0 else "",
            f"{other['layout']}, micro-batch {other['micro_batch']:g}, recompute {other['recompute']}: "
            f"{significant(other['step_s'])} s, {significant(other['memory_bytes'] / 1e9)} GB",
        )
        for number, other in enumerate(s["runners_up"])
    ]
    return [*facts, ("memory", run.sheet.text())]
