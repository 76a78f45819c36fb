"""The tables that a person reads on a terminal: one of all runs, and one in detail of a single run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.model.quality import DISTINGUISHABLE
from simulator.report.names import run_names
from simulator.report.numerals import NOTHING, percent, saturation, significant
from simulator.report.plain import finite
from simulator.report.pools import pool_facts

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from simulator.report.result import Report, RunResult

WIDE = 110  # columns of a terminal from which the extra columns fit


def overview(report: Report, width: int) -> Group:
    """A row for each run, the runs of a model together, and notes below; `width` in columns of the terminal."""
    from rich.console import Group
    from rich.text import Text

    return Group(_table(report, wide=width >= WIDE), *(Text(note) for note in notes(report, width)))


def plain_text(report: Report, width: int = 120) -> str:
    """The same, without colour: the content of summary.txt. One run is followed by its details."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, emoji=False)
    console.print(f"{report.scenario}, seed {report.seed}", highlight=False, markup=False)
    console.print(overview(report, width))
    if len(report.runs) == 1:
        console.print(details(report.runs[0]))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in str(written).splitlines()) + "\n"


def details(run: RunResult) -> Table:
    """Everything known about one run, in two columns. A saturated run shows no latencies: they are not steady."""
    from rich.table import Table

    table = Table(title=f"{run.summary['model']} on {run.summary['machine']}", title_justify="left", box=None)
    table.add_column("", no_wrap=True, style="dim")
    table.add_column("", overflow="fold")
    table.show_header = False
    for name, value in facts(run):
        table.add_row(name, value)
    return table


def notes(report: Report, width: int) -> list[str]:
    """What the table must say but has no column for: the labels on a narrow terminal, and each run's warnings."""
    lines = []
    if width < WIDE:
        labels: dict[str, list[str]] = {}
        for run in report.runs:
            machines = labels.setdefault(str(run.summary["label"]), [])
            if str(run.summary["machine"]) not in machines:
                machines.append(str(run.summary["machine"]))
        lines += [f"rests on {label} numbers: {', '.join(machines)}" for label, machines in labels.items()]
    warned: dict[str, list[str]] = {}
    for name, run in zip(run_names(report), report.runs, strict=True):
        for warning in run.summary.get("warnings") or ():
            warned.setdefault(str(warning), []).append(f"{name} with {run.summary['model']}")
    lines += [f"warning: {', '.join(names)}: {warning}" for warning, names in warned.items()]
    return lines + unequal_quality(report)


def unequal_quality(report: Report) -> list[str]:
    """One line where the models of a report are not expected to be equally good: their predicted losses."""
    losses: dict[str, tuple[float | None, float | None]] = {}
    for run in report.runs:
        if found := run.summary.get("quality"):
            losses[str(run.summary["model"])] = found["predicted_loss_nats"], found["predicted_loss_sigma_nats"]
    known = [loss for loss, _ in losses.values() if loss is not None]
    if len(losses) < 2 or (len(known) == len(losses) and max(known) - min(known) <= DISTINGUISHABLE):
        return []
    words = [f"{m} {'unknown' if loss is None else f'{loss:.3f} ± {sigma:.2f}'}" for m, (loss, sigma) in losses.items()]
    return [f"unequal quality: predicted loss of {', '.join(words)} nats a token"]


def _table(report: Report, wide: bool) -> Table:
    from rich import box
    from rich.table import Table

    names = min(20 if wide else 14, max([len(str(run.summary["model"])) for run in report.runs] or [0]))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), show_edge=False)
    table.add_column("machine\nstack", overflow="fold", min_width=names)  # the one that may wrap
    headers = [("requests", "req/s"), ("output", "tok/s")], [("energy", "J/tok"), ("power", "kW")]
    before, after = ([f"{name if wide else ''}\n{unit}" for name, unit in group] for group in headers)
    if wide:
        after += ["cost\n$/Mtok", "busy\n%"]
    for header in before:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("latency\np50 / p99, ms", no_wrap=True)
    for header in after:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("bound by\n% of time", no_wrap=True)
    if wide:
        table.add_column("layout\nlabel", no_wrap=True)
    _fill(table, report, wide)
    return table


def _fill(table: Table, report: Report, wide: bool) -> None:
    from rich.text import Text

    names = run_names(report, shown=("stack", "layout", "replicas") if wide else ("stack",))
    models = list(dict.fromkeys(str(run.summary["model"]) for run in report.runs))
    for model in models:
        table.add_row(Text(model, style="bold"))
        for name, run in zip(names, report.runs, strict=True):
            if str(run.summary["model"]) != model:
                continue
            power = run.number("average_power_w")
            cells: list[Any] = [
                Text.assemble(f" {name}\n", (f" {run.summary['stack']}", "dim")),
                significant(run.number("request_throughput")),
                significant(run.number("output_throughput")),
                _latency(run),
                significant(run.number("energy_per_output_token_j")),
                significant(None if power is None else power / 1e3),
            ]
            if wide:
                cells.append(significant(run.number("cost_per_mtok_usd")))
                cells.append(_hundred(run.number("utilisation")))
            cells.append("\n".join(f"{part} {percent(share)}" for part, share in _largest(run.summary["bound_by"], 2)))
            if wide:
                cells.append(f"{run.summary['layout']} x{run.summary['replicas']}\n{run.summary['label']}")
            table.add_row(*cells)
        if model != models[-1]:
            table.add_section()


def _latency(run: RunResult) -> Any:
    """Two lines, TTFT and TPOT; for a saturated machine the rate that it could hold instead."""
    from rich.text import Text

    if run.saturated:
        phrase = saturation(run.number("sustainable_rate"), run.offered_rate)
        return Text(phrase.replace(": holds ", ": holds\n"), style="bold red")
    lines = []
    for name in ("ttft", "tpot"):
        middle, tail = (significant(run.number(f"{name}_{rank}_ms")) for rank in ("p50", "p99"))
        lines.append(f"{name.upper()} {middle:>6} / {tail}")
    return Text("\n".join(lines))


def facts(run: RunResult) -> list[tuple[str, str]]:
    """Everything known about one run: name and value in words with units."""
    summary = run.summary
    number = run.number

    def value(key: str, unit: str) -> str:
        return f"{significant(number(key))} {unit}".strip()

    found: list[tuple[str, Any]] = [
        (
            "hardware",
            f"{summary['hardware']} ({summary['family']}), {summary['chips']} chips, "
            f"{summary['replicas']} x {summary['layout']}",
        ),
        *pool_facts(summary),
        ("stack", f"{summary['stack']}, {_words(summary['precision'])}"),
        ("label", f"{summary['label']} (the weakest that the result rests on)"),
        (
            "requests",
            f"{_count(number('requests_completed'))} of {_count(number('requests'))} completed "
            f"in {value('makespan_s', 's')}",
        ),
        ("request_throughput", value("request_throughput", "req/s")),
        ("output_throughput", value("output_throughput", "tok/s")),
        ("total_token_throughput", value("total_token_throughput", "tok/s")),
    ]
    if summary.get("slo"):
        found.append(
            (
                "request_goodput",
                f"{value('request_goodput', 'req/s')}; {percent(number('slo_attainment'))} "
                f"of requests meet {_words(summary['slo'])}",
            )
        )
    if run.saturated:
        phrase = saturation(number("sustainable_rate"), run.offered_rate)
        found.append(("latency", f"{phrase}; its latencies grow with the length of the run and mean nothing"))
    else:
        for name in ("ttft", "tpot", "itl", "e2el"):
            ranks = (f"{rank} {significant(number(f'{name}_{rank}_ms'))}" for rank in ("mean", "p50", "p90", "p99"))
            found.append((f"{name} (ms)", ", ".join(ranks)))
        found += _steady(summary.get("steady"))
    found += [
        ("mfu, mbu", f"{percent(number('mfu'))}, {percent(number('mbu'))}"),
        ("busy", percent(number("utilisation"))),
        ("queue", f"mean {significant(number('queue_mean'))}, max {_count(number('queue_max'))} requests"),
        ("running", f"mean {significant(number('running_mean'))} requests"),
        ("KV cache used", f"mean {percent(number('kv_occupancy_mean'))}, max {percent(number('kv_occupancy_max'))}"),
        ("preemptions", _count(number("preemptions"))),
        ("average power", f"{significant(_thousandth(number('average_power_w')))} kW"),
        (
            "energy",
            f"{value('energy_per_output_token_j', 'J per output token')} ({_shares(summary['energy_by_component_j'])})",
        ),
        ("energy by phase", _shares(summary["energy_by_phase_j"])),
        ("bound by", _shares(summary["bound_by"])),
    ]
    return found + [("warning", str(warning)) for warning in summary.get("warnings") or ()]


def _steady(steady: Any) -> list[tuple[str, Any]]:
    """The steady-state means with their 95 % intervals; nothing when the run was too short for them."""
    if not isinstance(steady, Mapping):
        return []
    found: list[tuple[str, Any]] = []
    for name in ("ttft", "tpot", "e2el"):
        mean, half = finite(steady.get(f"{name}_mean_ms")), finite(steady.get(f"{name}_mean_ci95_ms"))
        if mean is not None:
            spread = f" ± {significant(half)}" if half is not None else ""
            found.append((f"steady {name} (ms)", f"mean {significant(mean)}{spread} (95 %)"))
    return found


def _largest(shares: Mapping[str, Any] | None, count: int) -> list[tuple[str, float]]:
    known = [(name, share) for name, share in ((n, finite(s)) for n, s in (shares or {}).items()) if share]
    return sorted(known, key=lambda part: -part[1])[:count]


def _shares(parts: Mapping[str, Any] | None) -> str:
    ordered = _largest(parts, len(parts or {}))
    total = sum(amount for _, amount in ordered)
    return ", ".join(f"{name} {percent(amount / total)}" for name, amount in ordered) if total > 0 else NOTHING


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {entry}" for key, entry in value.items() if entry is not None)
    return str(value)


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _hundred(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f}"


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1e3
