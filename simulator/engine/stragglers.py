"""Chips of different speed: a step waits for the slowest chip of its slowest replica.

Each chip takes 1 + sigma z times as long as the mean one (z standard normal), and a few take `slowdown` times that. A
stage is as slow as the slowest of the chips that work on it together, a pipeline about as slow as its slowest stage,
and all replicas wait for the slowest one before they share their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

LEAST = 0.1
"""Of the mean chip's time: no chip is faster."""

DRAWS = 64
"""Machines that are drawn. Half of them have a slowest chip between the quartiles of its distribution."""


@dataclass(frozen=True)
class Speeds:
    """deviation: of the chips' times, over their mean; slow: share of chips that take `slowdown` times as long."""

    deviation: float
    slow: float = 0.0
    slowdown: float = 1.0

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Times of chips over that of the mean one."""
        times = np.maximum(LEAST, 1.0 + self.deviation * rng.standard_normal(shape))
        return times * np.where(rng.random(shape) < self.slow, self.slowdown, 1.0) if self.slow else times


@dataclass(frozen=True)
class Stragglers:
    """What machines of so many chips come to.

    stages     times of the stages of the slowest replica, over those of mean chips, on the machine in the middle
    ratio      of its pipeline to that of mean chips
    slowdown   the same, mean over all machines; `middle`: 90 % of them
    """

    stages: tuple[float, ...]
    ratio: float
    slowdown: float
    middle: tuple[float, float]


def expected_slowest(deviation: float, chips: int) -> float:
    """Mean of the largest of so many normal times: 1 + sigma PHI^-1((n - 0.375) / (n + 0.25)) (Blom 1958)."""
    return 1.0 + deviation * NormalDist().inv_cdf((chips - 0.375) / (chips + 0.25)) if chips > 1 else 1.0


def stragglers(
    speeds: Speeds,
    replicas: int,
    stages: int,
    together: int,
    seconds: Callable[[np.ndarray], np.ndarray],
    seed: int,
    draws: int = DRAWS,
) -> Stragglers:
    """Draw machines of replicas x stages x together chips.

    seconds: [n, stages] times over those of mean chips -> [n] of a pipeline, in closed form.
    """
    rng = np.random.default_rng(seed)
    plain = float(seconds(np.ones((1, stages)))[0])
    found: list[tuple[float, tuple[float, ...]]] = []
    for _ in range(draws):
        slowest = speeds.draw((replicas, stages, together), rng).max(axis=2)
        taken = seconds(slowest) / plain
        worst = int(np.argmax(taken))
        found.append((float(taken[worst]), tuple(slowest[worst].tolist())))
    found.sort()
    times = np.array([time for time, _ in found])
    low, high = np.quantile(times, (0.05, 0.95))
    ratio, typical = found[draws // 2]
    return Stragglers(typical, ratio, float(times.mean()), (float(low), float(high)))
