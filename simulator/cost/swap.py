"""Blocks of the cache that are moved to another tier when a sequence is preempted, and back when it goes on."""

from __future__ import annotations

from simulator.cost.amount import Amount
from simulator.cost.machine import Machine
from simulator.cost.placement import CapacitySheet
from simulator.model.operation import Array


def swapped_block(sheet: CapacitySheet, machine: Machine) -> Amount:
    """One block, one way: bytes / bandwidth of the swap space's tier, while nothing else runs (as vLLM swaps).

    Of the mean chip: the copies of a data-parallel attention move blocks of their own at once.
    """
    place = machine.placement.of("kv")
    if place is None or place.swap is None:
        return Amount()
    tier = machine.tiers[place.swap.tier]
    size = sheet.kv_block_bytes / machine.parallelism.dp
    moved: dict[str, Array] = {tier.name: size}
    for near, share in machine.parts("kv"):
        moved[near.name] = moved.get(near.name, 0.0) + size * share
    return Amount({tier.name: size / machine.streaming_bandwidth(tier, 1.0)}, {}, moved)
