"""The largest rate that keeps some limits, in few runs."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

WORST = 1.0
"""Excess beyond which it is all the same how far a limit is missed: latencies of a queue that grows have no slope."""

WITHIN = 0.1
"""Share of the bracket, at either end, in which no run is made."""

SMALLER = 1.5
"""By which a rate is divided that misses the limits before any is known that keeps them."""


def largest(
    excess: Callable[[float], float], start: float, highest: float, close: float = 0.01, runs: int = 8
) -> float | None:
    """The largest x below `highest` with excess(x) <= 0, from `start`, to a share `close` of itself; None when no run
    finds one.

    False position in log(x) with the Illinois rule: the end that stays twice has its excess halved. `highest` misses.
    """
    x, low, high, side = log(start), None, (log(highest), WORST), 0
    for _ in range(runs):
        value = max(-WORST, min(WORST, excess(exp(x))))
        if value <= 0.0:
            high = (high[0], high[1] / 2) if side < 0 else high
            low, side = (x, value), -1
        else:
            low = (low[0], low[1] / 2) if low and side > 0 else low
            high, side = (x, value), 1
        if low is None:
            x -= log(SMALLER)
            continue
        width = high[0] - low[0]
        if width < close:
            break
        share = -low[1] / (high[1] - low[1])
        x = low[0] + width * max(WITHIN, min(1.0 - WITHIN, share))
    return exp(low[0]) if low else None
