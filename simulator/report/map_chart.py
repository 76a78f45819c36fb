"""The map of who wins: a colour for each contender, paler where samples disagree, lines of the lead over the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulator.report import canvas
from simulator.report.columns import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RASTER = 240
LEADS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Factors over the runner-up at which lines are drawn."""

JUMP = 0.1
"""Logarithm of the lead by which it may change from one cell to the next."""

NOBODY = "#EEEEEE"


@dataclass(frozen=True)
class Axis:
    """An axis of the map: its key, and its value at the shares 0 and 1; `log`: ratios are even."""

    key: str
    low: float
    high: float
    log: bool

    def at(self, share: float) -> float:
        """Its value at a share of the way."""
        return self.low * (self.high / self.low) ** share if self.log else self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class Mark:
    """A place of the map at which a border was asked again, and whether the answer was the same."""

    u: float
    v: float
    agrees: bool


@dataclass(frozen=True)
class Field:
    """Nodes of the map. place: [n, 2] shares of the axes; contenders: names; values: [n, contenders] of the metric, nan
    where a contender does not count; share: [n] of the samples in which the winner is ahead, nan without samples."""

    place: np.ndarray
    contenders: tuple[str, ...]
    values: np.ndarray
    share: np.ndarray
    more_is_better: bool


def draw_map(field: Field, axes: Sequence[Axis], metric: str, marks: Sequence[Mark] = ()) -> Figure:
    """The map with both axes in their own values, and marks on its borders. Between nodes each contender's metric is
    interpolated linearly in its logarithm over the triangles of the nodes at which it counts; outside of them the
    nearest node says who is ahead."""
    with canvas.style():
        fig = canvas.figure(5.2, 7.2)
        ax = fig.subplots()
        edges = (np.arange(RASTER) + 0.5) / RASTER
        u, v = np.meshgrid(edges, edges)
        scores = np.stack([_interpolated(field, index, u, v) for index in range(len(field.contenders))])
        nobody = ~np.isfinite(scores).any(axis=0)
        order = np.sort(np.where(np.isfinite(scores), scores, np.inf), axis=0)
        winner = np.where(nobody, -1, np.argmin(np.where(np.isfinite(scores), scores, np.inf), axis=0))
        unsure = np.any([_outside(field, index, u, v) for index in range(len(field.contenders))], axis=0)
        winner = np.where(unsure, _at_nodes(field)[_nearest(field.place, u, v)], winner)
        sure = _over_triangles(field.place, field.share, u, v) if np.isfinite(field.share).any() else np.ones(u.shape)
        picture = _colours(winner, np.nan_to_num(sure, nan=1.0))
        x, y = ([axis.at(edge) for edge in np.linspace(0, 1, RASTER + 1)] for axis in axes)
        ax.pcolormesh(x, y, picture, shading="flat", rasterized=True)
        middle = [axes[0].at(edge) for edge in edges], [axes[1].at(edge) for edge in edges]
        if len(field.contenders) > 1:
            two = np.isfinite(order[1]) & ~unsure
            lead = np.exp(np.where(two, order[1], np.nan) - np.where(two, order[0], np.nan))
            jumps = np.hypot(*np.gradient(np.log(lead))) > JUMP  # where the next one drops out, a line says nothing
            lead = np.ma.masked_invalid(np.where(jumps, np.nan, lead))
            shown = [level for level in LEADS if lead.min() < level < lead.max()] if _some(lead) else []
            if shown:
                lines = ax.contour(*middle, lead, levels=shown, colors=canvas.INK, linewidths=0.6, alpha=0.6)
                ax.clabel(lines, fmt=lambda level: f"{level:g}x", fontsize=6.5)
        for index, name in enumerate(field.contenders):
            _name(ax, winner == index, name, middle, canvas.MACHINES[index % len(canvas.MACHINES)])
        for axis, which in zip(axes, "xy", strict=True):
            if axis.log:
                canvas.logarithmic(ax, which, [axis.low, axis.high])
            getattr(ax, f"set_{which}lim")(axis.low, axis.high)
            getattr(ax, f"set_{which}label")(label(axis.key))
        ax.grid(False)
        ax.set_title(f"Ahead in: {label(metric)}; lines: lead over the next", loc="left")
        _mark(ax, axes, marks)
        return fig


def _interpolated(field: Field, index: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """log(metric) of a contender (its negative where more is better) on the raster, nan where it does not count."""
    values = field.values[:, index]
    counts = np.isfinite(values) & (values > 0)
    if not counts.any():
        return np.full(u.shape, np.nan)
    logs = np.log(values[counts]) * (-1.0 if field.more_is_better else 1.0)
    found = _over_triangles(field.place[counts], logs, u, v)
    nearest = _nearest(field.place, u, v)
    return np.where(counts[nearest], found, np.nan)


def _outside(field: Field, index: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where a contender counts, but outside of the triangles of the nodes at which it does: its value is a guess."""
    counts = np.isfinite(field.values[:, index]) & (field.values[:, index] > 0)
    return np.asarray(
        counts[_nearest(field.place, u, v)] & ~np.isfinite(_triangles(field.place[counts], counts[counts], u, v))
    )


def _at_nodes(field: Field) -> np.ndarray:
    """[n] the contender that is ahead at each node, -1 where nobody counts."""
    best = np.where(np.isfinite(field.values), field.values * (-1.0 if field.more_is_better else 1.0), np.inf)
    return np.where(np.isfinite(best).any(axis=1), np.argmin(best, axis=1), -1)


def _over_triangles(place: np.ndarray, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Linear over the triangles of the points; the nearest point's value outside of them."""
    inside = _triangles(place, values, u, v)
    return np.where(np.isfinite(inside), inside, values[_nearest(place, u, v)])


def _triangles(place: np.ndarray, values: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Linear over the triangles of the points, nan outside of them."""
    from matplotlib.tri import LinearTriInterpolator, Triangulation

    if len(place) < 3 or np.ptp(place[:, 0]) == 0 or np.ptp(place[:, 1]) == 0:
        return np.full(u.shape, np.nan)
    try:
        inside = LinearTriInterpolator(Triangulation(place[:, 0], place[:, 1]), values)(u, v)
    except (RuntimeError, ValueError):  # all points on one line
        return np.full(u.shape, np.nan)
    return np.ma.filled(np.ma.asarray(inside, dtype=float), np.nan)


def _nearest(place: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Index of the point that is nearest to each cell of the raster."""
    best = np.full(u.shape, np.inf)
    index = np.zeros(u.shape, dtype=int)
    for number, (x, y) in enumerate(place):
        distance = (u - x) ** 2 + (v - y) ** 2
        closer = distance < best
        best[closer], index[closer] = distance[closer], number
    return index


def _colours(winner: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """[raster, raster, 3] the winner's colour, mixed with white where few samples agree."""
    from matplotlib.colors import to_rgb

    palette = np.array([to_rgb(color) for color in canvas.MACHINES] + [to_rgb(NOBODY)])
    base = palette[np.where(winner < 0, len(palette) - 1, winner % len(canvas.MACHINES))]
    strength = np.where(winner < 0, 1.0, 0.25 + 0.5 * np.clip((sure - 0.5) / 0.5, 0.0, 1.0))[..., None]
    return np.asarray(base * strength + (1.0 - strength))


def _mark(ax: Axes, axes: Sequence[Axis], marks: Sequence[Mark]) -> None:
    """Discs where the border was confirmed, crosses where it was not; a legend below says which."""
    for agrees, look, words in ((True, "o", "events agree"), (False, "X", "events put it elsewhere")):
        there = [mark for mark in marks if mark.agrees == agrees]
        if there:
            x, y = [axes[0].at(mark.u) for mark in there], [axes[1].at(mark.v) for mark in there]
            ax.plot(x, y, look, color=canvas.INK, markeredgecolor="white", markersize=7, label=words, clip_on=False)
    if marks:
        ax.legend(loc="upper left", bbox_to_anchor=(0.0, -0.07), ncols=2, frameon=False, fontsize=7, borderaxespad=0.0)


def _some(values: np.ndarray) -> bool:
    known = np.ma.compressed(values)
    return bool(len(known) and known.max() > known.min())


def _name(ax: Axes, where: np.ndarray, name: str, middle: tuple[list[float], list[float]], color: str) -> None:
    """The contender's name in the middle of its area, at the cell of it that is farthest from the border."""
    if where.mean() < 0.01:
        return
    depth = np.zeros(where.shape)
    inside = where.copy()
    while inside.any():  # peel the area until one layer is left
        depth += inside
        padded = np.pad(inside, 1)
        inside = inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    edge = "right" if column > 0.85 * RASTER else "left" if column < 0.15 * RASTER else "center"
    ax.text(
        middle[0][column],
        middle[1][row],
        name,
        ha=edge,
        va="center",
        fontweight="bold",
        color=canvas.INK,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": color, "boxstyle": "round,pad=0.25"},
    )
