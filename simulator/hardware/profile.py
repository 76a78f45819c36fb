"""A machine: chips, the node around them, power and price; and the contradictions that a profile must not contain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Annotated, Literal

from pydantic import Field

from simulator.errors import Problem, StackError, Where
from simulator.hardware.compute import Chip, ComputeFormat
from simulator.hardware.fabric import Fabric, ScaleOut
from simulator.hardware.memory import CHANNEL_BYTES, MemoryTier
from simulator.hardware.power import NodePower
from simulator.hardware.price import Price
from simulator.model.number_format import FORMATS
from simulator.provenance import Block
from simulator.quantity import Label, format_quantity

Location = tuple[str | int, ...]
Family = Literal["hbm-gpu", "dram-node", "tpu-mesh", "spatial"]

# Datasheets round to two or three digits; a larger gap is a slip (sparse for dense, both directions for one).
TOLERANCE = 0.05

# A chip reaches at least 1 / LEAST_UNDER_CAP of its peak within its limit; GPUs reach a half and more.
LEAST_UNDER_CAP = 3.0

# Each row: a narrower format never computes slower than the wider one before it. int8 is left out: some chips cut it.
_NARROWING = (("tf32", "bf16"), ("bf16", "fp8"), ("fp8", "fp4"), ("bf16", "bfp8"), ("bfp8", "bfp4"))


class Node(Block):
    """The chips of one machine and what surrounds them. A TPU's machine is a slice, a CPU node's chip is a socket."""

    chips: Annotated[int, Field(gt=0)]
    fabric: Fabric
    scale_out: ScaleOut | None = Field(None, description="The network to other such machines; absent: none.")
    memory: tuple[MemoryTier, ...] = Field((), description="Tiers outside of the chips, nearest first.")
    power: NodePower


class BareProfile(Block):
    """Chips in a node: every number is known by a label and a source, its own or its block's."""

    name: str = Field(description="The name to use in scenarios; the file is called NAME.yaml.")
    title: str
    family: Family
    label: Label = Field(description="How the numbers are known that carry no label of their own.")
    source: str = Field(min_length=1, description="Where the numbers come from that carry no source of their own.")
    chip: Chip
    node: Node
    price: Price | None = None
    default_stack: str = Field(description="Software stack that a scenario gets when it names none.")
    notes: str = ""

    def compute_format(self, format: str) -> ComputeFormat:
        """The format in which the matrix units multiply values stored in `format`. Raise StackError when none does."""
        peaks = self.chip.matrix.peak
        for candidate in FORMATS[format].compute:
            if candidate in peaks:
                return candidate
        raise StackError(f"'{self.name}' computes in {', '.join(peaks)}; none of them takes weights stored as {format}")

    @property
    def sixteen_bit_peak(self) -> float:
        """FLOP/s of the 16-bit matrix peak. Raise StackError when there is none."""
        peak = self.chip.matrix.sixteen_bit
        if peak is None:
            raise StackError(f"'{self.name}' has no 16-bit matrix peak; add `bf16` or `fp16` to `peak`")
        return peak


class Profile(BareProfile):
    """A hardware profile, or one in another: the chips of an accelerator in a CPU node."""

    host: BareProfile | None = Field(None, description="The CPU node that holds the chips; scenarios name it: `host`.")


def check_profile(profile: Profile, where: Callable[[Location], Where] | None = None) -> list[Problem]:
    """Every contradiction in a profile; `where` tells the place of a location such as ('chip', 'power', 'cap')."""
    found = (*_compute(profile), *_memory(profile), *_fabric(profile), *_power(profile))
    return [Problem(what, where(location) if where else None, mend) for location, what, mend in found]


_Found = Iterator[tuple[Location, str, str]]


def _apart(value: float, expected: float) -> bool:
    return abs(value - expected) > TOLERANCE * expected


def _compute(profile: Profile) -> _Found:
    matrix = profile.chip.matrix
    at: Location = ("chip", "matrix", "peak")
    for name, flop in matrix.flop_per_clock.items():
        if name not in matrix.peak:
            yield (
                (*at[:2], "flop_per_clock", name),
                f"flop_per_clock names {name}, peak does not",
                f"add peak: {{{name}: ...}}",
            )
            continue
        expected = matrix.units * flop * matrix.clock
        if _apart(matrix.peak[name], expected):
            stated, derived = format_quantity(matrix.peak[name], "FLOP/s"), format_quantity(expected, "FLOP/s")
            yield (
                (*at, name),
                f"peak {name} is {stated}, but {matrix.units} units x {flop:g} FLOP x clock give {derived}",
                "correct one of them (is the peak sparse, or the clock a boost clock?)",
            )
    for wide, narrow in _NARROWING:
        if wide in matrix.peak and narrow in matrix.peak:
            slow, fast = matrix.peak[wide], matrix.peak[narrow]
            if fast < slow * (1 - TOLERANCE):
                mend = "are they exchanged, or is the wider one sparse?"
                yield (*at, narrow), f"peak {narrow} is below peak {wide}", mend
    sixteen = [float(matrix.peak[name]) for name in ("bf16", "fp16") if name in matrix.peak]
    if len(sixteen) == 2 and not _apart(max(sixteen), 2 * min(sixteen)):
        yield at, "one of the 16-bit peaks is twice the other", "is it 2:4 sparse? write the dense figure"
    vector = profile.chip.vector
    if vector is not None and sixteen and vector.peak > max(sixteen) * (1 + TOLERANCE):
        what = f"the vector units' {format_quantity(vector.peak, 'FLOP/s')} are above the 16-bit matrix peak"
        yield ("chip", "vector", "peak"), what, "fp32 of the whole chip, without matrix units"


def _memory(profile: Profile) -> _Found:
    for place, tiers in (("chip", profile.chip.memory), ("node", profile.node.memory)):
        for index, tier in enumerate(tiers):
            at: Location = (place, "memory", index)
            if tier.channels is not None and tier.transfer_rate is not None:
                expected = tier.channels * CHANNEL_BYTES * tier.transfer_rate
                if _apart(tier.bandwidth, expected):
                    stated, derived = format_quantity(tier.bandwidth, "B/s"), format_quantity(expected, "B/s")
                    what = f"bandwidth is {stated}, but {tier.channels} channels x 8 B x transfer_rate give {derived}"
                    yield (*at, "bandwidth"), what, f"write bandwidth: {derived}, or correct channels or transfer_rate"
            elif (tier.channels is None) != (tier.transfer_rate is None):
                yield at, "channels and transfer_rate go together", "give both or neither"
            if index and tier.bandwidth > tiers[index - 1].bandwidth:
                what = f"tier {tier.tier} is faster than tier {tiers[index - 1].tier} before it"
                yield at, what, "list the nearest tier first"
            if place == "node" and tier.link is None:
                yield at, f"node tier {tier.tier} has no link", "say what one chip reads of it: link: 64 GB/s"
    own = {tier.tier for tier in profile.chip.memory if not tier.cache}
    for index, tier in enumerate(profile.node.memory):
        if tier.tier in own:  # placements and results name tiers, so one of the two would be lost
            what = f"the chip and the node both have a tier {tier.tier}"
            yield ("node", "memory", index), what, "call one of them otherwise, or leave the node's out: memory: []"
    if all(tier.cache for tier in profile.chip.memory):
        yield ("chip", "memory"), "every tier of the chip is a cache", "add the tier that holds the weights"


def _fabric(profile: Profile) -> _Found:
    fabric, chips = profile.node.fabric, profile.node.chips
    at: Location = ("node", "fabric")
    grid = fabric.kind in ("torus", "mesh")
    if fabric.kind == "none":
        if chips > 1:
            yield (
                at,
                f"{chips} chips without a fabric",
                "say how they are joined: kind: switch | torus | mesh | numa | pcie",
            )
    elif fabric.bandwidth is None:
        yield at, f"a {fabric.kind} needs a bandwidth", "bandwidth: 450 GB/s (per direction)"
    elif fabric.latency is None:
        yield at, f"a {fabric.kind} needs a latency", "latency: 1 us (one step of a collective)"
    if grid and fabric.axes is None:
        yield at, f"a {fabric.kind} needs axes", "axes: [4, 4]"
    if not grid and fabric.axes is not None:
        yield (*at, "axes"), f"axes mean nothing to a {fabric.kind}", "remove them, or say kind: torus or mesh"
    if fabric.axes is not None and prod(fabric.axes) != chips:
        what = f"axes {' x '.join(map(str, fabric.axes))} hold {prod(fabric.axes)} chips, the node has {chips}"
        yield (*at, "axes"), what, "correct axes or chips"
    out = profile.node.scale_out
    if out is not None and fabric.bandwidth is not None and out.bandwidth > fabric.bandwidth * fabric.links_per_axis:
        what = f"a chip sends {format_quantity(out.bandwidth, 'B/s')} to other machines, more than inside its own"
        yield ("node", "scale_out", "bandwidth"), what, "per chip and direction, in bytes: 400 Gb/s are 50 GB/s"
    if fabric.reduces and fabric.kind != "switch":
        yield (*at, "reduces"), f"a {fabric.kind} has no switch that reduces", "remove it"
    if fabric.pair is not None and fabric.kind != "switch":
        yield (*at, "pair"), f"pair means nothing to a {fabric.kind}", "remove it"
    elif (
        fabric.pair is not None and fabric.bandwidth is not None and _apart(fabric.bandwidth, (chips - 1) * fabric.pair)
    ):
        what = f"{chips - 1} peers at {format_quantity(fabric.pair, 'B/s')} each do not add up to the bandwidth"
        yield (*at, "pair"), what, "bandwidth = (chips - 1) x pair, both per direction"


def _power(profile: Profile) -> _Found:
    power = profile.chip.power
    at: Location = ("chip", "power")
    if power.cap < power.idle + power.active:
        what = "cap is below idle + active: the chip could never run a kernel at full clock"
        yield (*at, "cap"), what, f"{format_quantity(power.idle + power.active, 'W')} or more"
    peak = {str(name) for name in profile.chip.matrix.peak}
    for name in sorted(peak - set(power.flop)):
        yield (*at, "flop"), f"no energy for a FLOP in {name}", f"add flop: {{{name}: ... pJ/FLOP}}"
    for name, joules in sorted(power.flop.items()):
        rate = profile.chip.matrix.peak.get(name)  # type: ignore[call-overload]
        if rate is not None and joules * rate > LEAST_UNDER_CAP * (power.cap - power.idle):
            what = f"{format_quantity(joules * rate + power.idle, 'W')} at the peak in {name}, far over the cap"
            yield (*at, "flop", name), what, "is the energy of another level or format, or the peak sparse?"
    for name in sorted(set(power.flop) - peak):
        yield (*at, "flop", name), f"energy for {name}, which the chip has no peak for", "remove it, or add the peak"
    if profile.node.power.pue < 1:
        yield ("node", "power", "pue"), "pue is below 1: a facility draws at least what its nodes draw", "pue: 1.1"
