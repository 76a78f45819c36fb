"""What a finished run of a recommender, a solver or a decoding model hands to the reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from simulator.report.notebook import Charts, frame_of
from simulator.report.result import Runs

if TYPE_CHECKING:
    from pandas import DataFrame

FIGURES = (
    "samples_per_s",
    "samples_per_joule",
    "energy_per_sample_j",
    "average_power_w",
    "query_p50_ms",
    "query_p99_ms",
)
"""What a notebook shows of each run."""


@dataclass(frozen=True)
class SampleRun:
    """One model on one machine. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class SampleReport(Runs[SampleRun]):
    """The runs of a scenario of samples."""

    def frame(self) -> DataFrame:
        """Throughput, energy and latency of each run; `unit` says what a sample is."""
        return frame_of([run.summary for run in self.runs], ("model", "machine", "batch", "unit", *FIGURES))

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        from simulator.report.sample_charts import charts_of

        return {name: partial(draw, runs) for name, (draw, runs) in charts_of(self).items()}
