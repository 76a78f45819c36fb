"""Scenarios: the schema of the YAML that people write."""

from simulator.scenario.limits import Limits, SloChoice
from simulator.scenario.machine import LinkChoice, MachineChoice, PrefillChoice, ServingMachineChoice
from simulator.scenario.money import Money
from simulator.scenario.precision import PrecisionChoice
from simulator.scenario.reading import (
    AnyScenario,
    any_scenario,
    changed,
    find_scenario,
    parts_of,
    read_any,
    read_samples,
    read_scenario,
    read_training,
    scenario_of,
    task_of,
    value_at,
)
from simulator.scenario.samples import SampleScenario
from simulator.scenario.serving import Scenario
from simulator.scenario.traffic import Length, LogNormal, Traffic, Uniform
from simulator.scenario.training import TrainingScenario

__all__ = [
    "AnyScenario",
    "Length",
    "Limits",
    "LinkChoice",
    "LogNormal",
    "MachineChoice",
    "Money",
    "PrecisionChoice",
    "PrefillChoice",
    "SampleScenario",
    "Scenario",
    "ServingMachineChoice",
    "SloChoice",
    "Traffic",
    "TrainingScenario",
    "Uniform",
    "any_scenario",
    "changed",
    "find_scenario",
    "parts_of",
    "read_any",
    "read_samples",
    "read_scenario",
    "read_training",
    "scenario_of",
    "task_of",
    "value_at",
]
