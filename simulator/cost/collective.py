"""Time of collectives, by the fabric's own algorithms. The fabric's shape chooses; the fastest one is taken.

S = bytes of the full buffer, n = chips in the group, B = bandwidth reached, per direction.
"""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from simulator.cost.amount import NETWORK, Amount
from simulator.cost.machine import Machine
from simulator.errors import CapacityError
from simulator.hardware.fabric import Fabric
from simulator.model.operation import Array, Collective
from simulator.stack.parameters import Collectives

# Shares of S that pass one chip's link in one direction, in units of (n - 1)/n.
_PASSES = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}


def collective(operation: Collective, machine: Machine) -> Amount:
    """Seconds and sent bytes of one chip. A group of one costs nothing."""
    if operation.group <= 1:
        return Amount()
    fabric, software = machine.profile.node.fabric, machine.stack.collectives
    if operation.group > machine.profile.node.chips:
        chips = machine.profile.node.chips
        raise CapacityError(f"a group of {operation.group} chips does not fit '{machine.profile.name}' with {chips}")
    seconds = collective_seconds(operation.pattern, operation.bytes, operation.group, fabric, software)
    seconds = np.where(np.asarray(operation.bytes) > 0, seconds, 0.0)
    n = operation.group
    sent = operation.bytes * (_PASSES.get(operation.pattern, n / (n - 1)) * (n - 1) / n)
    return Amount({NETWORK: seconds}, {}, {}, sent).times(operation.repeat)


def collective_seconds(pattern: str, size: Array, group: int, fabric: Fabric, software: Collectives) -> Array:
    """Seconds of one collective of `size` bytes among `group` chips."""
    if fabric.kind in ("torus", "mesh"):
        return _grid(pattern, size, group, fabric, software)
    return _switch(pattern, size, group, fabric, software)


def _hop(fabric: Fabric, software: Collectives) -> float:
    return 0.0 if software.fused or not software.steps or fabric.latency is None else float(fabric.latency)


def _launch(software: Collectives) -> float:
    return 0.0 if software.fused else float(software.launch)


def _switch(pattern: str, size: Array, n: int, fabric: Fabric, software: Collectives) -> Array:
    """Ring over the switch: launch + steps*hop + passes*(n-1)/n * S/B, with 2(n-1) steps for an all-reduce and n-1
    else; small all-reduces take the one-shot kernel l1 + (n-1)*S/B1 or the two-shot kernel l2 + 2(n-1)/n * S/B2."""
    link = fabric.bandwidth_in(n)
    hop, launch = _hop(fabric, software), _launch(software)
    if pattern == "send_receive":
        return launch + hop + size / (link * float(software.bandwidth))
    passes = _PASSES[pattern]
    streamed = passes * (n - 1) / n * size / (link * float(software.bandwidth))
    if software.copy_bandwidth is not None:
        streamed = streamed + size / n / (link * float(software.copy_bandwidth))
    ring = launch + passes * (n - 1) * hop + streamed + 2 * float(software.pipelining) * np.sqrt(launch * streamed)
    best: Array = ring
    if pattern == "all_reduce" and fabric.kind == "switch":  # the kernels write into peers' memory over the switch
        small = np.asarray(size) <= float(software.kernel_limit)
        if software.one_shot is not None:
            one = float(software.one_shot) + (n - 1) * size / (link * float(software.one_shot_bandwidth))
            best = np.where(small, np.minimum(best, one), best)
        if software.two_shot is not None:
            rate = link * float(software.two_shot_bandwidth)
            two = float(software.two_shot) + 2 * (n - 1) / n * size / rate
            best = np.where(small, np.minimum(best, two), best)
    return best


def _grid(pattern: str, size: Array, n: int, fabric: Fabric, software: Collectives) -> Array:
    """Axis after axis: along an axis of a chips, with links on both sides of each chip,

        all-gather, reduce-scatter: (a - 1) hops one way on a line, a/2 in a ring;  (a-1)/a * S / (sides * B)
        all-reduce: a reduce-scatter and an all-gather; the next axis handles 1/a of the buffer

    sides = 2 in a ring; on a line the end chips receive everything over one link, so 1. With several axes the buffer
    is cut in as many parts, each starting on another axis, so that all links work at once. All-to-all is bound by the
    bisection of its longest axis: half of S crosses it for each of n/2 chips, a/4 * S / B on a line, a/8 in a ring.
    """
    axes = _axes(n, fabric.axes or (n,))
    bandwidth = float(fabric.bandwidth or float("inf")) * float(software.bandwidth) * int(fabric.links_per_axis)
    hop, launch = _hop(fabric, software), _launch(software)
    if pattern == "send_receive":
        return launch + hop + size / bandwidth
    rings = [fabric.wrap and axis in (fabric.axes or ()) and axis > 2 for axis in axes]
    hops = sum(axis / 2 if ring else axis - 1 for axis, ring in zip(axes, rings, strict=True))
    if pattern == "all_to_all":
        distance = max(axis / 8 if ring else axis / 4 for axis, ring in zip(axes, rings, strict=True))
        return launch + hops * hop + size * distance / bandwidth
    share = 0.0
    for phase in range(len(axes)):
        terms = []
        for part in range(len(axes)):
            before = prod(axes[(part + earlier) % len(axes)] for earlier in range(phase))
            axis = axes[(part + phase) % len(axes)]
            sides = 2.0 if rings[(part + phase) % len(axes)] else 1.0
            terms.append((axis - 1) / axis / before / sides)
        share += max(terms) / len(axes)
    return launch + _PASSES[pattern] * (hops * hop + share * size / bandwidth)


def _axes(n: int, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that a group of n chips takes: whole axes where they multiply to n, else the squarest block."""
    for count in range(1, len(whole) + 1):
        for chosen in combinations(whole, count):
            if prod(chosen) == n:
                return tuple(sorted(chosen))
    first = max(whole)
    shapes = [(a, n // a) for a in range(1, n + 1) if n % a == 0 and a <= first]
    a, b = min(shapes, key=lambda shape: abs(shape[0] - shape[1])) if shapes else (n, 1)
    return tuple(sorted(x for x in (a, b) if x > 1))
