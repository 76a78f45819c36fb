"""What runs of recommenders, solvers and decoding models leave: a table and a folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.report.folder import Drawn, write_runs
from simulator.report.numerals import percent, significant
from simulator.report.sample_charts import save_all
from simulator.report.sample_page import sample_page
from simulator.report.sample_result import SampleReport

if TYPE_CHECKING:
    from rich.console import Group


def overview(report: SampleReport, width: int) -> Group:
    """A row for each run, models together, and notes below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    queries = any(run.summary["query_p50_ms"] is not None or run.summary["saturated"] for run in report.runs)
    longest = max([len(str(run.summary["model"])) for run in report.runs] or [0])
    table.add_column("\nmodel", overflow="fold", min_width=min(14, longest))  # these two may wrap, numbers not
    table.add_column("\nmachine", overflow="fold")
    for name in ("\nper second", *(("query p50\n/ p99, ms",) if queries else ()), "\nJ each", "\nkW"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by\n% of time", no_wrap=True)
    for run in report.runs:
        s = run.summary
        latency = (
            "-"
            if s["query_p50_ms"] is None
            else f"{significant(s['query_p50_ms'])}\n/ {significant(s['query_p99_ms'])}"
        )
        table.add_row(
            f"{s['model']}\nbatch {s['batch']}" if s["batch"] else str(s["model"]),
            str(s["machine"]),
            f"{significant(s['samples_per_s'])}\n{s['unit']}s",
            *(("saturated" if s["saturated"] else latency,) if queries else ()),
            significant(s["energy_per_sample_j"]),
            significant(s["average_power_w"] and s["average_power_w"] / 1e3),
            "\n".join(f"{name} {percent(share)}" for name, share in _largest(s["bound_by"], 2)),
        )
    warned = dict.fromkeys(str(w) for run in report.runs for w in run.summary["warnings"])
    return Group(table, *(Text(f"note: {warning}", style="dim") for warning in warned))


def plain_text(report: SampleReport, width: int = 140) -> str:
    """The table as text."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(overview(report, width))
    return text.getvalue()


def _largest(shares: dict[str, float] | None, count: int) -> list[tuple[str, float]]:
    return sorted((shares or {}).items(), key=lambda item: -item[1])[:count]


def write(report: SampleReport, out: str | Path, plots: bool = True, complete: bool = True) -> Path:
    """Write summary.json, summary.txt, plots/ and report.html into the folder `out`. Raise OutputError."""
    drawn = Drawn(lambda folder: save_all(report, folder), lambda folder: sample_page(report, folder))
    return write_runs(report, out, plain_text, drawn if plots else None, complete)
