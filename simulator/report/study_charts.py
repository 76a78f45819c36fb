"""Charts of a study: each metric over what varies, a line for each machine and model, with its bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.report import canvas
from simulator.report.columns import label
from simulator.report.study_rows import draw_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

LOGARITHMIC = 12.0
"""Values that span more than this factor are drawn on a log scale."""

MOST_LINES = 14

LINE_HEIGHT = 0.14
"""Inches of a panel that the name of a line needs."""

End = tuple[float, float, str, str]
"""The last point of a line, its name and its colour."""


def draw_metrics(means: DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> Figure | None:
    """A panel for each metric over the first key that holds several numbers; None when no key does.

    Lines are told apart by machine, model and the other keys that vary. Where there are more than MOST_LINES of them
    only the machine and the model do, and a line is the mean over the rest, which the axis says; where even those are
    more, they are rows (study_rows.py).
    """
    from pandas.api.types import is_numeric_dtype

    numeric = [key for key in keys if is_numeric_dtype(means[key]) and means[key].nunique() > 1]
    drawn = [metric for metric in metrics if metric in means and means[metric].notna().any()]
    if not numeric or not drawn:
        return None
    x = numeric[0]
    others = [key for key in keys if key != x]
    by = told_apart(means, others)
    if by == ["machine", "model"] and means.groupby(by, dropna=False).ngroups > MOST_LINES:
        return draw_rows(means, x, drawn)
    rest = ", ".join(key.rpartition(".")[2] for key in others if key not in by and means[key].nunique() > 1)
    with canvas.style():
        across = min(2, len(drawn))
        down = -(-len(drawn) // across)
        lines = means.groupby(by, dropna=False).ngroups if by else 1
        fig = canvas.figure(max(2.5, LINE_HEIGHT * (lines + 4)) * down + 0.3)
        grid = fig.subplots(down, across, sharex=True, squeeze=False)
        ends = [(ax, _panel(ax, means, x, metric, by)) for ax, metric in zip(grid.flat, drawn, strict=False)]
        for ax in grid.flat[len(drawn) :]:
            ax.set_axis_off()
        for ax in grid[-1]:
            ax.set_xlabel(f"{label(x)}\nmeans over {rest}" if rest else label(x))
        fig.draw_without_rendering()  # gives the panels the places that the names are put beside
        for ax, names in ends:
            name_ends(ax, names)
        return fig


def told_apart(table: DataFrame, keys: Sequence[str]) -> list[str]:
    """The columns whose values make a line each: machine, model and keys that vary; where those would be too many
    lines, machine and model alone."""
    by = [name for name in ("machine", "model", *keys) if table[name].nunique() > 1]
    if by and table.groupby(by, dropna=False).ngroups > MOST_LINES:
        by = [name for name in by if name in ("machine", "model")]
    return by


def grouped(table: DataFrame, by: Sequence[str]) -> Iterator[tuple[str, Any, str, DataFrame]]:
    """Colour, dash, name and rows of each line."""
    groups = table.groupby(list(by), sort=False, dropna=False) if by else [((), table)]
    for index, (name, rows) in enumerate(groups):
        named = zip(by, name if isinstance(name, tuple) else (name,), strict=True)
        words = ", ".join(_short(key, part) for key, part in named)
        dash: Any = canvas.DASHES[index // len(canvas.MACHINES) % len(canvas.DASHES)]
        yield canvas.MACHINES[index % len(canvas.MACHINES)], dash, words, rows


def draw_front(table: DataFrame, x: str, y: str) -> Figure | None:
    """Candidates of a plan over two things of which less is better, the front that no other beats on both as a line.
    Filled: verified by events. None when no row has both."""
    known = table[table[x].notna() & table[y].notna()] if {x, y} <= set(table.columns) else table[:0]
    if known.empty:
        return None
    with canvas.style():
        fig = canvas.figure(4.2, 6.6)
        ax = fig.subplots()
        machines = list(dict.fromkeys(known["machine"]))
        ends: list[End] = []
        for index, machine in enumerate(machines):
            rows = known[known["machine"] == machine]
            color = canvas.MACHINES[index % len(canvas.MACHINES)]
            for verified, face in ((False, "none"), (True, color)):
                part = rows[rows["verified"] == verified]
                ax.scatter(part[x], part[y], s=18, facecolors=face, edgecolors=color, linewidths=0.9)
            last = rows.sort_values(x).iloc[0]
            ends.append((float(last[x]), float(last[y]), str(machine), color))
        front = known.sort_values([x, y])
        front = front[front[y] < front[y].cummin().shift(fill_value=np.inf)]
        ax.step(front[x], front[y], where="post", color=canvas.SOFT, linewidth=0.8, zorder=0)
        for which, column in (("x", x), ("y", y)):
            scale(ax, which, known[column].to_numpy(dtype=float))
        ax.set_xlabel(label(x))
        ax.set_ylabel(label(y))
        ax.set_title("Candidates; filled: simulated by events; line: the front", loc="left")
        fig.draw_without_rendering()
        name_ends(ax, ends)
        return fig


def _panel(ax: Axes, means: DataFrame, x: str, metric: str, by: list[str]) -> list[End]:
    """The lines of one metric; their last points with their names."""
    ends: list[End] = []
    for color, dash, words, rows in grouped(means, by):
        parts = [f"{metric}{end}" for end in ("", "_ci95", "_low", "_high") if f"{metric}{end}" in rows]
        line = rows.groupby(x)[parts].mean().dropna(subset=[metric])
        if line.empty:
            continue
        at, value = line.index.to_numpy(dtype=float), line[metric].to_numpy(dtype=float)
        ax.plot(at, value, color=color, linestyle=dash, marker="o", markersize=3)
        for low, high in _bands(line, metric):
            ax.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        ends.append((float(at[-1]), float(value[-1]), words, color))
    ax.set_title(label(metric), loc="left")
    scale(ax, "x", means[x].to_numpy(dtype=float))
    if metric.startswith("share_") and means[metric].dropna().between(0, 1).all():
        ax.set_ylim(0, 1)
    else:
        scale(ax, "y", means[metric].to_numpy(dtype=float))
    return ends if by else []


def _bands(line: DataFrame, metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The 95 % interval over seeds and the middle 80 % over samples, where there are such."""
    found = []
    if f"{metric}_ci95" in line:
        half, value = (np.nan_to_num(line[name].to_numpy(dtype=float)) for name in (f"{metric}_ci95", metric))
        found.append((np.maximum(value - half, 0.0), value + half))
    if f"{metric}_low" in line:
        found.append((line[f"{metric}_low"].to_numpy(dtype=float), line[f"{metric}_high"].to_numpy(dtype=float)))
    return found


def scale(ax: Axes, which: str, values: np.ndarray) -> None:
    """A log axis for values that span much, else one from zero."""
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() / known.min() > LOGARITHMIC:
        canvas.logarithmic(ax, which, known.tolist())
    elif which == "y":
        ax.set_ylim(bottom=0)


def name_ends(ax: Axes, ends: list[End]) -> None:
    """Each line's name beside its last point, moved apart where they would lie over each other."""
    heights = [ax.transData.transform((x, y))[1] for x, y, _, _ in ends]
    placed = canvas.spread(heights, 8.5 * ax.figure.get_dpi() / 72)
    right = ax.transAxes.transform((1.0, 0.0))[0]
    for (_, _, words, color), height in zip(ends, placed, strict=True):
        x, y = ax.transAxes.inverted().transform((right, height))
        ax.annotate(words, (x, y), xycoords="axes fraction", xytext=(3, 0), textcoords="offset points", color=color,
                    va="center", fontsize=7, annotation_clip=False)  # fmt: skip


def _short(key: str, value: object) -> str:
    """A machine or a model by its name, a value with the last word of its key."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if key in ("machine", "model") else f"{key.rpartition('.')[2]} {text}"
