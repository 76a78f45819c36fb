"""What `ramwise run` needs of each task: how its scenarios are read, run, written and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """The functions of a task. report_of(scenario, source, runs); write(report, out, plots, complete); table(report,
    width); side_by_side where machines can stand beside each other."""

    read: Callable[..., tuple[Any, Any]]
    run: Callable[..., Any]
    report_of: Callable[..., Any]
    write: Callable[..., Path]
    table: Callable[[Any, int], Any]
    side_by_side: Callable[[Any, int], Any]


def task_for(path: Path) -> Task:
    """The task that a scenario names. Raise ScenarioError when it cannot be read."""
    from simulator.scenario import task_of
    from simulator.scenario.samples import TASKS

    name = task_of(path)
    if name == "train":
        return _training()
    return _samples() if name in TASKS else _serving()


def _serving() -> Task:
    from simulator.report.comparison import side_by_side
    from simulator.report.folder import write
    from simulator.report.tables import overview
    from simulator.scenario import read_scenario
    from simulator.serve import report_of, run

    return Task(read_scenario, run, report_of, write, overview, side_by_side)


def _training() -> Task:
    from simulator.report.training.folder import write
    from simulator.report.training.tables import overview
    from simulator.scenario import read_training
    from simulator.train import report_of, run

    return Task(read_training, run, report_of, write, overview, overview)


def _samples() -> Task:
    from simulator.report.samples import overview, write
    from simulator.samples import report_of, run
    from simulator.scenario import read_samples

    return Task(read_samples, run, report_of, write, overview, overview)
