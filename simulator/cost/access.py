"""Time of streaming bytes, gathering rows and element-wise work."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import Amount
from simulator.cost.machine import Machine
from simulator.model.operation import Gather, Stream, Vector


def stream(operation: Stream, machine: Machine) -> Amount:
    """bytes / (bandwidth * the stack's fraction for activations)."""
    tier = machine.memory.tier
    seconds = operation.bytes / (machine.bandwidth * float(machine.stack.activation_streaming))
    return Amount({tier: seconds}, {}, {tier: operation.bytes}).times(operation.repeat)


def gather(operation: Gather, machine: Machine) -> Amount:
    """Rows read in whole granules; where the tier states its latency and the accesses in flight, also waited for:

        rows * latency / outstanding + (granules - rows) * granule / bandwidth + dependent_hops * latency

    (measured on DRAM: 5 % median error). A tier that states neither streams the granules.
    """
    memory = machine.memory
    tier, bandwidth = memory.tier, machine.bandwidth * float(machine.stack.activation_streaming)
    granule = float(memory.granule or 1.0)
    granules = np.ceil(operation.row_bytes / granule) * operation.unique_rows
    moved = granules * granule
    if memory.latency is None or memory.outstanding is None:
        seconds = moved / bandwidth
    else:
        some = np.asarray(operation.rows) > 0
        waited = operation.unique_rows * float(memory.latency) / float(memory.outstanding)
        rest = np.maximum(granules - operation.unique_rows, 0.0) * granule / bandwidth
        seconds = waited + rest + some * operation.dependent_hops * float(memory.latency)
    return Amount({tier: seconds}, {}, {tier: moved}).times(operation.repeat)


def vector(operation: Vector, machine: Machine) -> Amount:
    """The bytes of element-wise work; its FLOPs hide behind them on every machine here."""
    return stream(Stream(operation.name, "activation", operation.bytes, operation.repeat), machine)
