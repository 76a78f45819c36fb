"""The page of a run: what was asked, a table and the charts, what the numbers rest on, how to get it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.quantity import LABELS
from simulator.report.charts import CHARTS
from simulator.report.names import run_names
from simulator.report.page import Page, Section, Table, picture, table_of, table_of_frame
from simulator.report.pool_page import pool_section
from simulator.report.result import Report, Runs
from simulator.report.tables import notes

CAPTIONS = {
    "throughput_latency": "Throughput and latency",
    "latency_cdf": "Latency of completed requests",
    "queue": "Requests waiting and running over time",
    "energy": "Energy per output token by component",
    "bound_by": "What bounds each machine",
    "bytes": "Bytes that the memories move for an output token: of which tensors, and in which tiers these lie",
    "roofline": "Roofline with the mean prefill and decode step",
}


def run_page(report: Report, plots: Path) -> str:
    """The page as HTML, with the charts that were saved in the folder `plots`."""
    sections = (
        Section("Results", notes=tuple(notes(report, 1000)), table=_results(report)),
        *pool_section(report),
        pictures_of(plots, CHARTS, CAPTIONS),
        *foundations(report, run_names(report)),
    )
    return Page(report.scenario, report.description, sections).html()


def pictures_of(plots: Path, names: Iterable[str], captions: Mapping[str, str]) -> Section:
    """The charts of these names that were saved in a folder."""
    files = [(plots / f"{name}.svg", captions.get(name, name)) for name in names]
    return Section("Charts", pictures=tuple(picture(file, caption) for file, caption in files if file.is_file()))


def foundations(report: Runs[Any], machines: Sequence[str]) -> tuple[Section, ...]:
    """What the numbers rest on, and how to get them again; `machines` names the runs."""
    rows = []
    for name, run in zip(machines, report.runs, strict=True):
        counts = run.summary["labels"]
        rows.append([run.summary["model"], name, *(counts.get(label, 0) for label in LABELS), run.summary["label"]])
    return (
        Section(
            "What the numbers rest on",
            "Numbers of the hardware profile and the software stack, by how they are known.",
            table=table_of(["model", "machine", *LABELS, "weakest"], rows),
        ),
        Section(
            "How to get it again",
            f"Seed {report.seed}. The same scenario and seed give the same bytes. Save as {report.scenario}.yaml:",
            code=report.text.rstrip(),
        ),
        Section("", code=f"ramwise run {report.scenario}.yaml --seed {report.seed}"),
    )


def _results(report: Report) -> Table:
    caption = "A saturated machine's queue grows without bound; its latencies are never steady and not shown."
    return table_of_frame(report.frame(), caption if any(run.saturated for run in report.runs) else "")
