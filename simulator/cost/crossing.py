"""Where a function of a positive number passes zero, for many numbers at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CLOSE = 1e-9
"""Of the logarithm of the place, and of the function: then a place is known."""

ROUNDS = 60
"""At most; a smooth function needs about ten, one that jumps as many as halving does."""


def crossing(
    function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """The places between `low` and `high` (positive, of one shape) at which `function`, negative below and positive
    above, passes zero; where it is positive at `low` that, where it is negative at `high` that, and `high` for those
    that are `known` already.

    Inverse quadratic interpolation in the logarithm where three places allow it, halving where they do not
    (Chandrupatla, Advances in Engineering Software 28, 1997).
    """
    a, b = np.log(high), np.log(low)
    at_a, at_b = function(high), function(low)
    done = known | (at_b >= 0) | (at_a <= 0)
    place = np.where(~known & (at_b >= 0), b, a)
    share = np.full(a.shape, 0.5)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(ROUNDS):
            if done.all():
                break
            new = a + share * (b - a)
            at_new = function(np.exp(new))
            same = (at_new >= 0) == (at_a >= 0)
            c, at_c = np.where(same, a, b), np.where(same, at_a, at_b)
            b, at_b = np.where(same, b, a), np.where(same, at_b, at_a)
            a, at_a = new, at_new
            nearer = np.abs(at_a) < np.abs(at_b)
            place = np.where(done, place, np.where(nearer, a, b))
            done = done | (np.abs(b - a) < CLOSE) | (np.where(nearer, np.abs(at_a), np.abs(at_b)) < CLOSE)
            least = np.minimum(CLOSE / np.abs(b - a), 0.5)
            chi, phi = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
            curved = (phi**2 < chi) & ((1 - phi) ** 2 < 1 - chi)
            first = at_a / (at_b - at_a) * at_c / (at_b - at_c)
            second = (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
            inside = np.where(curved, first + second, 0.5)
            share = np.clip(np.where(np.isfinite(inside), inside, 0.5), least, 1 - least)
    return np.asarray(np.exp(place))
