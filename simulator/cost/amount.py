"""What an operation costs one chip: seconds by what bounds it, FLOPs by format, bytes by tier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from simulator.model.operation import Array

COMPUTE, NETWORK, OVERHEAD = "compute", "network", "overhead"
"""Names of time shares besides the memory tiers'."""


@dataclass(frozen=True)
class Amount:
    """seconds: share of time by bound (compute, a tier, network, overhead), which add up to the operation's time.
    flops: by compute format. bytes: by tier. sent: bytes over the fabric, by pattern of the message. All of one chip;
    crossed: bytes from one half of the replica's chips to the other (bisection.py). Values may be arrays."""

    seconds: dict[str, Array] = field(default_factory=dict)
    flops: dict[str, Array] = field(default_factory=dict)
    bytes: dict[str, Array] = field(default_factory=dict)
    sent: dict[str, Array] = field(default_factory=dict)
    crossed: Array = 0.0

    def times(self, factor: Array) -> Amount:
        """The same, `factor` times."""
        return self._each(lambda value: value * factor)

    def of_chips(self, share: Array) -> Amount:
        """The mean of chips of which a share does that work at a time: less work in the same time."""
        return replace(self.times(share), seconds=self.seconds)

    def at(self, index: np.ndarray) -> Amount:
        """The entries of a table at these places; a number that is no table holds for every place."""
        return self._each(lambda value: value[index] if np.ndim(value) else value)

    def _each(self, change: Callable[[Any], Any]) -> Amount:
        return Amount(
            {name: change(value) for name, value in self.seconds.items()},
            {name: change(value) for name, value in self.flops.items()},
            {name: change(value) for name, value in self.bytes.items()},
            {name: change(value) for name, value in self.sent.items()},
            change(self.crossed),
        )

    @property
    def total_seconds(self) -> Array:
        """The operation's time."""
        return sum(self.seconds.values(), 0.0)


def add(amounts: Iterable[Amount]) -> Amount:
    """The sum: operations of a step follow one another."""
    seconds: dict[str, Array] = {}
    flops: dict[str, Array] = {}
    moved: dict[str, Array] = {}
    sent: dict[str, Array] = {}
    crossed: Array = 0.0
    for amount in amounts:
        parts = (seconds, amount.seconds), (flops, amount.flops), (moved, amount.bytes), (sent, amount.sent)
        for total, part in parts:
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        crossed = crossed + amount.crossed
    return Amount(seconds, flops, moved, sent, crossed)


def norm(a: Array, b: Array, p: float) -> Array:
    """(a^p + b^p)^(1/p): p = 1 adds, p -> infinity takes the larger. Relative to the larger, so nothing overflows."""
    larger = np.maximum(np.maximum(a, b), 1e-300)
    whole: Array = larger * (1.0 + (np.minimum(a, b) / larger) ** p) ** (1.0 / p)
    return whole


def overlapped(compute: Array, memory: Mapping[str, Array], p: float) -> dict[str, Array]:
    """Time of compute and memory that overlap: (compute^p + memory^p)^(1/p), shared out as compute^p : memory^p.

    `memory`: tier -> seconds; the tiers follow one another, and their share is cut in proportion. p = 1 adds,
    p -> infinity takes the larger. Computed relative to the larger, so nothing under- or overflows.
    """
    moving = sum(memory.values(), 0.0)
    larger = np.maximum(np.maximum(compute, moving), 1e-300)
    first, second = (compute / larger) ** p, (moving / larger) ** p
    whole = larger * (first + second) ** (1.0 / p)
    share = first / np.maximum(first + second, 1e-300)
    left = whole * (1.0 - share)
    if len(memory) == 1:
        return {COMPUTE: whole * share, **dict.fromkeys(memory, left)}
    return {COMPUTE: whole * share, **{tier: left * (s / np.maximum(moving, 1e-300)) for tier, s in memory.items()}}
