"""Seconds of one operation of a training step on one chip.

The forms were chosen by what each term is worth in error on measured steps; where a stack's number is 0 or 1 its term
is absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from simulator.cost.training.machine import TrainingMachine
from simulator.model.number_format import FORMATS, SIXTEEN_BITS
from simulator.model.operation import Attention, Collective, Gather, Matmul, Operation, Stream, Vector
from simulator.model.training.layout import TrainingLayout

TILES = ((256, 128, 1.0), (128, 256, 1.0), (128, 128, 0.95), (128, 64, 0.8), (64, 64, 0.55))
"""Tiles of GPU libraries and what they reach of the plateau; the library takes the best."""

WIDTH = 128.0
"""Head width to which a stack's attention fraction refers; it falls with (width / 128)^0.35."""

FUSED_BACKWARD = 1.25 * 1.15
"""A fused kernel computes the scores again (5 products for 4) and its backward kernel reaches 1 / 1.15 of forward."""

SOFTMAX_BACKWARD = 8.0 / 5.0
"""Passes over stored scores, backward over forward."""

CAST_BYTES, CAST_BACKWARD = 3.0, 1.5


@dataclass(frozen=True)
class Work:
    """Seconds of one pass by what they are spent on; collectives before any overlap. `flops` by compute format."""

    seconds: dict[str, float]
    flops: dict[str, float]
    moved: float
    sent: float

    def of(self, *names: str) -> float:
        """Seconds of these parts."""
        return sum(self.seconds.get(name, 0.0) for name in names)


COMPUTE = ("matmul", "attention", "elementwise", "permutation", "gather")


def joined(p: float, *terms: float) -> float:
    """(sum of t^p)^(1/p): a maximum with rounded corners."""
    largest = max(terms)
    if largest <= 0.0:
        return 0.0
    return float(largest * sum((term / largest) ** p for term in terms) ** (1.0 / p))


def price(
    operations: Iterable[Operation], machine: TrainingMachine, layout: TrainingLayout, width: float, heads: float
) -> Work:
    """The work of a pass. `width` is of a head's keys, `heads` are those on one chip."""
    seconds: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    moved = sent = 0.0
    stack = machine.stack
    for operation in operations:
        times = float(operation.repeat)
        if isinstance(operation, Matmul):
            spent, work, carried = _matmul(operation, machine)
            seconds["matmul"] += spent * times
            flops[machine.profile.compute_format(operation.format)] += work * times
            moved += carried
            if FORMATS[operation.format].bytes < SIXTEEN_BITS and stack.cast:
                backward = operation.name.endswith((" dx", " dW"))
                # Both products of the backward pass share the casts of a gradient.
                share = CAST_BACKWARD / 2.0 if backward else 1.0
                values = _casted(operation)
                seconds["elementwise"] += float(stack.cast) * CAST_BYTES * share * values / machine.bandwidth
        elif isinstance(operation, Attention):
            spent, work, carried = _attention(operation, machine, width, heads)
            seconds["attention"] += spent
            flops[machine.profile.compute_format("bf16")] += work
            moved += carried
        elif isinstance(operation, Vector):
            factor = float(stack.elementwise) if operation.name != "softmax" else 1.0
            seconds["elementwise"] += factor * float(operation.bytes) * times / machine.bandwidth
            moved += float(operation.bytes)
            if operation.name.startswith("experts sum") and stack.permutation:
                carried = float(stack.permutation) * float(operation.bytes)
                if operation.name.endswith("gradient"):
                    carried /= 2.0
                seconds["permutation"] += carried / machine.bandwidth
        elif isinstance(operation, Collective):
            kind, spent = _collective(operation, machine, layout)
            seconds[kind] += spent * times
            sent += float(operation.bytes)
        elif isinstance(operation, Gather):
            size = float(operation.unique_rows) * operation.row_bytes * times
            if operation.tensor in machine.offloaded:
                name = "early rows" if operation.address_known == "token" else "host rows"
                seconds[name] += _from_host(operation, machine) * times
            else:
                seconds["gather"] += size / machine.bandwidth
            moved += size
        elif isinstance(operation, Stream):
            seconds["elementwise"] += float(operation.bytes) * times / machine.bandwidth
            moved += float(operation.bytes)
    return Work(dict(seconds), dict(flops), moved, sent)


def _from_host(operation: Gather, machine: TrainingMachine) -> float:
    """Rows of a table in the host's memory: whole granules over the link, and no faster than accesses in flight allow,
    rows * latency / outstanding."""
    tier, rows = machine.host, float(operation.unique_rows)
    granule = float(tier.granule or 64.0)
    streamed = rows * ceil(operation.row_bytes / granule) * granule / machine.host_link
    if tier.latency is None or tier.outstanding is None:
        return streamed
    return max(streamed, rows * float(tier.latency) / float(tier.outstanding)) + float(tier.latency)


def _casted(operation: Matmul) -> float:
    """Values of a product's input that are cast: rows times inner size, in the forward product's own words."""
    groups = float(operation.groups)
    if operation.name.endswith(" dW"):
        return float(operation.m) / groups * float(operation.k) * groups
    if operation.name.endswith(" dx"):
        return float(operation.m) * float(operation.n)
    return float(operation.m) * float(operation.k)


def _matmul(operation: Matmul, machine: TrainingMachine) -> tuple[float, float, float]:
    """t = ((2mnk / F)^4 + (bytes / B)^4)^(1/4) with F = peak * plateau * k/(k + k0) * tile padding."""
    m, n, k, groups = float(operation.m), float(operation.n), float(operation.k), float(operation.groups)
    if m <= 0.0 or k <= 0.0:
        return 0.0, 0.0, 0.0
    work = 2.0 * m * n * k
    each = m / groups
    carried = SIXTEEN_BITS * groups * (each * n + n * k + each * k)
    rate = machine.matrix_rate(operation.format) * k / (k + float(machine.stack.half_depth))
    rate *= padding(each, n, machine)
    slowest = max(float(operation.imbalance), operation.load)
    if operation.tensor == "expert":
        rate *= float(machine.stack.expert_matmul)
    return joined(4.0, work / rate, carried / machine.bandwidth) * slowest, work, carried


def padding(m: float, n: float, machine: TrainingMachine) -> float:
    """What is left of the plateau when a product is padded to whole tiles."""
    if machine.profile.family == "hbm-gpu":
        tiles: Iterable[tuple[float, float, float]] = TILES
    else:
        tile = machine.profile.chip.matrix.tile or (1, 1, 1)
        tiles = ((tile[0], tile[1], 1.0),)
    return max(
        reached * (m / (ceil(m / height) * height)) * (n / (ceil(n / width) * width))
        for height, width, reached in tiles
    )


def _attention(
    operation: Attention, machine: TrainingMachine, width: float, heads: float
) -> tuple[float, float, float]:
    """Fused: the causal half at the stack's fraction. Unfused: the full square, and passes over the stored scores."""
    stack = machine.stack
    backward = operation.phase == "backward"
    work = float(operation.pairs) * operation.flops_per_pair * float(operation.repeat)
    if operation.scan:
        return (
            work * (FUSED_BACKWARD if backward else 1.0) / (machine.profile.sixteen_bit_peak * float(stack.scan)),
            work,
            0.0,
        )
    rate = machine.profile.sixteen_bit_peak * float(stack.attention) * ((width or WIDTH) / WIDTH) ** 0.35
    if stack.fused_attention:
        return work * (FUSED_BACKWARD if backward else 1.0) / rate, work, 0.0
    if width % 8:
        rate /= float(stack.misaligned)
    square = 2.0 * float(operation.pairs)
    passes = float(stack.softmax_passes) * (SOFTMAX_BACKWARD if backward else 1.0)
    carried = passes * SIXTEEN_BITS * square * heads * float(operation.repeat)
    seconds = 2.0 * work / rate + float(stack.elementwise) * carried / machine.bandwidth
    return seconds, 2.0 * work, carried


def _collective(operation: Collective, machine: TrainingMachine, layout: TrainingLayout) -> tuple[str, float]:
    """("tp", "ep" or "cp", seconds): all-to-all as `_exchanged`, links and network at once; a ring hands its part on
    n - 1 times; what tensor parallelism sums, gathers and scatters as cost/collective says."""
    n, size, latency = operation.group, float(operation.bytes), float(machine.stack.latency)
    if operation.pattern == "all_to_all":
        near, far = _exchanged(operation, min(n, machine.domain))
        return "ep", max(near / machine.link, far / machine.network if far else 0.0) + latency
    if operation.pattern == "ring":
        return "cp", (n - 1) * machine.collective("send_receive", size / (n - 1), n, layout.tp)
    return "tp", machine.collective(operation.pattern, size, n)


def _exchanged(operation: Collective, inside: int) -> tuple[float, float]:
    """Bytes of one chip in an all-to-all of n ranks, `inside` in a domain: over the links, and over the network.

    S (inside - 1)/n and S (n - inside)/n. Tokens that reach a rank and a domain once, with k choices among n ranks in
    D domains: they are in n (1 - (1 - 1/n)^k) ranks, over the links, and come to (D - 1) (1 - (1 - 1/D)^k) others.
    """
    n, size, k = operation.group, float(operation.bytes), operation.chosen
    if not k:
        return size * (inside - 1) / n, size * (n - inside) / n
    once, domains = size / min(k, n), n / inside
    ranks = n * (1.0 - (1.0 - 1.0 / n) ** k)
    return once * ranks * (inside - 1) / inside, once * (domains - 1) * (1.0 - (1.0 - 1.0 / domains) ** k)
