"""Time in whole ticks of 2**-50 s (0.9 fs), so that it is exact.

Integers add without rounding, in any order: a run of n steps ends at the same instant whether it was stepped through or
summed in closed form, and the same run gives the same bits on every machine.
"""

from __future__ import annotations

TICKS_PER_SECOND = 2.0**50
SECONDS_PER_TICK = 2.0**-50


def ticks(seconds: float) -> int:
    """The nearest whole tick."""
    return round(seconds * TICKS_PER_SECOND)
