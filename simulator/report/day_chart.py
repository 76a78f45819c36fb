"""The hours of a day, and which machines carry their load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from simulator.report import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_day(carried: Mapping[str, np.ndarray], holds: Sequence[float]) -> Figure | None:
    """Requests a second of each hour, stacked from the base up, each named in its area, below lines up to which
    they hold. None for a day that has one load.

    carried: who -> [hours] 1/s, the base first; holds: 1/s of each.
    """
    hours = len(next(iter(carried.values())))
    if hours < 2:
        return None
    with canvas.style():
        fig = canvas.figure(3.2, 6.4)
        ax = fig.subplots()
        edges = np.arange(hours + 1)
        below = np.zeros(hours)
        top = 0.0
        for colour, (name, load), most in zip(canvas.MACHINES, carried.items(), holds, strict=False):
            ax.stairs(below + load, edges, baseline=below, fill=True, color=colour, alpha=0.55)
            middle = float(np.average(edges[:-1] + 0.5, weights=load)) if load.any() else hours / 2
            there = min(int(middle), hours - 1)
            ax.text(middle, float(below[there] + load[there] / 2), name, ha="center", va="center")
            below, top = below + load, top + most
            ax.axhline(top, color=colour, linewidth=1.0)
        ax.set_xlim(0, hours)
        ax.set_ylim(0, 1.1 * top)
        ax.set_xlabel("Hour of the day" if hours == 24 else "Part of the day")
        ax.set_ylabel("Requests a second (1/s)")
        return fig
