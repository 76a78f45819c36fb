"""What a finished run of a recommender, a solver or a decoding model hands to the reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.report.result import Runs


@dataclass(frozen=True)
class SampleRun:
    """One model on one machine. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class SampleReport(Runs[SampleRun]):
    """The runs of a scenario of samples."""
