"""What messages ask of a fabric: bytes that one chip sends, and bytes that cross the middle of a replica's chips.

Of a group of n chips with S bytes in the full buffer of each, in one direction:

    pattern                       a chip sends       crosses the middle
    all-reduce, by a ring         2 (n-1)/n S        2 (n-1)/n S         one link of the ring leads each way
    all-gather, reduce-scatter      (n-1)/n S          (n-1)/n S
    all-to-all                      (n-1)/n S        n/4 S               n/2 chips send S/n to each of n/2 others
    send-receive, one hop         S                  n/(n-1) S           n messages pass each of n-1 borders in n-1 hops

(all-to-all of an odd n: (n^2 - 1)/(4 n) S.) A ring's share of the middle does not grow with n, an all-to-all's does;
S of an all-to-all is what one chip's own tokens need, so that for each token both are constants of the model.
"""

from __future__ import annotations

from math import prod

from simulator.cost.grid import block_of
from simulator.cost.machine import Machine
from simulator.cost.switch import PASSES
from simulator.model.operation import Array, Collective


def sent(operation: Collective) -> Array:
    """Bytes that one chip sends."""
    n = operation.group
    return operation.bytes * (PASSES.get(operation.pattern, n / (n - 1)) * (n - 1) / n)


def crossing(operation: Collective, chips: int) -> Array:
    """Bytes that pass from one half of a replica's `chips` to the other, in all groups at once. The chips of a machine
    are neighbours; of equal groups side by side none is cut but the middle one of an odd number."""
    n, stride = operation.group, operation.stride
    if chips // (n * stride) % 2 == 0:
        return operation.bytes * 0.0
    if operation.pattern == "all_to_all":
        share = (n // 2) * (n - n // 2) / n
    elif operation.pattern == "send_receive":
        share = n / (n - 1)
    else:
        share = PASSES[operation.pattern] * (n - 1) / n
    return operation.bytes * (share * stride)


def bandwidth(machine: Machine) -> float:
    """B/s that pass the middle of a replica's chips in one direction, at the profile's peaks; inf for a single chip.

    A switch or NUMA link lets each chip of a half send at its own bandwidth; a torus or mesh has the links across its
    longest axis, twice where that closes into a ring; several machines have the network cards of half of them.
    """
    node, chips = machine.profile.node, machine.parallelism.chips
    if chips == 1:
        return float("inf")
    if machine.nodes > 1 and node.scale_out is not None:
        return machine.nodes // 2 * node.chips * node.scale_out.bandwidth_of(node.chips)
    fabric = node.fabric
    if fabric.kind not in ("torus", "mesh"):
        return chips // 2 * fabric.bandwidth_in(chips // 2 + 1)
    axes = block_of(chips, fabric.axes or (chips,))
    longest = max(axes)
    ring = fabric.wrap and longest in (fabric.axes or ()) and longest > 2
    links = prod(axes) // longest * int(fabric.links_per_axis) * (2 if ring else 1)
    return links * float(fabric.bandwidth or float("inf"))
