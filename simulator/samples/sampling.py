"""A recommender under queries, or the steps of a solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of
from simulator.engine.batching import BatchLimits
from simulator.engine.traffic import Workload
from simulator.errors import CapacityError
from simulator.model.parallelism import Parallelism
from simulator.model.recommender import Recommender
from simulator.model.samples import SampleModel, SolverModel
from simulator.model.solver import Jacobi, Pinn
from simulator.quantity import format_quantity
from simulator.samples.case import SampleCase, iterations, step_of
from simulator.scenario import MachineChoice
from simulator.scenario.placement import placement
from simulator.stack.stack import Stacks

SOFTWARE = {"hbm-gpu": "tensorrt-dlrm-2024", "dram-node": "pytorch-dlrm-2024"}
"""What runs a recommender on a family of chips when the machine names no stack."""

OPERATIONS_OF_A_LAYER = 16.0
"""Products, norms, sums and copies of a layer of a language model, each with a barrier (llama.cpp; estimated)."""

BORROWED = "the stack is of language models: its kernels price a recommender or solver, and `dispatch` each launch"


def sampling(
    model: Recommender | Jacobi | Pinn,
    choice: MachineChoice,
    machine: Machine,
    stacks: Stacks,
    queries: Workload,
    max_batch: int,
) -> SampleCase:
    """A recommender under queries, or a solver's steps one after the other."""
    own = SOFTWARE.get(machine.profile.family) if isinstance(model, Recommender) else None
    if own is not None and choice.stack is None and not choice.stack_change:
        machine = replace(machine, stack=stacks.load(own))
    layout = Parallelism(dp=machine.parallelism.chips)
    precision = choice.precision.over(model.precision)
    held = {t: count * precision.bytes_of(t) for t, count in model.parameters(layout).items()}
    machine = replace(machine, parallelism=layout, placement=placement(choice.placement, held))
    _fits(model, machine, held)
    solver = isinstance(model, SolverModel)
    count = np.array([0.0, model.points_in_step]) if isinstance(model, SolverModel) else np.arange(max_batch + 1.0)
    work = add(cost_of(operation, machine) for operation in model.operations(count, layout, precision))
    stack = machine.stack
    each = float(stack.dispatch) + float(stack.thread_overhead) / OPERATIONS_OF_A_LAYER * machine.cores
    cost = step_of(add([work, Amount({OVERHEAD: model.launches * each})]).times(count > 0), machine, 0.0, max_batch)
    requests = iterations(model.iterations) if isinstance(model, SolverModel) else queries
    units = model.points_in_step if isinstance(model, SolverModel) else 1
    limits = BatchLimits(1, 1) if solver else BatchLimits(max_batch, max_batch)
    warnings = () if stack.name in SOFTWARE.values() else (BORROWED,)
    return SampleCase(
        choice, machine, model, model.title, model.unit, precision, cost, requests, limits, units, warnings=warnings
    )


def _fits(model: SampleModel, machine: Machine, held: dict[str, float]) -> None:
    """Raise CapacityError where a tier is too small."""
    for name, tier in machine.tiers.items():
        inside = {t: size * share for t, size in held.items() for at, share in machine.parts(t) if at.name == name}
        if sum(inside.values()) > tier.capacity:
            rows = "\n".join(f"  {tensor:<18}{format_quantity(size, 'B'):>12}" for tensor, size in inside.items())
            raise CapacityError(
                f"{model.title} does not fit {name} of '{machine.profile.name}', {format_quantity(tier.capacity, 'B')} "
                f"a chip on {machine.parallelism.chips} chips; use more chips (tp), a smaller dtype, or place its "
                f"tables in another tier: {', '.join(machine.tiers)}\n{rows}"
            )
