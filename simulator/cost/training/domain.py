"""A run's scale-up domain as the node of a profile: its collectives cost what the description of the fabric says."""

from __future__ import annotations

from functools import lru_cache

from simulator.hardware.profile import Profile
from simulator.quantity import Known

CLOSED = 256
"""Chips from which a slice closes the axes that smaller ones leave open (16 x 16 of TPU v5e and v6e)."""


def as_node(profile: Profile, chips: int, network: float | None, latency: float) -> Profile:
    """The profile with `chips` chips in its node: a slice of a torus or mesh in as even axes as it has, else as it is.

    network: B/s of a chip between nodes in place of the profile's. latency: seconds of one step of a collective in
    place of the fabric's, 0 for its own.
    """
    node = profile.node
    fabric, scale_out = node.fabric, node.scale_out
    if fabric.kind in ("torus", "mesh"):
        dimensions = max(1, sum(axis > 1 for axis in fabric.axes or ()))
        kind = "torus" if chips >= CLOSED else fabric.kind
        fabric = fabric.model_copy(update={"axes": even_axes(chips, dimensions), "kind": kind})
    if latency:
        fabric = fabric.model_copy(update={"latency": Known(latency)})
    if scale_out is not None and network is not None:
        scale_out = scale_out.model_copy(update={"bandwidth": Known(network), "machine": None})
    return profile.model_copy(
        update={"node": node.model_copy(update={"chips": chips, "fabric": fabric, "scale_out": scale_out})}
    )


@lru_cache(256)
def even_axes(chips: int, dimensions: int) -> tuple[int, ...]:
    """`chips` as a product of so many axes, the longest as short as possible: 3,072 = 12 x 16 x 16."""
    if dimensions == 1:
        return (chips,)
    divisors = [axis for axis in range(1, chips + 1) if chips % axis == 0]
    shapes = [tuple(sorted((axis, *even_axes(chips // axis, dimensions - 1)))) for axis in divisors]
    return min(shapes, key=lambda shape: (shape[-1], -shape[0]))
