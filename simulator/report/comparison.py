"""Machines side by side: a column each, a row a metric, with the ratio to the best machine of the row."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from simulator.report.names import run_names
from simulator.report.numerals import NOTHING, percent, significant
from simulator.report.plain import finite
from simulator.report.tables import WIDE, notes

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from simulator.report.result import Report, RunResult

GAP = 2  # blanks between two columns, one on a narrow terminal
NARROWEST = 10  # columns for a machine: its label ("calibrated") and its ratios stay whole
NARROW_NAMES = 13  # columns for the names of metrics where they take two lines
BOUNDS = 3  # parts that are named of what bounds a machine


@dataclass(frozen=True)
class Metric:
    """A row: its name with the unit, a number of the summary times `scale`, and whether more or less of it is better.
    Latencies of a saturated machine are no numbers."""

    name: str
    key: str
    scale: float = 1.0
    better: Literal["more", "less"] | None = None
    latency: bool = False
    slo: bool = False

    def value(self, run: RunResult) -> float | None:
        """The number as shown; None where the run has none."""
        number = run.number(self.key)
        return None if number is None or (self.latency and run.saturated) else number * self.scale


METRICS = (
    Metric("requests (req/s)", "request_throughput", better="more"),
    Metric("output (tok/s)", "output_throughput", better="more"),
    *(
        Metric(f"{name.upper()} {rank} (ms)", f"{name}_{rank}_ms", better="less", latency=True)
        for name in ("ttft", "tpot", "e2el")
        for rank in ("p50", "p99")
    ),
    Metric("goodput (req/s)", "request_goodput", better="more", slo=True),
    Metric("SLO met (%)", "slo_attainment", 100.0, better="more", slo=True),
    Metric("energy (J per output token)", "energy_per_output_token_j", better="less"),
    Metric("average power (kW)", "average_power_w", 1e-3),
    Metric("MFU (%)", "mfu", 100.0),
    Metric("MBU (%)", "mbu", 100.0),
    Metric("busy (%)", "utilisation", 100.0),
    Metric("KV cache, most (%)", "kv_occupancy_max", 100.0),
    Metric("preemptions", "preemptions"),
)
HOLDS = Metric("can hold (req/s)", "sustainable_rate")


@dataclass(frozen=True)
class Cell:
    """What a machine has in a row, a number or words; `ratio` is its value over the best machine's."""

    value: str
    ratio: str = ""
    best: bool = False
    style: str = ""
    number: bool = False


@dataclass(frozen=True)
class Row:
    name: str
    cells: tuple[Cell, ...]


def side_by_side(report: Report, width: int) -> Group:
    """For each model a table of at most `width` columns with its machines side by side; more machines than fit make
    further tables below. The best of a row, and what equals it in three digits, is bold; a saturated machine shows the
    rate that it can hold in place of latencies, and wins none of them."""
    from rich.console import Group
    from rich.text import Text

    names = run_names(report, shown=("stack", "layout"))
    parts: list[Any] = []
    for model in dict.fromkeys(str(run.summary["model"]) for run in report.runs):
        places = [index for index, run in enumerate(report.runs) if str(run.summary["model"]) == model]
        runs = [report.runs[index] for index in places]
        rows = _rows(runs)
        parts += [Text(line) for line in ([""] if parts else [])]
        parts.append(Text(model, style="bold"))
        for number, table in enumerate(_tables([names[index] for index in places], rows, width)):
            parts += [*([Text("")] if number else []), table]
    if len(report.runs) > 1:
        parts.append(Text("[×n]: the value over the best machine's; bold: the best."))
    return Group(*parts, *(Text(note) for note in notes(report, max(width, WIDE))))


def comparison_frame(report: Report) -> DataFrame:
    """The numbers of that table: a row for each metric with its unit, a column for each model and machine."""
    from pandas import DataFrame, MultiIndex

    names = [(str(r.summary["model"]), n) for r, n in zip(report.runs, run_names(report), strict=True)]
    shown = [m for m in METRICS if not m.slo or any(run.summary.get("slo") for run in report.runs)]
    columns = MultiIndex.from_tuples(names, names=["model", "machine"])
    values = [[metric.value(run) for run in report.runs] for metric in shown]
    return DataFrame(values, index=[metric.name for metric in shown], columns=columns, dtype=float)


def _rows(runs: list[RunResult]) -> list[Row]:
    """The rows of one model: how each machine is set up, the metrics, and what bounds it."""
    rows = [
        Row("stack", tuple(Cell(str(run.summary["stack"]), style="dim") for run in runs)),
        Row("layout", tuple(Cell(f"{run.summary['layout']} x{run.summary['replicas']}", style="dim") for run in runs)),
        Row("rests on", tuple(Cell(f"{run.summary['label']}", style="dim") for run in runs)),
    ]
    for metric in METRICS:
        if metric.slo and not any(run.summary.get("slo") for run in runs):
            continue
        rows.append(_row(metric, runs))
        if metric is METRICS[0] and any(run.saturated for run in runs):
            rows.append(_holds(runs))
    rows.append(Row("bound by (% of busy time)", tuple(Cell(_bounds(run)) for run in runs)))
    return rows


def _row(metric: Metric, runs: list[RunResult]) -> Row:
    values = [metric.value(run) for run in runs]
    known = [value for value in values if value is not None]
    best = None
    if metric.better and known:
        best = max(known) if metric.better == "more" else min(known)
    cells = []
    for run, value in zip(runs, values, strict=True):
        if value is None and metric.latency and run.saturated:
            cells.append(Cell("saturated", style="red"))
        elif value is None or best is None or len(runs) == 1:
            cells.append(Cell(_number(metric, value), number=True))
        elif best == 0:  # nothing is a multiple of zero
            cells.append(Cell(_number(metric, value), best=value == 0 and metric.better == "less", number=True))
        else:
            ratio = significant(value / best)
            cells.append(Cell(_number(metric, value), f"[×{ratio}]", best=ratio == significant(1.0), number=True))
    return Row(metric.name, tuple(cells))


def _holds(runs: list[RunResult]) -> Row:
    """What a saturated machine could hold; the others hold at least what they were offered."""
    cells = (
        Cell(significant(HOLDS.value(run)), style="bold red", number=True)
        if run.saturated
        else Cell("keeps up", style="dim")
        for run in runs
    )
    return Row(HOLDS.name, tuple(cells))


def _number(metric: Metric, value: float | None) -> str:
    if metric.key == "preemptions":
        return NOTHING if value is None else f"{value:,.0f}"
    return significant(value)


def _bounds(run: RunResult) -> str:
    shares = {name: finite(share) for name, share in (run.summary.get("bound_by") or {}).items()}
    largest = sorted(((share, name) for name, share in shares.items() if share), reverse=True)[:BOUNDS]
    return "\n".join(f"{name} {percent(share).removesuffix(' %')}" for share, name in largest) or NOTHING


def _tables(names: list[str], rows: list[Row], width: int) -> list[Table]:
    """Value and ratio in one line where every machine has room for it, else in two lines, as many machines as fit."""
    numbers = [cell for row in rows for cell in row.cells if cell.number]
    value = max((len(cell.value) for cell in numbers), default=0)
    ratio = max((len(cell.ratio) for cell in numbers), default=0)
    first, column = max(len(row.name) for row in rows), max(NARROWEST, value + 1 + ratio)
    if first + len(names) * (GAP + column) <= width:
        column = min((width - first) // len(names) - GAP, max(column, *map(len, names)))
        return [_table(names, rows, range(len(names)), first, column, value)]
    first, gap = NARROW_NAMES, 1
    column = max(NARROWEST, value, ratio)
    tables = ceil(len(names) / max(1, (width - first) // (gap + column)))
    each = ceil(len(names) / tables)
    column = max(column, min((width - first) // each - gap, max(map(len, names))))
    places = [range(start, min(start + each, len(names))) for start in range(0, len(names), each)]
    return [_table(names, rows, block, first, column, None) for block in places]


def _table(names: list[str], rows: list[Row], block: range, first: int, column: int, value: int | None) -> Table:
    """The machines of `block`; numbers are `value` wide with their ratio beside them, or None for a line each."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    padding = (0, GAP - 1 if value is not None else 0, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    table.add_column("", width=first)
    for index in block:
        table.add_column(_wrapped(names[index], column), width=column, overflow="fold")
    for row in rows:
        cells = (_text(row.cells[index], column, value) for index in block)
        table.add_row(Text(_wrapped(row.name, first), style="dim" if row.cells[0].style == "dim" else ""), *cells)
    return table


def _text(cell: Cell, column: int, value: int | None) -> Text:
    from rich.text import Text

    style = "bold" if cell.best else cell.style
    if not cell.number:
        return Text(_wrapped(cell.value, column), style=style)
    found = Text(cell.value.rjust(value or 0), style=style)
    if cell.ratio:
        found.append("\n" if value is None else " ")
        found.append(cell.ratio, style="bold" if cell.best else "dim")
    return found


def _wrapped(text: str, width: int) -> str:
    """Lines of at most `width`, broken at blanks and hyphens where there are any."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""])
