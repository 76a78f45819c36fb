"""The machine of a training run as the cost functions see it: rates that one chip reaches, and its links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log

from simulator.errors import CapacityError
from simulator.hardware.memory import MemoryTier
from simulator.hardware.profile import Profile
from simulator.stack.stack import of_format
from simulator.stack.training.stack import TrainingStack

NEAR, FAR = "link", "network"
"""The scale-up links of a chip, and its share of the network between scale-up domains."""


@dataclass(frozen=True)
class TrainingMachine:
    """A profile repeated over `chips` chips, and its training stack (with the numbers of this chip).

    slices: groups of TPU chips that only a data-centre network joins. `network_override`: B/s of one chip between
    machines where a site has other network cards than the profile. `offloaded`: what lies in the host's memory: tensor
    classes, "optimizer", "activations".
    """

    profile: Profile
    stack: TrainingStack
    chips: int
    slices: int = 1
    network_override: float | None = None
    offloaded: frozenset[str] = frozenset()

    @cached_property
    def domain(self) -> int:
        """Chips that one scale-up network joins: a slice of a TPU, which grows with the run, or else the node."""
        grows = self.profile.family == "tpu-mesh"
        return max(1, self.chips // self.slices) if grows else self.profile.node.chips

    @cached_property
    def network_bandwidth(self) -> float:
        """B/s, per direction, of one chip between scale-up domains. Raise CapacityError where there is no network."""
        if self.network_override is not None:
            return self.network_override
        scale_out = self.profile.node.scale_out
        if scale_out is None:
            raise CapacityError(
                f"{self.chips} chips of '{self.profile.name}' span machines of {self.domain}, and the profile has no "
                "`scale_out`"
            )
        return float(scale_out.bandwidth)

    @property
    def memory(self) -> MemoryTier:
        """The tier that holds everything that a run keeps on a chip."""
        return self.profile.chip.main_memory

    @cached_property
    def host(self) -> MemoryTier:
        """The nearest tier outside of the chips. Raise CapacityError where there is none."""
        for tier in self.profile.node.memory:
            if tier.link is not None:
                return tier
        raise CapacityError(f"'{self.profile.name}' has no memory outside of its chips to offload to")

    @cached_property
    def host_link(self) -> float:
        """B/s that one chip reads of the host's memory when all chips of the node do."""
        return min(float(self.host.link or 0.0), float(self.host.bandwidth) / self.profile.node.chips)

    @cached_property
    def bandwidth(self) -> float:
        """B/s of streaming."""
        return float(self.memory.bandwidth) * float(self.stack.streaming)

    @cached_property
    def link(self) -> float:
        """B/s, per direction, that one chip reaches of its scale-up links together; infinite without a fabric."""
        return self._links(self._axes)

    @cached_property
    def _axes(self) -> int:
        """Axes of a torus or mesh; 0 of a switch."""
        return sum(axis > 1 for axis in self.profile.node.fabric.axes or ())

    def _links(self, axes: int) -> float:
        """The same along so many axes, both ways of each."""
        fabric = self.profile.node.fabric
        if fabric.bandwidth is None:
            return float("inf")
        ways = 2 * axes * int(fabric.links_per_axis) if self._axes else 1
        return float(fabric.bandwidth) * ways * float(self.stack.link)

    def _axes_of(self, ranks: int) -> int:
        """Axes that a block of so many neighbours spans in a slice that is as long along each."""
        edge = self.domain ** (1.0 / self._axes)
        return max(1, min(self._axes, ceil(log(ranks) / log(edge) - 1e-9))) if ranks > 1 and edge > 1 else 1

    @cached_property
    def network(self) -> float:
        """B/s, per direction, that one chip reaches of the network between scale-up domains."""
        return self.network_bandwidth * float(self.stack.network)

    def ring(self, ranks: int, stride: int = 1) -> float:
        """B/s of one chip in a collective of `ranks` chips, each `stride` chips from the next.

        Inside a domain the link, on a torus the links along the axes that the group spans: tensor parallelism takes
        the first ones, what lies across it the others. Over several domains the network cards of all members in a
        domain work together, as far as the link carries.
        """
        inside = max(1, self.domain // stride)
        if ranks <= inside and self._axes:
            taken = self._axes_of(stride) if stride > 1 else 0
            return self._links(max(1, min(self._axes_of(ranks), self._axes - taken)))
        if ranks <= inside:
            return self.link
        return min(self.link, self.network * min(ranks, inside)) if inside > 1 else self.network

    def path(self, ranks: int, stride: int = 1) -> str:
        """NEAR or FAR: what carries such a collective."""
        return NEAR if ranks <= max(1, self.domain // stride) else FAR

    def matrix_rate(self, format: str) -> float:
        """FLOP/s of large products."""
        compute = self.profile.compute_format(format)
        plateau = of_format(self.stack.matmul, compute, self.stack.name, "share of peak for matrix products")
        return float(self.profile.chip.matrix.peak[compute]) * plateau
