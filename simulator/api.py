"""What Python programs use: load a scenario, run it; studies of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.report.result import Report
from simulator.report.sample_result import SampleReport
from simulator.report.training.result import TrainingReport
from simulator.samples import run as run_samples
from simulator.scenario import (
    SampleScenario,
    Scenario,
    TrainingScenario,
    read_samples,
    read_scenario,
    read_training,
    task_of,
)
from simulator.scenario.samples import TASKS
from simulator.serve import run as run_scenario
from simulator.study.crossover import crossover
from simulator.study.plan import plan
from simulator.study.sweep import sweep
from simulator.train import run as run_training
from simulator.yaml_source import Source

__all__ = ["Loaded", "crossover", "load", "plan", "run", "sweep"]


@dataclass(frozen=True)
class Loaded:
    """A scenario and the text that it was read from, for messages."""

    scenario: Scenario | TrainingScenario | SampleScenario
    source: Source


def load(path: str | Path, *changes: str) -> Loaded:
    """Read a scenario, with changes on top: load("chat.yaml", "limits.max_num_seqs=64"). Raise ScenarioError."""
    task = task_of(path)
    if task in TASKS:
        return Loaded(*read_samples(path, changes))
    return Loaded(*(read_training if task == "train" else read_scenario)(path, changes))


def run(
    loaded: Loaded | str | Path, *, seed: int | None = None, profiles: tuple[Path, ...] = ()
) -> Report | TrainingReport | SampleReport:
    """Run a scenario, loaded or by path. Raise RamwiseError: everything that is wrong, before anything runs."""
    if not isinstance(loaded, Loaded):
        loaded = load(loaded)
    if isinstance(loaded.scenario, TrainingScenario):
        return run_training(loaded.scenario, loaded.source, profiles=profiles, seed=seed)
    if isinstance(loaded.scenario, SampleScenario):
        return run_samples(loaded.scenario, loaded.source, profiles=profiles, seed=seed)
    return run_scenario(loaded.scenario, loaded.source, profiles=profiles, seed=seed)
