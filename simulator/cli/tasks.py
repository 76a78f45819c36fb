"""What `ramwise run` needs of each task: how its scenarios are run, written and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.scenario import AnyScenario


@dataclass(frozen=True)
class Task:
    """The functions of a task. report_of(scenario, source, runs); write(report, out, plots, complete); table(report,
    width); side_by_side where machines can stand beside each other."""

    run: Callable[..., Any]
    report_of: Callable[..., Any]
    write: Callable[..., Path]
    table: Callable[[Any, int], Any]
    side_by_side: Callable[[Any, int], Any]


def task_for(scenario: AnyScenario) -> Task:
    """The task of a scenario."""
    from simulator.scenario import SampleScenario, TrainingScenario

    if isinstance(scenario, TrainingScenario):
        return _training()
    return _samples() if isinstance(scenario, SampleScenario) else _serving()


def _serving() -> Task:
    from simulator.report.comparison import side_by_side
    from simulator.report.folder import write
    from simulator.report.tables import overview
    from simulator.serve import report_of, run

    return Task(run, report_of, write, overview, side_by_side)


def _training() -> Task:
    from simulator.report.training.folder import write
    from simulator.report.training.tables import overview
    from simulator.train import report_of, run

    return Task(run, report_of, write, overview, overview)


def _samples() -> Task:
    from simulator.report.samples import overview, write
    from simulator.samples import report_of, run

    return Task(run, report_of, write, overview, overview)
