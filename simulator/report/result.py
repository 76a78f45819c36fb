"""What a finished run hands to the reports: its summary (plain numbers) and its records (flat columns)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from simulator.engine.records import RunRecords


@dataclass(frozen=True)
class RunResult:
    """One model on one machine. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]
    records: RunRecords

    def number(self, key: str) -> float | None:
        """The summary's number under `key`; None where it is absent, null, NaN or infinite."""
        return finite(self.summary.get(key))

    @property
    def saturated(self) -> bool:
        """The queue grew without bound, so no latency of this run is a steady one."""
        return bool(self.summary["saturated"])

    @property
    def offered_rate(self) -> float | None:
        """Requests per second that arrived: (n - 1) / (last arrival - first arrival); None for a single instant."""
        arrival = self.records.requests.arrival_s
        span = float(arrival[-1] - arrival[0]) if len(arrival) > 1 else 0.0
        return (len(arrival) - 1) / span if span > 0 else None


class Summarised(Protocol):
    """A finished run of any task."""

    @property
    def summary(self) -> dict[str, Any]:
        """Its entry of "runs" in summary.json."""
        ...


AnyRun = TypeVar("AnyRun", bound=Summarised)


@dataclass(frozen=True)
class Runs(Generic[AnyRun]):
    """All the runs of one scenario, in the scenario's order; `text` is the YAML that was run."""

    scenario: str
    seed: int
    runs: tuple[AnyRun, ...]
    description: str = ""
    text: str = ""

    def document(self, complete: bool = True) -> dict[str, Any]:
        """The content of summary.json: plain Python, no NaN or infinity. `complete` is false after an interruption."""
        return {
            "scenario": self.scenario,
            "seed": int(self.seed),
            "version": version(),
            "complete": complete,
            "runs": [plain(run.summary) for run in self.runs],
        }

    def summary_json(self, complete: bool = True) -> str:
        """The text of summary.json, which is also what --json prints; floats as repr, so equal runs give equal
        bytes."""
        return json.dumps(self.document(complete), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Report(Runs[RunResult]):
    """The runs of a scenario of serving."""


def version() -> str:
    """The installed version of ramwise; "0+checkout" when the package runs without having been installed."""
    from importlib import metadata

    try:
        return metadata.version("ramwise")
    except metadata.PackageNotFoundError:
        return "0+checkout"


def finite(value: object) -> float | None:
    """`value` as a float, or None when it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    return float(value) if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """`value` as strict JSON data: NumPy and subclassed numbers become Python's own, NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return [plain(entry) for entry in value.tolist()]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return None if value is None else str(value)


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
