"""The folder that training runs leave."""

from __future__ import annotations

from pathlib import Path

from simulator.report.folder import Drawn, write_runs
from simulator.report.training import charts, tables, timeline
from simulator.report.training.page import training_page
from simulator.report.training.result import TrainingReport


def write(report: TrainingReport, out: str | Path, plots: bool = True, complete: bool = True) -> Path:
    """Write summary.json, summary.txt, timeline.json.gz, plots/ and report.html into `out`. Raise OutputError."""

    def more(folder: Path) -> None:
        (folder / "timeline.json.gz").write_bytes(timeline.compressed(report))

    drawn = Drawn(lambda folder: charts.save_all(report, folder), lambda folder: training_page(report, folder))
    return write_runs(report, out, tables.plain_text, drawn if plots else None, complete, more)
