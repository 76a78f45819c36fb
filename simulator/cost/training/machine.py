"""The machine of a training run as the cost functions see it: rates that one chip reaches, and its links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from simulator.cost.collective import group_seconds
from simulator.cost.training.domain import as_node
from simulator.errors import CapacityError
from simulator.hardware.memory import MemoryTier
from simulator.hardware.profile import Profile
from simulator.model.operation import Collective
from simulator.quantity import Known
from simulator.stack.parameters import Collectives
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
        fabric = self.profile.node.fabric
        if fabric.bandwidth is None:
            return float("inf")
        axes = sum(axis > 1 for axis in fabric.axes or ())
        ways = 2 * axes * int(fabric.links_per_axis) if axes else 1
        return float(fabric.bandwidth) * ways * float(self.stack.link)

    @cached_property
    def network(self) -> float:
        """B/s, per direction, that one chip reaches of the network between scale-up domains."""
        return self.network_bandwidth * float(self.stack.network)

    @cached_property
    def _joined(self) -> Profile:
        return as_node(self.profile, self.domain, self.network_override, float(self.stack.latency))

    @cached_property
    def _software(self) -> Collectives:
        return Collectives(launch=Known(0.0), bandwidth=self.stack.link, scale_out_bandwidth=self.stack.network)

    def collective(self, pattern: str, size: float, ranks: int, stride: int = 1) -> float:
        """Seconds of a collective of `size` bytes among `ranks` chips, each `stride` chips from the next (0 of one).

        Raise CapacityError where they span domains without a network.
        """
        if ranks <= 1 or size <= 0.0:
            return 0.0
        return float(group_seconds(Collective("", pattern, size, ranks, 1.0, stride), self._joined, self._software))

    def path(self, ranks: int, stride: int = 1) -> str:
        """NEAR or FAR: what carries such a collective."""
        return NEAR if ranks <= max(1, self.domain // stride) else FAR

    def matrix_rate(self, format: str) -> float:
        """FLOP/s of large products."""
        compute = self.profile.compute_format(format)
        plateau = of_format(self.stack.matmul, compute, self.stack.name, "share of peak for matrix products")
        return float(self.profile.chip.matrix.peak[compute]) * plateau
