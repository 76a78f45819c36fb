"""What a finished training run hands to the reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from simulator.cost.training.memory import MemorySheet
from simulator.cost.training.step import StepTime
from simulator.engine.pipeline import PipelineRecord
from simulator.report.notebook import Charts, frame_of
from simulator.report.plain import plain
from simulator.report.result import Runs

if TYPE_CHECKING:
    from pandas import DataFrame

FIGURES = ("step_s", "tokens_per_s", "mfu", "goodput", "days", "energy_facility_mwh", "cost_usd")
"""What a notebook shows of each run."""


@dataclass(frozen=True)
class TrainingRun:
    """One model on so many chips. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]
    record: PipelineRecord
    step: StepTime
    sheet: MemorySheet


@dataclass(frozen=True)
class TrainingReport(Runs[TrainingRun]):
    """The runs of a scenario of training. `bill`: the bill by hand that the scenario states, in SI units."""

    bill: dict[str, Any] | None = None

    def document(self, complete: bool = True) -> dict[str, Any]:
        """The content of summary.json."""
        stated = {"bill": plain({**self.bill, **bill(self.bill)})} if self.bill else {}
        return {**super().document(complete), **stated}

    def frame(self) -> DataFrame:
        """Pace, energy and money of each run."""
        return frame_of([run.summary for run in self.runs], ("model", "machine", "chips", "layout", *FIGURES))

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        from simulator.report.training.charts import CHARTS

        return {name: partial(draw, self) for name, draw in CHARTS.items()}


def bill(stated: dict[str, Any]) -> dict[str, float]:
    """machines * price * duration / life + machines * power * duration * price of electricity, in USD."""
    machines, duration = float(stated["machines"]), float(stated["duration"])
    bought = machines * float(stated["price"]) * duration / float(stated["life"])
    energy = machines * float(stated["power"]) * duration * float(stated["electricity"])
    return {"bought_usd": bought, "energy_usd": energy, "cost_usd": bought + energy}
