"""Where the tensors of each class lie: which tiers hold how much of them, and what a nearer tier caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from simulator.model.number_format import tensor_class

Policy = Literal["pinned", "lru", "lfu"]


@dataclass(frozen=True)
class Near:
    """A nearer tier that holds copies of a `share` of a class: the rows, experts or neurons used most.

    pinned: the hottest, for ever. lru: the last used. lfu: those used most so far, which are the hottest after a while.
    """

    tier: str
    share: float
    policy: Policy = "pinned"


@dataclass(frozen=True)
class Swap:
    """A farther tier that takes the caches of preempted sequences: `size` bytes of each chip, None for all that is
    left."""

    tier: str
    size: float | None = None


@dataclass(frozen=True)
class Place:
    """`shares`: tier -> share of the class's bytes, cut layer by layer, so that reads are shared out alike. They add up
    to 1. `near`: a cache before them; `swap`: room behind them."""

    shares: Mapping[str, float]
    near: Near | None = None
    swap: Swap | None = None

    def in_tier(self, name: str) -> float:
        """Share of the bytes that lie in a tier, copies in a cache not counted."""
        return self.shares.get(name, 0.0)


@dataclass(frozen=True)
class Placement:
    """Tensor class -> place. What is not named, and activations, lie in the chip's main memory."""

    places: Mapping[str, Place] = field(default_factory=dict)

    def of(self, tensor: str) -> Place | None:
        """The place of a tensor, or else of its class; None where it is the main memory."""
        return self.places.get(tensor) or self.places.get(tensor_class(tensor))

    @property
    def tiers(self) -> set[str]:
        """Every tier that it names."""
        named = {name for place in self.places.values() for name in place.shares}
        named |= {place.swap.tier for place in self.places.values() if place.swap}
        return named | {place.near.tier for place in self.places.values() if place.near}
