"""Two plots: every simulated value over the measured one, and the errors of each chip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simulator.report import canvas
from simulator.validation.compare import Point
from simulator.validation.rows import UNITS
from simulator.validation.validation import Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAMILIES = ("hbm-gpu", "dram-node", "tpu-mesh", "spatial")
AXES = {"s": "time (s)", "tok/s": "throughput (tokens/s)"}
BANDS = (0.10, 0.25)
FARTHEST = 1.0  # errors of more than 100 % are drawn at the edge


def figures(validation: Validation) -> dict[str, Figure]:
    """Name -> figure; none where nothing was simulated."""
    known = [point for point in validation.points if point.simulated is not None]
    return {"parity": draw_parity(known), "error-by-chip": draw_error_by_chip(known)} if known else {}


def _unit(point: Point) -> str:
    return UNITS[point.row.unit][1]


def _si(point: Point) -> tuple[float, float]:
    scale = UNITS[point.row.unit][0]
    return point.row.value * scale, (point.simulated or 0.0) * scale


def _color(family: str) -> str:
    return canvas.MACHINES[FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)]


def draw_parity(points: list[Point]) -> Figure:
    """Simulated over measured on logarithmic axes, a panel for times and one for rates, with lines at 10 and 25 %."""
    with canvas.style():
        units = [unit for unit in AXES if any(_unit(point) == unit for point in points)]
        fig = canvas.figure(4.2, canvas.WIDTH if len(units) > 1 else 4.4)
        for ax, unit in zip(fig.subplots(1, len(units), squeeze=False)[0], units, strict=True):
            _parity(ax, [point for point in points if _unit(point) == unit])
            ax.set_xlabel(f"Measured {AXES[unit]}")
            ax.set_ylabel(f"Simulated {AXES[unit]}")
        _legend(fig.axes[0], {point.family for point in points})
        return fig


def _parity(ax: Axes, points: list[Point]) -> None:
    values = np.array([_si(point) for point in points])
    limits = canvas.logarithmic(ax, "x", values.ravel())
    canvas.logarithmic(ax, "y", values.ravel())
    ends = np.array(limits)
    ax.plot(ends, ends, color=canvas.INK, linewidth=0.8)
    for band, dash in zip(BANDS, canvas.DASHES[1:], strict=True):
        for factor in (1 + band, 1 - band):
            ax.plot(ends, ends * factor, color=canvas.SOFT, linewidth=0.6, linestyle=dash)
    for family in FAMILIES:
        chosen = [place for place, point in enumerate(points) if point.family == family]
        if chosen:
            x, y = values[chosen].T
            ax.plot(x, y, ".", markersize=2.5, alpha=0.6, color=_color(family), rasterized=True)


def _legend(ax: Axes, families: set[str]) -> None:
    """Families of all panels, and the lines."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker=".", linestyle="", color=_color(f), label=f) for f in FAMILIES if f in families]
    for band, dash in zip(BANDS, canvas.DASHES[1:], strict=True):
        name = f"within {100 * band:.0f} %"
        handles.append(Line2D([], [], color=canvas.SOFT, linewidth=0.6, linestyle=dash, label=name))
    ax.legend(handles=handles, loc="upper left", handlelength=1.6)


def draw_error_by_chip(points: list[Point]) -> Figure:
    """Of each machine, however rows name it, the median error, and a bar from the 10th to the 90th percentile."""
    with canvas.style():
        chips: dict[tuple[int, str, str], list[float]] = {}
        for point in points:
            place = FAMILIES.index(point.family) if point.family in FAMILIES else len(FAMILIES)
            chips.setdefault((place, point.family, point.machine), []).append(point.error)
        fig = canvas.figure(0.7 + 0.24 * len(chips))
        ax = fig.subplots()
        for band, shade in zip(reversed(BANDS), ("#F4F4F4", "#E9E9E9"), strict=True):
            ax.axvspan(-100 * band, 100 * band, color=shade, zorder=0)
        ax.axvline(0, color=canvas.INK, linewidth=0.8)
        order = sorted(chips)
        for y, key in enumerate(order):
            low, middle, high = 100 * np.clip(np.quantile(chips[key], (0.1, 0.5, 0.9)), -FARTHEST, FARTHEST)
            ax.plot((low, high), (y, y), color=_color(key[1]), linewidth=3, alpha=0.45, solid_capstyle="butt")
            ax.plot(middle, y, "o", color=_color(key[1]))
        ax.set_yticks(range(len(order)), labels=[f"{key[2]}  ({len(chips[key])})" for key in order])
        ax.set_ylim(len(order) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(False, axis="y")
        ax.set_xlabel("Simulated / measured - 1 (%): median, 10th to 90th percentile (rows)")
        return fig
