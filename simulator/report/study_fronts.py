"""Charts of a sweep that set what users feel against what it takes: the fronts, and latency over the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simulator.report import canvas
from simulator.report.columns import label
from simulator.report.study_charts import End, grouped, name_ends, scale, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

LOADS = ("traffic.request_rate", "traffic.speed", "traffic.concurrency")
"""Keys of a scenario that say how much there is to do."""

MARKS = ("o", "s", "^")
MOST_CURVES = 8
"""Values of a key up to which it tells lines apart."""


class Side(NamedTuple):
    """An axis of a front: a column in words, and whether more of it is better."""

    column: str
    words: str
    more: bool


PER_CHIP = Side("per_chip", "Output throughput of a chip (tokens/s)", True)
PER_USER = Side("per_user", "Tokens a second for each user (1/s)", True)
DOLLARS = Side("cost_per_mtok_usd", label("cost_per_mtok_usd"), False)
WAIT = Side("wait_s", "Mean end to end latency (s)", False)


def draw_fronts(points: DataFrame, keys: Sequence[str]) -> Figure | None:
    """Throughput of a chip against the pace of each user, and dollars against latency: every point that holds its load,
    and as a line the front of those that no other beats on both. None where no two points can be set against each
    other. points: a row for each combination of `keys`, model and machine."""
    sides = [(PER_USER, PER_CHIP), (WAIT, DOLLARS)]
    known = _with_sides(points)
    drawn = [pair for pair in sides if all(side.column in known and known[side.column].notna().any() for side in pair)]
    if len(known) < 2 or not drawn:
        return None
    with canvas.style():
        fig = canvas.figure(3.6, canvas.WIDTH if len(drawn) > 1 else 5.4)
        axes = fig.subplots(1, len(drawn), squeeze=False)[0]
        by = told_apart(points, [key for key in keys if points[key].nunique() < MOST_CURVES and key not in LOADS])
        ends = [_front(ax, known, by, *pair) for ax, pair in zip(axes, drawn, strict=True)]
        fig.draw_without_rendering()
        for ax, names in zip(axes, ends, strict=True):
            name_ends(ax, names)
        return fig


def _with_sides(points: DataFrame) -> DataFrame:
    """The points that hold their load, with the columns of the sides that they have numbers for."""
    held = points[~_saturated(points)]
    made = {}
    if {"output_throughput", "chips"} <= set(held):
        made["per_chip"] = held["output_throughput"].astype(float) / held["chips"].astype(float)
    if "tpot_mean_ms" in held:
        made["per_user"] = 1e3 / held["tpot_mean_ms"].astype(float)
    if "e2el_mean_ms" in held:
        made["wait_s"] = held["e2el_mean_ms"].astype(float) / 1e3
    return held.assign(**made)


def _front(ax: Axes, points: DataFrame, by: Sequence[str], x: Side, y: Side) -> list[End]:
    """One front; the place of each line's name. After seven colours the marks change."""
    there = points[x.column].notna() & points[y.column].notna()
    known = points[there]
    ends: list[End] = []
    for color, dash, words, all_rows in grouped(points, by):
        rows = all_rows[there[all_rows.index]]
        if rows.empty:
            continue
        mark = MARKS[canvas.DASHES.index(dash)]
        ax.plot(rows[x.column], rows[y.column], mark, color=color, markersize=3.2, alpha=0.75, markeredgewidth=0)
        last = rows.sort_values(x.column).iloc[-1]
        ends.append((float(last[x.column]), float(last[y.column]), words, color))
    front = known.sort_values([x.column, y.column], ascending=[not x.more, not y.more])
    sign = -1.0 if y.more else 1.0
    cost = sign * front[y.column].astype(float)
    front = front[cost < cost.cummin().shift(fill_value=np.inf)]
    ax.plot(front[x.column], front[y.column], color=canvas.INK, linewidth=0.9, alpha=0.6, zorder=0)
    for which, side in (("x", x), ("y", y)):
        scale(ax, which, known[side.column].to_numpy(dtype=float))
        getattr(ax, f"set_{which}label")(side.words)
    ax.set_title("line: the front", loc="right", color=canvas.SOFT)
    return ends


def draw_capacity(points: DataFrame, keys: Sequence[str]) -> Figure | None:
    """Latency over the load, a panel for the first token and one for each further: p99 where runs of events know
    it, else means. A line ends with the last load that its machine holds; what it can hold at most stands above as a
    tick. None where no load varies."""
    load = next((key for key in LOADS if key in keys and points[key].nunique() > 1), None)
    if load is None:
        return None
    shown = [column for column in (_latency(points, name) for name in ("ttft", "tpot")) if column]
    if not shown:
        return None
    by = told_apart(points, [key for key in keys if key != load])
    with canvas.style():
        fig = canvas.figure(3.4, canvas.WIDTH if len(shown) > 1 else 5.4)
        axes = fig.subplots(1, len(shown), squeeze=False)[0]
        for ax, column in zip(axes, shown, strict=True):
            ends = _capacity(ax, points, by, load, column)
        fig.draw_without_rendering()
        name_ends(axes[-1], ends)
        return fig


def _saturated(points: DataFrame) -> Series:
    """Which points are saturated under any of their seeds; none where that is not told, as of training."""
    return points.get("saturated", 0.0 * points.index.to_series()).astype(float) > 0


def _latency(points: DataFrame, name: str) -> str:
    """The column of a latency that has numbers, the tail first; empty where none has."""
    for column in (f"{name}_p99_ms", f"{name}_mean_ms"):
        if column in points and points[column].notna().any():
            return column
    return ""


def _capacity(ax: Axes, points: DataFrame, by: Sequence[str], load: str, column: str) -> list[End]:
    saturated = _saturated(points)
    ends: list[End] = []
    for color, dash, words, rows in grouped(points, by):
        held = rows[~saturated[rows.index]].sort_values(load)
        if not held.empty:
            ax.plot(held[load], held[column], color=color, linestyle=dash, marker="o", markersize=3)
            ends.append((float(held[load].iloc[-1]), float(held[column].iloc[-1]), words, color))
        beyond = rows[saturated[rows.index]]
        if len(beyond) and load == "traffic.request_rate" and beyond["sustainable_rate"].notna().any():
            ax.plot([beyond["sustainable_rate"].mean()], [0.985], "v", color=color, markersize=5, clip_on=False,
                    transform=ax.get_xaxis_transform())  # fmt: skip
    scale(ax, "x", points[load].to_numpy(dtype=float))
    scale(ax, "y", points.loc[~saturated, column].to_numpy(dtype=float))
    limit = points.get(f"slo_{column.partition('_')[0]}_ms")
    if limit is not None and limit.nunique() == 1:
        ax.axhline(float(limit.iloc[0]), color=canvas.INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0.5)
        ax.annotate("SLO", (1, float(limit.iloc[0])), (-2, 2), xycoords=("axes fraction", "data"), ha="right",
                    textcoords="offset points", fontsize=7, color=canvas.INK)  # fmt: skip
    ax.set_xlabel(label(load))
    ax.set_title(label(column), loc="left")
    if saturated.any() and load == "traffic.request_rate":
        ax.set_title("▼ most that it holds", loc="right", color=canvas.SOFT, fontsize=7)
    return ends
