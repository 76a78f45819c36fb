"""What runs are called in tables and charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.report.result import Report, RunResult

TRAITS = ("layout", "stack", "precision", "replicas")
"""What may tell apart two runs of one model on one machine."""


def run_names(report: Report, shown: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A short name for each run, unique within its model: the machine, and what else tells two runs of it apart.
    Traits in `shown` are left out, because the reader sees them anyway."""
    names = []
    for run in report.runs:
        twins = [other for other in report.runs if _place(other) == _place(run)]
        differ = [key for key in TRAITS if len({str(twin.summary.get(key)) for twin in twins}) > 1]
        extra = [str(run.summary.get(key)) for key in differ if key not in shown]
        alike = [twin for twin in twins if all(twin.summary.get(key) == run.summary.get(key) for key in differ)]
        if len(alike) > 1:
            extra.append(f"#{1 + next(index for index, twin in enumerate(alike) if twin is run)}")
        names.append(" ".join([str(run.summary["machine"]), *extra]))
    return tuple(names)


def _place(run: RunResult) -> tuple[str, str]:
    return str(run.summary["machine"]), str(run.summary["model"])
