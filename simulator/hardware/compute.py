"""What a chip can compute, and the chip that holds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.hardware.memory import MemoryTier
from simulator.hardware.power import ChipPower
from simulator.provenance import Block
from simulator.quantity import FlopRate, Frequency, Ratio

# What a matrix unit computes in. `bf16` is the rate at full bf16 precision: on Tenstorrent chips that is HiFi4 (four
# passes), while `bfp8` is HiFi2 (two passes) and `bfp4` and `fp8` are LoFi (one pass).
ComputeFormat = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "bfp8", "bfp4"]

Count = Annotated[int, Field(gt=0)]


class Matrix(Block):
    """The matrix units of one chip: tensor cores, MXUs, Tensix cores, AMX tiles, or the vector units of a CPU.

    `peak[format] = units x flop_per_clock[format] x clock`, which `check_profile` tests where all three are given.
    """

    units: Count = Field(description="Units that work side by side: SMs, CUs, MXUs, Tensix cores, CPU cores.")
    clock: Frequency = Field(description="Clock at which the peak holds.")
    tile: tuple[Count, Count, Count] | None = Field(
        None, description="Shape (m, n, k) to which one unit rounds a product up; absent where there is no tile."
    )
    flop_per_clock: dict[ComputeFormat, Ratio] = Field(
        default_factory=dict, description="FLOP of one unit in one clock, by compute format."
    )
    peak: dict[ComputeFormat, FlopRate] = Field(
        min_length=1, description="Dense peak of the whole chip by compute format; never the 2:4 sparse figure."
    )

    @property
    def sixteen_bit(self) -> float | None:
        """FLOP/s of the 16-bit peak, bf16 before fp16; None where the chip has neither."""
        found = self.peak.get("bf16", self.peak.get("fp16"))
        return None if found is None else float(found)


class Vector(Block):
    """The vector units of one chip, which run norms, softmax and sampling."""

    peak: FlopRate = Field(description="fp32 peak of the whole chip.")


class Chip(Block):
    """One accelerator, or one socket of a CPU node."""

    name: str = Field(description="The chip's own name.")
    matrix: Matrix
    vector: Vector | None = None
    memory: tuple[MemoryTier, ...] = Field(min_length=1, description="Its own memory tiers, nearest first.")
    power: ChipPower

    @property
    def main_memory(self) -> MemoryTier:
        """The largest tier of the chip itself: where weights and KV cache live when nothing else is said."""
        return max(self.memory, key=lambda tier: tier.capacity * tier.usable)
