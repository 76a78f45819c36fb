"""The page of training runs: figures, where a step's time and a chip's memory go, failures, charts, foundations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from simulator.report.page import Page, Section, Table, table_of
from simulator.report.run_page import foundations, pictures_of
from simulator.report.training.charts import CHARTS, names
from simulator.report.training.result import TrainingReport
from simulator.report.training.tables import bill_lines

FIGURES = {
    "step_s": "step (s)",
    "tokens_per_s": "tokens/s",
    "tokens_per_s_per_chip": "tokens/s a chip",
    "mfu": "mfu",
    "hfu": "hfu",
    "bubble": "bubble (share)",
    "exposed_communication": "exposed communication (share)",
}
WHOLE = {
    "days": "days",
    "goodput": "goodput",
    "interruptions": "interruptions",
    "lost_work_s": "lost work (s)",
    "down_s": "down (s)",
    "checkpoint_s": "checkpoints (s)",
    "checkpoint_interval_s": "interval (s)",
    "chip_power_w": "W a chip",
    "energy_facility_mwh": "MWh",
    "cost_usd": "USD",
}
CAPTIONS = {
    "step": "Where the time of a step goes on the slowest stage",
    "pipeline": "A step of the first run with a pipeline; white is bubble; thin: weights and gradients under way",
    "scaling": "Throughput and mfu over chips; dashed: in proportion to them; ring: the step of a single run in events",
}
GB = 1e9


def training_page(report: TrainingReport, plots: Path) -> str:
    """The page as HTML, with the charts that were saved in the folder `plots`."""
    titles = names(report)
    sections = (
        Section("Results", notes=_conventions(report), table=_figures(report, titles)),
        pictures_of(plots, CHARTS, CAPTIONS),
        Section("Where a step goes", "Seconds of the slowest stage.", table=_parts(report, titles)),
        Section("Memory", "GB of the fullest chip, and what lies in the host's memory.", table=_memory(report, titles)),
        Section("The whole run", "Means over the drawn histories of failures.", table=_whole(report, titles)),
        *_other_layouts(report, titles),
        *_bill(report),
        *foundations(report, titles),
    )
    return Page(report.scenario, report.description, sections).html()


def _conventions(report: TrainingReport) -> tuple[str, ...]:
    said = dict.fromkeys(
        f"{name}: {run.summary[f'{name}_convention']}" for name in ("mfu", "hfu") for run in report.runs
    )
    return tuple(said)


def _figures(report: TrainingReport, titles: list[str]) -> Table:
    rows = [
        [run.summary["model"], title, run.summary["layout"], run.summary["stack"]]
        + [run.summary[key] for key in FIGURES]
        for title, run in zip(titles, report.runs, strict=True)
    ]
    return table_of(["model", "run", "layout", "stack", *FIGURES.values()], rows)


def _whole(report: TrainingReport, titles: list[str]) -> Table:
    rows = [[title, *(run.summary[key] for key in WHOLE)] for title, run in zip(titles, report.runs, strict=True)]
    return table_of(["run", *WHOLE.values()], rows)


def _parts(report: TrainingReport, titles: list[str]) -> Table:
    """A row for each part that some run has."""
    spent = [run.summary["step_by_part_s"] for run in report.runs]
    used = dict.fromkeys(name for parts in spent for name in parts)
    rows: list[list[object]] = [[name, *(parts.get(name, 0.0) for parts in spent)] for name in used]
    return table_of(["part", *titles], [*rows, ["in all", *(run.summary["step_s"] for run in report.runs)]])


def _memory(report: TrainingReport, titles: list[str]) -> Table:
    sheets = [run.sheet for run in report.runs]
    held = [sheet.held | {f"host: {name}": size for name, size in sheet.host.items()} for sheet in sheets]
    used = dict.fromkeys(name for sheet in held for name in sheet)
    rows: list[list[object]] = [[name, *(sheet.get(name, 0.0) / GB for sheet in held)] for name in used]
    rows += [
        ["in all on the chip", *(sheet.total / GB for sheet in sheets)],
        ["capacity of the chip", *(sheet.capacity / GB for sheet in sheets)],
    ]
    return table_of(["use", *titles], rows)


def _other_layouts(report: TrainingReport, titles: list[str]) -> Iterator[Section]:
    keys = ("layout", "micro_batch", "recompute", "step_s")
    rows = [
        [title, *(other[key] for key in keys), other["memory_bytes"] / GB]
        for title, run in zip(titles, report.runs, strict=True)
        for other in run.summary["runners_up"]
    ]
    if rows:
        tried = sum(run.summary["layouts_tried"] for run in report.runs)
        table = table_of(["run", "layout", "micro-batch", "recompute", "step (s)", "memory (GB)"], rows)
        yield Section("Runners-up", f"The next best of {tried:,} layouts that were looked at.", table=table)


def _bill(report: TrainingReport) -> Iterator[Section]:
    lines = bill_lines(report)
    if lines:
        yield Section("The bill by hand", code="\n".join(lines))
