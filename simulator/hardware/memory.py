"""A memory tier: how much it holds, how fast it streams, and how long one access takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.provenance import Block
from simulator.quantity import Bandwidth, Bytes, Fraction, Known, Rate, Ratio, Seconds, Share, quantity

TierName = Literal["sram", "hbm", "gddr", "lpddr", "ddr", "cxl", "nvme", "remote"]

TransferRate = Annotated[Known, quantity("T/s", example="8800 MT/s")]
EnergyPerByte = Annotated[Known, quantity("J/B", zero=True)]

# A DDR5 channel (two 32-bit halves) and a DDR4 channel both move 8 bytes in one transfer.
CHANNEL_BYTES = 8.0


class MemoryTier(Block):
    """One level of memory. Capacity, bandwidth and outstanding accesses are those of one instance (see `shared_by`)."""

    tier: TierName
    shared_by: Literal["core", "chip", "socket", "node", "pool"] = Field(
        description="Who shares one instance. `core`: figures are of all cores of the chip together."
    )
    cache: bool = Field(
        False, description="True: filled by hardware, so no tensor can be placed there. False: software places tensors."
    )
    capacity: Bytes = Field(description="Size of one instance. Vendors print DRAM in units of 2^30 bytes: write GiB.")
    usable: Fraction = Field(Known(1.0), description="Share of the capacity that software can use.")
    bandwidth: Bandwidth = Field(description="Peak read bandwidth of one instance.")
    core_bandwidth: Bandwidth | None = Field(None, description="What one CPU core reads of it alone.")
    channels: Annotated[int, Field(gt=0)] | None = Field(None, description="DDR channels of one instance.")
    transfer_rate: TransferRate | None = Field(None, description="Transfers a second of one channel, e.g. 8800 MT/s.")
    latency: Seconds | None = Field(None, description="Idle latency of one access, address translation included.")
    spans: tuple[tuple[Bytes, Seconds], ...] | None = Field(
        None, description="[bytes, latency] pairs: latency of accesses spread over so many bytes (translation misses)."
    )
    loaded: tuple[tuple[Share, Seconds], ...] | None = Field(
        None, description="[share of the bandwidth, latency] pairs: latency while so much else streams."
    )
    page: Bytes | None = Field(None, description="Page size for which the latencies hold.")
    granule: Bytes | None = Field(None, description="Smallest unit of access; shorter reads move all of it.")
    outstanding: Ratio | None = Field(
        None,
        description="Accesses in flight that the readers of one instance sustain together; behind a link, one chip.",
    )
    row_bandwidth: Fraction | None = Field(
        None, description="Share of the bandwidth that the granules of a random row after its first reach."
    )
    iops: Rate | None = Field(None, description="Random reads a second that one instance serves (SSD).")
    link: Bandwidth | None = Field(
        None, description="What one chip reads per direction when the tier is behind a host link (PCIe, C2C)."
    )
    link_shared_by: Ratio = Field(
        Known(1.0), description="Neighbouring chips that share one such link, behind a PCIe switch."
    )
    energy: EnergyPerByte | None = Field(
        None, description="Marginal energy of a byte read, at the level of the chip's power; 0 where `active` holds it."
    )
