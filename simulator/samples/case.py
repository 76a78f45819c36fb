"""One case of samples or points: recommenders, solvers, decoding language models."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount
from simulator.cost.host_floor import host_floor
from simulator.cost.machine import Machine
from simulator.cost.step import StepCost
from simulator.engine.batching import BatchLimits
from simulator.engine.depth import Policy
from simulator.engine.traffic import Workload, offline
from simulator.model.depth.paths import Paths
from simulator.model.number_format import Precision
from simulator.scenario import MachineChoice
from simulator.scenario.samples import AnySamples


@dataclass(frozen=True)
class Exits:
    """Tokens of different depth as events: ways through nodes, what a run of each node takes, and the nodes of each
    stage where stages have chips of their own."""

    paths: Paths
    amounts: list[Amount]
    policy: Policy
    stages: tuple[tuple[int, ...], ...]
    in_flight: int


@dataclass(frozen=True)
class SampleCase:
    """One model on one machine, priced and ready to run. `units`: samples of one token of the engine's."""

    choice: MachineChoice
    machine: Machine
    model: AnySamples
    title: str
    unit: str
    precision: Precision
    cost: StepCost
    requests: Workload
    limits: BatchLimits
    units: int
    batch: int | None = None
    exits: Exits | None = None
    warnings: tuple[str, ...] = ()


def step_of(work: Amount, machine: Machine, floor: float, most: int) -> StepCost:
    """A table of steps by samples, without contexts."""
    nothing = Amount({OVERHEAD: np.zeros(most + 1)})
    return StepCost((), work, nothing, (), (), Amount(), replace(host_floor(machine.stack), seconds=floor))


def iterations(count: int) -> Workload:
    """So many equal steps, one after the other."""
    return offline(np.array([1]), np.array([count]))
