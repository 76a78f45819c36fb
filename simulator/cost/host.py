"""Products that the processors of a host compute on weights that lie in their own memory."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import COMPUTE, Amount, overlapped
from simulator.cost.machine import Machine
from simulator.errors import StackError
from simulator.hardware.profile import BareProfile
from simulator.model.number_format import FORMATS
from simulator.model.operation import Array, Matmul
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.stack.parameters import HostPart
from simulator.stack.stack import of_format

HOST = "host"
"""Name of the time that the host's processors bound."""


def host_matmul(operation: Matmul, machine: Machine, share: Array) -> Amount:
    """A share of the product's matrices, computed by the host for one chip of the replica:

        t = ((2mnk / F)^p + (weights / W)^p)^(1/p) + activations over the link, there and back

    F = sockets * c * peak * plateau (of the matrix units, or of the vector units where the kernels use those alone),
    W = sockets * s * bandwidth * streaming fraction, both divided among the chips of the busy replicas, whose work it
    does one after the other; c and s are what each socket keeps when several work.
    """
    profile, part = machine.profile.host, machine.stack.host
    if profile is None or part is None:
        raise StackError(f"'{machine.profile.name}' has no host that computes")
    count = profile.node.chips
    sockets = count / (machine.chips_on_node * machine.busy)
    kept, working = (float(part.socket_scaling), float(part.compute_scaling)) if count > 1 else (1.0, 1.0)
    rows = np.asarray(operation.m, dtype=float) * share
    weights = (rows > 0) * operation.groups * share * (operation.n * operation.k * FORMATS[operation.format].bytes)
    eta = of_format(part.streaming, operation.format, machine.stack.name, "streaming fraction of the host")
    reading = weights / (float(profile.chip.main_memory.bandwidth) * sockets * kept * eta)
    rate = _rate(operation.format, profile, part, machine) * sockets * working
    computing = 2.0 * rows * operation.n * operation.k / rate
    slowest, busiest = operation.imbalance, np.maximum(operation.imbalance, operation.load)
    tier = profile.chip.main_memory.tier
    seconds = overlapped(computing * busiest, {tier: reading * slowest}, float(part.overlap))
    seconds[HOST] = seconds.pop(COMPUTE)
    link = machine.tiers[tier].bandwidth
    sent = rows * ((operation.n + operation.k) * ACTIVATION_BYTES)
    seconds[tier] = seconds[tier] + sent / link
    return Amount(seconds, {}, {tier: weights}).times(operation.repeat)


def _rate(format: str, profile: BareProfile, part: HostPart, machine: Machine) -> float:
    """FLOP/s of one socket in products of weights stored in `format`."""
    if part.vector is not None and profile.chip.vector is not None:
        return float(profile.chip.vector.peak) * float(part.vector)
    compute = profile.compute_format(format)
    plateau = of_format(part.matmul, compute, machine.stack.name, "share of the host's peak")
    return float(profile.chip.matrix.peak[compute]) * plateau
