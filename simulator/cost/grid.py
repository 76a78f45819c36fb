"""Collectives on a torus or a mesh: axis after axis, or around a ring that winds through all axes."""

from __future__ import annotations

from itertools import combinations
from math import prod

from simulator.cost.phase import Phase
from simulator.cost.switch import PASSES, hop_latency
from simulator.hardware.fabric import Fabric
from simulator.model.operation import Array
from simulator.stack.parameters import Collectives


def winds(n: int, fabric: Fabric) -> bool:
    """Whether a ring through all n chips winds through two axes or more: their number is even, or the axes close."""
    whole = fabric.wrap and prod(fabric.axes or ()) == n
    return len(block_of(n, fabric.axes or (n,))) > 1 and (n % 2 == 0 or whole)


def winding_ring(pattern: str, size: Array, n: int, fabric: Fabric, software: Collectives) -> Phase:
    """Both ways round a ring that visits every chip: n/2 hops, (n-1)/n * S / (2B); twice for an all-reduce. What has
    no use for a ring goes axis by axis."""
    if pattern not in ("all_reduce", "all_gather", "reduce_scatter"):
        return axis_by_axis(pattern, size, n, fabric, software)
    both = 2.0 * _link(fabric) * float(software.ring_bandwidth or software.bandwidth)
    hops = n / 2 * hop_latency(fabric, software)
    return Phase(PASSES[pattern] * hops, PASSES[pattern] * (n - 1) / n * size / both)


def _link(fabric: Fabric) -> float:
    """B/s of all links between two neighbours, one direction."""
    return float(fabric.bandwidth or float("inf")) * int(fabric.links_per_axis)


def axis_by_axis(pattern: str, size: Array, n: int, fabric: Fabric, software: Collectives) -> Phase:
    """Along an axis of a chips, with links on both sides of each chip,

        all-gather, reduce-scatter: (a - 1) hops one way on a line, a/2 in a ring;  (a-1)/a * S / (sides * B)
        all-reduce: a reduce-scatter and an all-gather; the next axis handles 1/a of the buffer

    sides = 2 in a ring (less where the stack says what both sides reach); on a line the end chips receive everything
    over one link, so 1. With several axes the buffer is cut in as many parts, each starting on another axis, so that
    all links work at once. All-to-all is bound by the bisection of its longest axis: half of S crosses it for each of
    n/2 chips, a/4 * S / B on a line, a/8 in a ring.
    """
    axes = block_of(n, fabric.axes or (n,))
    bandwidth = _link(fabric) * float(software.bandwidth)
    round_ring = 2.0 * float(software.ring_bandwidth or software.bandwidth) / float(software.bandwidth)
    hop = hop_latency(fabric, software)
    if pattern == "send_receive":
        return Phase(hop, size / bandwidth, chunked=False)
    rings = [fabric.wrap and axis in (fabric.axes or ()) and axis > 2 for axis in axes]
    hops = sum(axis / 2 if ring else axis - 1 for axis, ring in zip(axes, rings, strict=True))
    if pattern == "all_to_all":
        distance = max((axis / 8 if ring else axis / 4 for axis, ring in zip(axes, rings, strict=True)), default=0.0)
        return Phase(hops * hop, size * distance / bandwidth)
    share = 0.0
    for phase in range(len(axes)):
        terms = []
        for part in range(len(axes)):
            before = prod(axes[(part + earlier) % len(axes)] for earlier in range(phase))
            axis = axes[(part + phase) % len(axes)]
            sides = round_ring if rings[(part + phase) % len(axes)] else 1.0
            terms.append((axis - 1) / axis / before / sides)
        share += max(terms) / len(axes)
    return Phase(PASSES[pattern] * hops * hop, PASSES[pattern] * share * size / bandwidth)


def block_of(n: int, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that a group of n chips takes: whole axes where they multiply to n, else the squarest block."""
    for count in range(1, len(whole) + 1):
        for chosen in combinations(whole, count):
            if prod(chosen) == n:
                return tuple(sorted(chosen))
    first = max(whole)
    shapes = [(a, n // a) for a in range(1, n + 1) if n % a == 0 and a <= first]
    a, b = min(shapes, key=lambda shape: abs(shape[0] - shape[1])) if shapes else (n, 1)
    return tuple(sorted(x for x in (a, b) if x > 1))
