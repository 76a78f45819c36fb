"""Scenarios of every task in studies: how one is cut into points and run, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.errors import Problem, ScenarioError, Where
from simulator.hardware.catalogue import Catalogue
from simulator.report.result import Report
from simulator.report.sample_result import SampleReport
from simulator.report.training.result import TrainingReport
from simulator.samples import run as run_samples
from simulator.scenario import AnyScenario, Money, SampleScenario, Scenario, TrainingScenario
from simulator.scenario.samples import TASKS as SAMPLE_TASKS
from simulator.scenario.samples import Decode
from simulator.serve import run as run_serving
from simulator.serve.machine import basis, on_common_basis
from simulator.train import run as run_training
from simulator.yaml_source import Source

AnyReport = Report | TrainingReport | SampleReport


@dataclass(frozen=True)
class Asked:
    """What is asked of a task's runs: `shown` by a study that names no metrics, `decides` by such a crossover."""

    shown: tuple[str, ...]
    decides: str


ASKED = {
    "train": Asked(("step_s", "tokens_per_s", "mfu", "days", "energy_facility_mwh", "cost_usd"), "cost_usd"),
    **dict.fromkeys(
        SAMPLE_TASKS, Asked(("samples_per_s", "samples_per_joule", "average_power_w"), "samples_per_joule")
    ),
}
"""Of tasks other than serving, whose metrics the study itself knows."""


def run(scenario: AnyScenario, source: Source, profiles: Sequence[Path], seed: int | None = None) -> AnyReport:
    """Run a scenario of any task. Raise RamwiseError: everything that is wrong, before anything runs."""
    if isinstance(scenario, TrainingScenario):
        return run_training(scenario, source, profiles=profiles, seed=seed)
    if isinstance(scenario, SampleScenario):
        return run_samples(scenario, source, profiles=profiles, seed=seed)
    return run_serving(scenario, source, profiles=profiles, seed=seed)


def named(model: Any) -> str:
    """What results call a model of a scenario."""
    return str(model) if isinstance(model, str) or hasattr(model, "base") else str(model.title)


def terms(scenario: AnyScenario, catalogue: Catalogue) -> Money | None:
    """The terms of money with the basis that all machines of a scenario have in common; samples have none."""
    if isinstance(scenario, SampleScenario):
        return None
    if isinstance(scenario, Scenario):
        return basis(scenario, catalogue)
    owned = [catalogue.load(machine.hardware) for machine in scenario.machines]
    return on_common_basis(scenario.money or Money(), owned)


def check_single(scenario: AnyScenario, at: Where) -> None:
    """Raise ScenarioError where one model on one machine is several runs: a point is one."""
    key = ""
    if isinstance(scenario, TrainingScenario) and any(len(machine.sizes) > 1 for machine in scenario.machines):
        key = "machines[*].chips"
    elif any(isinstance(model, Decode) and len(model.batches) > 1 for model in scenario.models):
        key = "model[*].batch"
    if key:
        what = f"{key} of the scenario is a list, and a point of a study is one run"
        raise ScenarioError(Problem(what, at, f"write one number there, and the list as an axis: {key}: [...]"))
