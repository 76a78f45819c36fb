"""Seconds and joules of single steps, without a table: the costs of the engine, at the steps that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.mean_step import joules_of, mean_step, seconds_of
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision


@dataclass(frozen=True)
class Step:
    """One step: `decoding` sequences with a mean of `context` keys each, and `prompts` prompts of `length` tokens.

    `prompts` may be a fraction: the mean of a steady batch, in which now and then a prompt joins.
    """

    decoding: float = 0.0
    context: float = 0.0
    prompts: float = 0.0
    length: float = 0.0


def step_seconds(
    architecture: Architecture, precision: Precision, machine: Machine, steps: Sequence[Step]
) -> np.ndarray:
    """Seconds of each step, see `step_costs`."""
    return step_costs(architecture, precision, machine, steps)[0]


def step_costs(
    architecture: Architecture, precision: Precision, machine: Machine, steps: Sequence[Step]
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each step and the joules of one chip in it: the same as the engine's table, but priced at these steps
    alone."""
    columns = [
        np.array([getattr(step, name) for step in steps]) for name in ("decoding", "context", "prompts", "length")
    ]
    step = mean_step(architecture, precision, machine, *columns)
    seconds = seconds_of(step, architecture, machine, columns[2])
    working = machine.parallelism.at_work(columns[0] + columns[2] * columns[3])
    return seconds, seconds * float(machine.profile.chip.power.idle) + working * joules_of(step, seconds, machine)
