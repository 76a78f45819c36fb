"""Joules of FLOPs, bytes and messages above what a chip draws idle and active."""

from __future__ import annotations

from simulator.cost.amount import COMPUTE, NETWORK, Amount
from simulator.cost.machine import Machine
from simulator.model.operation import Array


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
        joules[NETWORK] = amount.sent * float(power.link)
    return joules


def marginal_joules(amount: Amount, machine: Machine) -> Array:
    """The same, all components together."""
    return sum(joules_by_component(amount, machine).values(), 0.0)
