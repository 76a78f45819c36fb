"""The page of samples: what each machine does a second and a joule, charts, and what the numbers rest on."""

from __future__ import annotations

from pathlib import Path

from simulator.report.page import Page, Section, Table, table_of
from simulator.report.run_page import foundations, pictures_of
from simulator.report.sample_result import SampleReport

COLUMNS = {
    "samples_per_s": "per second",
    "query_p50_ms": "query p50 (ms)",
    "query_p99_ms": "query p99 (ms)",
    "step_ms": "step (ms)",
    "energy_per_sample_j": "J each",
    "average_power_w": "average power (W)",
    "utilisation": "busy (share)",
}
CAPTIONS = {
    "batches": "Throughput, energy and step time over the batch",
    "samples": "Throughput, energy and what binds each machine",
}


def sample_page(report: SampleReport, plots: Path) -> str:
    """The page as HTML, with the charts that were saved in the folder `plots`."""
    warned = dict.fromkeys(str(warning) for run in report.runs for warning in run.summary["warnings"])
    sections = (
        Section("Results", notes=tuple(warned), table=_results(report)),
        pictures_of(plots, CAPTIONS, CAPTIONS),
        *foundations(report, [str(run.summary["machine"]) for run in report.runs]),
    )
    return Page(report.scenario, report.description, sections).html()


def _results(report: SampleReport) -> Table:
    used = [key for key in COLUMNS if any(run.summary[key] is not None for run in report.runs)]
    rows = []
    for run in report.runs:
        s = run.summary
        bound = max((s["bound_by"] or {"": 0.0}).items(), key=lambda item: item[1])[0]
        waits = "saturated" if s["saturated"] else bound
        rows.append([s["model"], s["batch"], s["machine"], s["stack"], s["unit"], *(s[key] for key in used), waits])
    names = ["model", "batch", "machine", "stack", "counted in", *(COLUMNS[key] for key in used), "bound by"]
    return table_of(names, rows)
