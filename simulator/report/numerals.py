"""How a number is written for a person: three significant digits, thousands apart, a dash for what never happened."""

from __future__ import annotations

import math

NOTHING = "-"


def significant(value: float | None, digits: int = 3) -> str:
    """`value` rounded to `digits` significant digits: 1234 is "1,230", 0.01234 is "0.0123", 2.5e7 is "25.0M"."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(rounded) >= size:
            return significant(rounded / size, digits) + letter
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4:
        return f"{rounded:.{digits - 1}e}"
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"


def percent(share: float | None) -> str:
    """A share of 0..1 as whole per cent: 0.714 is "71 %", and a little is "<1 %"."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def saturation(holds: float | None, offered: float | None) -> str:
    """The one phrase for a machine whose queue grows without bound; rates in requests per second."""
    of = f" of {significant(offered)}" if offered is not None else ""
    return f"saturated: holds {significant(holds)} req/s{of}"
