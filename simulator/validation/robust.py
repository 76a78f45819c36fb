"""Robust least squares in logarithms: few wild errors do not lead the numbers astray, and weak evidence leaves them.

With e the errors as logarithms and x = log(number / expected value) of each number, it minimises

    sum over e of 2 * (sqrt(1 + (e / SCALE)^2) - 1)  +  sum over x of (x / spread)^2

(soft-L1: a wild error pulls with a bounded force; the second term, the prior, keeps a number that nothing identifies
where it is expected) by a damped Gauss-Newton within bounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SCALE = 0.05
"""Error, as a logarithm, from which on it pulls no harder."""

LOWEST = -3.0
STEP = 0.03
ROUNDS = 8

Errors = Callable[[np.ndarray], np.ndarray]
"""x -> e."""


def minimum(
    errors: Errors,
    highest: np.ndarray,
    spread: float | np.ndarray,
    lowest: float | np.ndarray = LOWEST,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """The x within (lowest, highest) that minimises the above, from `start`, or else from x = 0."""
    x, damping = np.zeros(len(highest)) if start is None else np.clip(start, lowest, highest), 1e-2
    e = errors(x)
    value = objective(e, x, spread)
    for _ in range(ROUNDS):
        slopes = _slopes(errors, e, x, highest)
        weight = 1.0 / np.sqrt(1.0 + (e / SCALE) ** 2) / SCALE**2
        normal = slopes.T @ (slopes * weight[:, None]) + np.eye(len(x)) / np.square(spread)
        pull = slopes.T @ (weight * e) + x / np.square(spread)
        # A number at its bound that pulls outwards stays there; the others are solved for without it.
        free = ~(((x <= lowest) & (pull > 0)) | ((x >= highest) & (pull < 0)))
        for _ in range(4):
            damped, move = normal + damping * np.diag(np.diag(normal)), np.zeros(len(x))
            move[free] = np.linalg.solve(damped[np.ix_(free, free)], pull[free])
            there = np.clip(x - move, lowest, highest)
            e_there = errors(there)
            value_there = objective(e_there, there, spread)
            if value_there < value:
                break
            damping *= 8.0
        else:
            return x
        gained = value - value_there
        x, e, value, damping = there, e_there, value_there, damping / 4.0
        if gained < 1e-3 * value:
            break
    return x


def _slopes(errors: Errors, e: np.ndarray, x: np.ndarray, highest: np.ndarray) -> np.ndarray:
    """[errors, numbers]: by forward differences, backward where the bound is near."""
    slopes = np.zeros((len(e), len(x)))
    for index in range(len(x)):
        step = -STEP if x[index] + STEP > highest[index] else STEP
        there = x.copy()
        there[index] += step
        slopes[:, index] = (errors(there) - e) / step
    return slopes


def objective(e: np.ndarray, x: np.ndarray, spread: float | np.ndarray) -> float:
    """What is minimised."""
    return float(np.sum(2.0 * (np.sqrt(1.0 + (e / SCALE) ** 2) - 1.0)) + np.sum((x / spread) ** 2))
