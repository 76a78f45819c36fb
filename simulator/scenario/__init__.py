"""Scenarios: the schema of the YAML that people write."""

from simulator.scenario.limits import Limits, SloChoice
from simulator.scenario.machine import MachineChoice
from simulator.scenario.money import Money
from simulator.scenario.precision import PrecisionChoice
from simulator.scenario.reading import read_scenario
from simulator.scenario.serving import Scenario
from simulator.scenario.traffic import Length, LogNormal, Traffic, Uniform

__all__ = [
    "Length",
    "Limits",
    "LogNormal",
    "MachineChoice",
    "Money",
    "PrecisionChoice",
    "Scenario",
    "SloChoice",
    "Traffic",
    "Uniform",
    "read_scenario",
]
