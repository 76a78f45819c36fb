"""A memory tier as one chip of a replica sees it: its own, behind a link, another socket's, or shared in a pool."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.hardware.memory import MemoryTier
from simulator.hardware.profile import Profile
from simulator.model.parallelism import Parallelism

REMOTE = "remote"
"""The memory of the sockets that a replica does not run on."""


@dataclass(frozen=True)
class Tier:
    """`capacity` and `bandwidth` are one chip's: what is shared is divided among the chips that share it."""

    memory: MemoryTier
    capacity: float
    bandwidth: float
    far: bool  # not the chip's own: behind a link, or at another socket
    readers: int = 1  # chips that read it at once

    @property
    def name(self) -> str:
        """What placements and results call it."""
        return self.memory.tier


def tiers_of(
    profile: Profile, layout: Parallelism, replicas: int = 1, busy: int = 1, on_link: float = 1.0
) -> dict[str, Tier]:
    """Name -> every tier that software can place tensors in, nearest first.

    The chip's own tiers; on a node of several sockets the other sockets' memory, read over the fabric; the node's tiers
    at min(link / chips on it, bandwidth / chips that read at once): the replica's, and those of the other replicas
    that are `busy`, on the node, and of them `on_link` on the replica's own link. Capacity is shared with all replicas.
    """
    node = profile.node
    chips = min(layout.chips, node.chips)
    found = [
        Tier(memory, float(memory.capacity) * float(memory.usable), float(memory.bandwidth), False)
        for memory in profile.chip.memory
        if not memory.cache
    ]
    if node.fabric.kind == "numa" and node.fabric.bandwidth is not None and chips < node.chips:
        main = profile.chip.main_memory
        update = {"tier": REMOTE, "bandwidth": node.fabric.bandwidth, "latency": node.fabric.latency or main.latency}
        others = (node.chips / replicas - chips) * float(main.capacity) * float(main.usable)
        found.append(
            Tier(main.model_copy(update=update), max(0.0, others) / chips, float(node.fabric.bandwidth) / chips, True)
        )
    for memory in node.memory:
        shared = memory.shared_by in ("node", "pool")
        capacity = float(memory.capacity) * float(memory.usable) / (chips * replicas if shared else 1)
        readers = chips * busy if shared else 1
        behind = min(chips, float(memory.link_shared_by)) * on_link
        link = float("inf") if memory.link is None else float(memory.link) / behind
        found.append(Tier(memory, capacity, min(float(memory.bandwidth) / readers, link), True, readers))
    return {tier.name: tier for tier in found}
