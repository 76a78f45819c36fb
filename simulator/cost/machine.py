"""A machine as the cost functions see it: the chips of one replica, with what its software reaches of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil

import numpy as np

from simulator.cost.place import Placement
from simulator.cost.product import Tiling, tiling_of
from simulator.cost.tier import Tier, tiers_of
from simulator.errors import ScenarioError, StackError, unknown
from simulator.hardware.memory import MemoryTier
from simulator.hardware.profile import Profile
from simulator.model.number_format import tensor_class
from simulator.model.operation import Array
from simulator.model.parallelism import Parallelism
from simulator.stack.stack import Stack, of_format


@dataclass(frozen=True)
class Machine:
    """Profile, stack (its numbers on this chip), layout and placement of one replica of `replicas` on its node.

    Rates are those that one chip reaches.
    """

    profile: Profile
    stack: Stack
    parallelism: Parallelism
    placement: Placement = field(default_factory=Placement)
    replicas: int = 1
    busy: int = 1  # of them, those that work at once
    on_link: float = 1.0  # and of those, the ones behind the same link to the host
    threads: int | None = None  # of a CPU, on each chip; None: one a core

    def __post_init__(self) -> None:
        if self.stack.host is not None and self.profile.host is None:
            raise StackError(
                f"stack '{self.stack.name}' computes on a host, '{self.profile.name}' names none; "
                "write host: with a CPU node's profile, e.g. host: xeon-6454s-2s"
            )
        if self.profile.family not in self.stack.families:
            runs_on, name = ", ".join(self.stack.families), self.profile.name
            mend = f"leave `stack` out to get '{self.profile.default_stack}'"
            if self.stack.name == self.profile.default_stack:
                mend = f"name a stack that runs on {self.profile.family}: ramwise stacks list"
            raise StackError(
                f"stack '{self.stack.name}' runs on {runs_on}, not on '{name}' ({self.profile.family}); {mend}"
            )
        object.__setattr__(self, "stack", self.stack.on_profile(self.profile))
        units = self.profile.chip.matrix.units
        if self.threads is not None and not 0 < self.threads <= units:
            raise ScenarioError(
                f"{self.threads} threads on {units} cores of '{self.profile.name}'; write threads: {units}"
            )
        for name in sorted(self.placement.tiers - set(self.tiers)):
            raise ScenarioError(unknown(f"tier of '{self.profile.name}'", name, self.tiers))
        order = list(self.tiers)  # nearest first
        for tensor, place in self.placement.places.items():
            if place.near and order.index(place.near.tier) >= min(order.index(name) for name in place.shares):
                raise ScenarioError(
                    f"the {tensor} in {', '.join(place.shares)} cannot be cached in {place.near.tier} of "
                    f"'{self.profile.name}', which is no nearer; cache it in a nearer tier, or leave `cache` out"
                )
            if place.swap and order.index(place.swap.tier) <= max(order.index(name) for name in place.shares):
                raise ScenarioError(
                    f"the {tensor} in {', '.join(place.shares)} cannot be swapped to {place.swap.tier} of "
                    f"'{self.profile.name}', which is no farther; swap it to a farther tier, or leave `swap` out"
                )

    @cached_property
    def for_prompts(self) -> Machine:
        """What a step that holds a prompt runs on: the stack's kernels for prompts may stream weights otherwise."""
        stack = self.stack
        if not stack.prefill_streaming:
            return self
        return replace(self, stack=stack.model_copy(update={"streaming": stack.prefill_streaming}))

    def in_tiles(self, rows: Array) -> Array:
        """Rows of a tensor in whole tiles of the stack."""
        tile = float(self.stack.tile_rows)
        return rows if tile == 1.0 else np.ceil(np.asarray(rows) / tile) * tile

    @property
    def memory(self) -> MemoryTier:
        """The tier that holds everything that `placement` does not place elsewhere."""
        return self.profile.chip.main_memory

    @cached_property
    def tiers(self) -> dict[str, Tier]:
        """Name -> every tier in which tensors can lie, nearest first."""
        return tiers_of(self.profile, self.parallelism, self.replicas, self.busy, self.on_link)

    @property
    def contended(self) -> bool:
        """Whether the replicas of the node slow each other down: they read one memory, or one host computes for all."""
        if self.replicas == 1:
            return False
        used = [self.tiers[name] for name in self.placement.tiers]
        return bool(self.host_tier) or any(tier.memory.shared_by in ("node", "pool") for tier in used)

    @property
    def beside(self) -> int:
        """Replicas behind one link to the host, the switch of a tier that is in use."""
        shared = max((float(self.tiers[name].memory.link_shared_by) for name in self.placement.tiers), default=1.0)
        return max(1, min(self.replicas, int(shared) // self.parallelism.chips))

    @property
    def main(self) -> Tier:
        """`memory` as one chip sees it."""
        return self.tiers[self.memory.tier]

    def parts(self, tensor: str) -> list[tuple[Tier, float]]:
        """The tiers that a class of tensors lies in, each with its share of the bytes, nearest first."""
        place = self.placement.of(tensor)
        if place is None:
            kept_by_host = self.stack.host is not None and tensor_class(tensor) in self.stack.host.tensors
            return [(self.tiers[self.host_tier] if kept_by_host else self.main, 1.0)]
        return [(tier, place.in_tier(name)) for name, tier in self.tiers.items() if place.in_tier(name)]

    def share_in_main(self, tensor: str) -> float:
        """Share of a class's bytes that lies in the main memory."""
        return sum(share for tier, share in self.parts(tensor) if tier.name == self.memory.tier)

    @property
    def host_tier(self) -> str:
        """Name of the tier whose tensors the host computes; empty where it computes nothing."""
        computes = self.stack.host is not None and self.profile.host is not None
        return self.profile.host.chip.main_memory.tier if computes and self.profile.host else ""

    @property
    def scaling(self) -> float:
        """What each socket of a CPU node keeps when several work together; 1 on other machines."""
        several = self.profile.node.fabric.kind == "numa" and self.parallelism.chips > 1
        return float(self.stack.socket_scaling) if several else 1.0

    @property
    def bandwidth(self) -> float:
        """Peak B/s of the main memory, NUMA loss taken off."""
        return float(self.memory.bandwidth) * self.scaling

    def streaming_bandwidth(self, tier: Tier, fraction: float) -> float:
        """B/s at which a tier streams. `fraction` is what the software reaches of the chip's own tiers; of a far one it
        reaches what the stack says of that tier."""
        if tier.far:
            reached = of_format(self.stack.far_streaming, tier.name, self.stack.name, "share of a tier")
            fed = self.stack.host.layerwise_bandwidth if self.stack.host and tier.name == self.host_tier else None
            return min(tier.bandwidth * reached, float(fed or float("inf")) / self.chips_on_node)
        whole = tier.bandwidth * self.scaling * fraction
        if self.threads is None or tier.memory.core_bandwidth is None:
            return whole
        return smaller(whole, self.threads * float(tier.memory.core_bandwidth))

    def weights_bandwidth(self, format: str, tier: Tier | None = None) -> float:
        """B/s at which weights of a number format stream from a tier, the main memory if none is given."""
        fraction = of_format(self.stack.streaming, format, self.stack.name, "streaming fraction")
        return self.streaming_bandwidth(tier or self.main, fraction)

    def matrix_rate(self, format: str) -> float:
        """FLOP/s of large products of weights stored in `format`."""
        compute = self.profile.compute_format(format)
        plateau = of_format(self.stack.matmul, compute, self.stack.name, "share of peak for matrix products")
        return float(self.profile.chip.matrix.peak[compute]) * plateau * self.scaling * self.working

    @property
    def sixteen_bit_peak(self) -> float:
        """FLOP/s of the 16-bit matrix peak, to which the attention fractions refer."""
        return self.profile.sixteen_bit_peak * self.scaling * self.working

    @cached_property
    def tiling(self) -> Tiling | None:
        """How products are cut into tiles; None where the stack does not say or the chip has no tile."""
        tiles = self.stack.tiles
        return None if tiles is None else tiling_of(self.profile, tiles.unit_bandwidth, tiles.wave)

    @property
    def nodes(self) -> int:
        """Machines of the profile that one replica takes."""
        return ceil(self.parallelism.chips / self.profile.node.chips)

    @property
    def chips_on_node(self) -> int:
        """Chips of one replica that share a machine of the profile."""
        return min(self.parallelism.chips, self.profile.node.chips)

    @property
    def cores(self) -> int:
        """CPU cores that meet at the barriers of a layer: of the sockets of a node that share its matrices."""
        sockets = min(self.parallelism.tp, self.profile.node.chips)
        return (self.threads or int(self.profile.chip.matrix.units)) * sockets

    @property
    def working(self) -> float:
        """Share of a CPU's cores that have a thread."""
        return 1.0 if self.threads is None else self.threads / int(self.profile.chip.matrix.units)


def smaller(first: float, second: float) -> float:
    """Of two limits the smaller one, rounded off where they are alike: (a^-4 + b^-4)^(-1/4).

    Threads of llama.cpp read so: some cores cannot use the memory, all of them share it (7773X, 2 to 64 threads).
    """
    return float((first**-4.0 + second**-4.0) ** -0.25)
