"""Time of collectives. The fabric's description chooses among its algorithms: the fastest one is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, reduce
from math import ceil

import numpy as np

from simulator.cost.amount import NETWORK, Amount
from simulator.cost.bisection import crossing, sent
from simulator.cost.grid import axis_by_axis, winding_ring, winds
from simulator.cost.machine import Machine
from simulator.cost.phase import Phase
from simulator.cost.scale_out import spanning
from simulator.cost.switch import kernels, ring
from simulator.errors import CapacityError
from simulator.hardware.fabric import Fabric
from simulator.hardware.profile import Node, Profile
from simulator.model.operation import Array, Collective
from simulator.stack.parameters import Collectives

Algorithm = Callable[[str, Array, int, Fabric, Collectives], Phase]
"""(pattern, bytes, chips, fabric, software) -> what it waits for and streams inside one machine."""


def collective(operation: Collective, machine: Machine) -> Amount:
    """Seconds of the busiest chip and sent bytes of the mean one. A group of one costs nothing.

    Raise CapacityError for a group that spans machines without a network between them.
    """
    n = operation.group
    if n <= 1:
        return Amount()
    if operation.row_bytes:
        rows = machine.in_tiles(operation.bytes / operation.row_bytes)
        operation = replace(operation, bytes=rows * operation.row_bytes)
    busiest = replace(operation, bytes=operation.bytes * operation.load)
    seconds = group_seconds(busiest, machine.profile, machine.stack.collectives)
    seconds = np.where(np.asarray(operation.bytes) > 0, seconds, 0.0)
    moved = {operation.pattern: sent(operation) * operation.taking}
    passing = crossing(operation, machine.parallelism.chips) * operation.taking
    return Amount({NETWORK: seconds}, sent=moved, crossed=passing).times(operation.repeat)


def group_seconds(operation: Collective, profile: Profile, software: Collectives) -> Array:
    """Seconds of one collective inside a machine or over several.

    Raise CapacityError for a group that spans machines without a network between them.
    """
    node, inside = profile.node, members_inside(operation, profile.node)
    if inside == operation.group:
        return collective_seconds(operation.pattern, operation.bytes, inside, node.fabric, software)
    if node.scale_out is None:
        raise CapacityError(
            f"a group of {operation.group} chips does not fit '{profile.name}' with {node.chips}, "
            "which has no `scale_out`"
        )
    return _spanning_seconds(operation, inside, node, software)


def members_inside(operation: Collective, node: Node) -> int:
    """Members of a group that share a machine: as many as fit, and where that is not all, equally many on each."""
    fit = min(operation.group, max(1, node.chips // operation.stride))
    return ceil(operation.group / ceil(operation.group / fit))


def collective_seconds(pattern: str, size: Array, group: int, fabric: Fabric, software: Collectives) -> Array:
    """Seconds of one collective of `size` bytes among `group` chips of one machine."""
    ways = (way(pattern, size, group, fabric, software) for way in _algorithms(group, fabric))
    seconds = [phase.seconds(software) for phase in ways]
    if pattern == "all_reduce" and fabric.kind == "switch":
        seconds += kernels(size, group, fabric, software)
    return _fastest(seconds)


def _algorithms(group: int, fabric: Fabric) -> tuple[Algorithm, ...]:
    """What the shape of the fabric allows."""
    if fabric.kind not in ("torus", "mesh"):
        return (ring,)
    return (axis_by_axis, winding_ring) if winds(group, fabric) else (axis_by_axis,)


def _spanning_seconds(operation: Collective, inside: int, node: Node, software: Collectives) -> Array:
    nodes, fabric = ceil(operation.group / inside), node.fabric
    seconds = []
    for algorithm in _algorithms(inside, fabric):
        local = partial(_on_fabric, algorithm, fabric, software)
        ways = spanning(operation.pattern, operation.bytes, inside, nodes, local, node, software)
        seconds += [phase.seconds(software) for phase in ways]
    if operation.pattern != "send_receive":
        return _fastest(seconds)
    # Of the steps of a chain, those from one machine to the next cross the network.
    crossing = (nodes - 1) / (operation.group - 1)
    within = collective_seconds("send_receive", operation.bytes, 2, fabric, software)
    return crossing * _fastest(seconds) + (1 - crossing) * within


def _on_fabric(
    algorithm: Algorithm, fabric: Fabric, software: Collectives, pattern: str, size: Array, group: int
) -> Phase:
    return algorithm(pattern, size, group, fabric, software)


def _fastest(seconds: Iterable[Array]) -> Array:
    best: Array = reduce(np.minimum, seconds)
    return best
