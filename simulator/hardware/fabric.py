"""What joins the chips of a machine, and what joins machines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.provenance import Block
from simulator.quantity import Bandwidth, Seconds

Count = Annotated[int, Field(gt=0)]


class Fabric(Block):
    """The scale-up network of one machine.

    switch: every chip reaches every other at `bandwidth`, or at `pair` where chips are joined one to one.
    torus, mesh: `axes` with `links_per_axis` links of `bandwidth` each to either side; a torus closes every axis, a
    mesh none.
    numa: sockets; `bandwidth` is what one socket reads of another's memory. pcie: through the host. none: one chip.
    """

    kind: Literal["switch", "torus", "mesh", "numa", "pcie", "none"]
    bandwidth: Bandwidth | None = Field(
        None, description="Per direction: of one chip (switch, numa, pcie) or one link."
    )
    pair: Bandwidth | None = Field(
        None, description="Per direction between two chips of a fully connected switch; absent when a pair gets it all."
    )
    reduces: bool = Field(False, description="The switch itself adds up what its chips send.")
    latency: Seconds | None = Field(None, description="Time of one step of a collective with an empty message.")
    axes: tuple[Count, ...] | None = Field(None, description="Shape of the whole machine (torus and mesh).")
    links_per_axis: Count = Field(1, description="Links to each neighbour (torus and mesh).")

    @property
    def wrap(self) -> bool:
        """Whether the axes close into rings."""
        return self.kind == "torus"

    def bandwidth_in(self, group: int) -> float:
        """B/s that one chip of a switch sends to `group - 1` peers at once; infinite where there is no fabric."""
        if self.bandwidth is None:
            return float("inf")
        if self.pair is None:
            return float(self.bandwidth)
        return min(float(self.bandwidth), (group - 1) * float(self.pair))


class ScaleOut(Block):
    """The network between machines of one kind."""

    kind: Literal["infiniband", "ethernet", "dcn"] = Field(description="dcn: a data-centre network of many hops.")
    bandwidth: Bandwidth = Field(description="Per direction, the most that one chip sends.")
    machine: Bandwidth | None = Field(None, description="Per direction, of all chips together; absent: of each alone.")
    latency: Seconds = Field(description="Time of one step between machines with an empty message.")

    def bandwidth_of(self, chips: int) -> float:
        """B/s of each of `chips` chips that send at once."""
        return min(float(self.bandwidth), float(self.machine or float("inf")) / chips)
