"""Joules of a chip: idle, active while it works, and marginal for FLOPs, bytes and messages, within its power limit."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import COMPUTE, NETWORK, Amount
from simulator.cost.machine import Machine
from simulator.model.operation import Array

ACTIVE = "active"
"""Joules that a working chip takes whatever it does."""


def joules_by_component(amount: Amount, machine: Machine) -> dict[str, Array]:
    """Marginal joules of one chip: FLOPs of each format, bytes of each tier, bytes sent, at the profile's energies."""
    power = machine.profile.chip.power
    joules: dict[str, Array] = {
        COMPUTE: sum((flops * float(power.flop[name]) for name, flops in amount.flops.items()), 0.0)
    }
    for tier, moved in amount.bytes.items():
        energy = machine.tiers[tier].memory.energy
        if energy is not None:
            joules[tier] = moved * float(energy)
    if power.link is not None:
        joules[NETWORK] = sum(amount.sent.values(), 0.0) * float(power.link)
    return joules


def marginal_joules(amount: Amount, machine: Machine) -> Array:
    """The same, all components together."""
    return sum(joules_by_component(amount, machine).values(), 0.0)


def least_seconds(amount: Amount, machine: Machine) -> np.ndarray:
    """Seconds that the chip's power limit allows the work in at the least: marginal joules / (cap - idle)."""
    power = machine.profile.chip.power
    return np.asarray(marginal_joules(amount, machine)) / (float(power.cap) - float(power.idle))


def joules_above_idle(amount: Amount, seconds: Array, machine: Machine) -> tuple[dict[str, Array], Array]:
    """Joules of one chip above idle in busy `seconds`, by component, and the factor by which its limit shrinks them:

        P - idle = min(cap - idle, active * (1 - network / seconds) + marginal / seconds)

    Waiting for other chips (network) draws idle power; waiting for the host does not: the kernels' clocks stay up.
    On ML.ENERGY leaderboard v3 this is 8 % off in power (172 runs on H100, 139 on B200; 10 and 9 % on models left
    out); without the network's share 12 and 9 %, with a constant 0.7 of the limit 11 and 15 %.
    """
    power = machine.profile.chip.power
    working = np.maximum(np.asarray(seconds, dtype=float) - amount.seconds.get(NETWORK, 0.0), 0.0)
    joules: dict[str, Array] = {ACTIVE: working * float(power.active), **joules_by_component(amount, machine)}
    drawn = np.asarray(sum(joules.values(), 0.0), dtype=float)
    allowed = np.asarray(seconds, dtype=float) * (float(power.cap) - float(power.idle))
    return joules, np.minimum(1.0, allowed / np.maximum(drawn, 1e-300))
