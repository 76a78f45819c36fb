"""What a finished run of a recommender, a solver or a decoding model hands to the reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.report.result import plain, version


@dataclass(frozen=True)
class SampleRun:
    """One model on one machine. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class SampleReport:
    """All the runs of one scenario."""

    scenario: str
    seed: int
    runs: tuple[SampleRun, ...]
    description: str = ""

    def document(self, complete: bool = True) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "scenario": self.scenario,
            "seed": int(self.seed),
            "version": version(),
            "complete": complete,
            "runs": [plain(run.summary) for run in self.runs],
        }
