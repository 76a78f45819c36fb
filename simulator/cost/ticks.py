"""Time in whole ticks of 2**-50 s (0.9 fs), so that it is exact.

Integers add without rounding, in any order: a run of n steps ends at the same instant whether it was stepped through or
summed in closed form, and the same run gives the same bits on every machine.
"""

from __future__ import annotations

from simulator.errors import InputError, Problem

TICKS_PER_SECOND = 2.0**50
SECONDS_PER_TICK = 2.0**-50

LONGEST_S = 2.0**12
"""A step takes less: half of what 64 bits of ticks hold."""


def too_long(seconds: float) -> InputError:
    """The error for a step of so many seconds (any number, or none)."""
    what = f"a step takes {seconds:.3g} s, and {LONGEST_S:,.0f} s are the most that is simulated"
    return InputError(Problem(what, None, "look for a bandwidth or peak that is too low, or write smaller `limits`"))


def ticks(seconds: float) -> int:
    """The nearest whole tick."""
    return round(seconds * TICKS_PER_SECOND)
