"""The serving loop's own time for a step, beside the device's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.model.operation import Array
from simulator.stack.stack import Stack

PARTS = 64
SHARES = (0, 3, 8, 16, 26, 36, 45, 52, 57, 61, 63, 64)
"""Slopes of the tangents that stand for the norm with the host's time, in parts of PARTS."""


@dataclass(frozen=True)
class HostFloor:
    """The serving loop's own time for a step, which runs beside the device: t = (work^p + floor^p)^(1/p).

    The engine needs straight lines, so t is the largest of some tangents of that norm: s * work + c * floor with
    s^q + c^q = 1, 1/p + 1/q = 1, at shares s = SHARES / PARTS. It is short of the norm by less than 0.5 % for every p.
    """

    seconds: float
    p: float

    @property
    def tangents(self) -> tuple[tuple[int, float], ...]:
        """(s * PARTS, c * floor in seconds) of each tangent."""
        if not self.seconds:
            return ((PARTS, 0.0),)
        if self.p == 1.0:
            return ((PARTS, self.seconds),)
        q = self.p / (self.p - 1.0)
        return tuple((share, (1.0 - (share / PARTS) ** q) ** (1.0 / q) * self.seconds) for share in SHARES)

    @property
    def free_from_s(self) -> float:
        """Work from which on the host is not felt."""
        if self.seconds and self.p == 1.0:
            return float("inf")
        return max((c / (1.0 - share / PARTS) for share, c in self.tangents if share < PARTS), default=0.0)

    def joined(self, work: Array) -> Array:
        """Seconds of a step, of which the device's `work` takes so many."""
        lines = [share / PARTS * np.asarray(work) + c for share, c in self.tangents]
        return np.asarray(np.max(lines, axis=0))


def host_floor(stack: Stack) -> HostFloor:
    """That of a stack."""
    return HostFloor(float(stack.host_floor), float(stack.host_norm))
