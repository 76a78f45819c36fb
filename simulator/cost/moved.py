"""Where the bytes of a step come from: which tensors they are of, and in which tier those lie."""

from __future__ import annotations

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.matmul import activation_bytes
from simulator.cost.step import cost_of
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision, tensor_class
from simulator.model.operation import Attention, Batch, Matmul, Operation, Vector

ACTIVATION, CACHE = "activation", "kv"

Moved = dict[str, dict[str, float]]
"""Tier -> class of tensor -> bytes."""


def moved_by_tensor(architecture: Architecture, precision: Precision, machine: Machine, batch: Batch) -> Moved:
    """The bytes of one chip in a step: weights by their class, `kv` what attention reads, `activation` the rest."""
    found: Moved = {}
    shares = {tier.name: share for tier, share in machine.parts(ACTIVATION)}
    operations = architecture.forward(batch, machine.parallelism, precision, float(machine.stack.expert_popularity))
    for operation in operations:
        for tier, moved in cost_of(operation, machine).bytes.items():
            whole = float(np.sum(moved))
            passing = min(whole, _passing(operation) * shares.get(tier, 0.0))
            into = found.setdefault(tier, {})
            for name, part in ((_class(operation, tier in shares), whole - passing), (ACTIVATION, passing)):
                if part > 0:
                    into[name] = into.get(name, 0.0) + part
    return found


def _class(operation: Operation, with_activations: bool) -> str:
    """What an operation moves in a tier. Element-wise work moves new keys and values alone where no activations lie."""
    if isinstance(operation, Attention) or (isinstance(operation, Vector) and not with_activations):
        return CACHE
    return ACTIVATION if isinstance(operation, Vector) else tensor_class(getattr(operation, "tensor", ACTIVATION))


def _passing(operation: Operation) -> float:
    """Activations among the bytes of an operation that has weights too."""
    return float(np.sum(activation_bytes(operation))) if isinstance(operation, Matmul) else 0.0
