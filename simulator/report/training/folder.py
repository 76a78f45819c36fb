"""The folder that training runs leave."""

from __future__ import annotations

import json
from pathlib import Path

from simulator.report.folder import SUMMARY, put
from simulator.report.training import charts, tables, timeline
from simulator.report.training.result import TrainingReport


def write(report: TrainingReport, out: str | Path, plots: bool = True, complete: bool = True) -> Path:
    """Write summary.json, summary.txt, timeline.json.gz and plots/ into the folder `out`. Raise OutputError."""

    def fill(folder: Path) -> None:
        (folder / "summary.txt").write_text(tables.plain_text(report), encoding="utf-8")
        (folder / "timeline.json.gz").write_bytes(timeline.compressed(report))
        if plots:
            (folder / "plots").mkdir()
            charts.save_all(report, folder / "plots")
        (folder / SUMMARY).write_text(summary_json(report, complete), encoding="utf-8")

    return put(fill, out, complete)


def summary_json(report: TrainingReport, complete: bool = True) -> str:
    """The text of summary.json, which is also what --json prints."""
    return json.dumps(report.document(complete), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
