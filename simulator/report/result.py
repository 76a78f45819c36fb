"""What a finished run hands to the reports: its summary (plain numbers) and its records (flat columns)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from simulator.report.notebook import Charts, Shown, flat, frame_of, html
from simulator.report.plain import finite, plain

if TYPE_CHECKING:
    from pandas import DataFrame

    from simulator.engine.records import RunRecords

FIGURES = (
    "request_throughput",
    "output_throughput",
    "ttft_p50_ms",
    "ttft_p99_ms",
    "tpot_p50_ms",
    "tpot_p99_ms",
    "energy_per_output_token_j",
    "average_power_w",
    "cost_per_mtok_usd",
    "utilisation",
)
"""What a page and a notebook show of each run."""

LATENCIES = ("ttft", "tpot", "itl", "e2el")


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

    @property
    def requests(self) -> DataFrame:
        """A row for each request: when it came, was scheduled, its latencies and tokens; columns as in
        requests.parquet."""
        from simulator.report.requests import requests_table

        return requests_table(self).to_pandas()

    def _repr_html_(self) -> str:
        from pandas import DataFrame

        from simulator.report.tables import facts

        title = f"{self.summary['model']} on {self.summary['machine']}"
        return html(DataFrame(facts(self), columns=[title, ""]))


class Summarised(Protocol):
    """A finished run of any task."""

    @property
    def summary(self) -> dict[str, Any]:
        """Its entry of "runs" in summary.json."""
        ...


AnyRun = TypeVar("AnyRun", bound=Summarised)


@dataclass(frozen=True)
class Runs(Shown, Generic[AnyRun]):
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

    @property
    def table(self) -> DataFrame:
        """A row for each run: every number and word of its summary under its key."""
        return flat([run.summary for run in self.runs])


@dataclass(frozen=True)
class Report(Runs[RunResult]):
    """The runs of a scenario of serving."""

    @property
    def requests(self) -> DataFrame:
        """The requests of all runs, with `machine` and `model` as columns."""
        from pandas import concat

        return concat([run.requests for run in self.runs], ignore_index=True)

    def frame(self) -> DataFrame:
        """Throughput, latency, energy and money of each run; a saturated one has no latencies."""
        from simulator.report.names import run_names

        rows = []
        for name, run in zip(run_names(self), self.runs, strict=True):
            shown = {k: None if run.saturated and k.startswith(LATENCIES) else run.number(k) for k in FIGURES}
            rows.append({**run.summary, "machine": name, **shown, "": "saturated" if run.saturated else ""})
        return frame_of(rows, ("model", "machine", "stack", *FIGURES, ""))

    def side_by_side(self) -> DataFrame:
        """The machines side by side: a column each, a row for each metric, its unit in the name."""
        from simulator.report.comparison import comparison_frame

        return comparison_frame(self)

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        from simulator.report.charts import CHARTS

        return {name: partial(draw, self) for name, draw in CHARTS.items()}


def version() -> str:
    """The installed version of ramwise; "0+checkout" when the package runs without having been installed."""
    from importlib import metadata

    try:
        return metadata.version("ramwise")
    except metadata.PackageNotFoundError:
        return "0+checkout"
