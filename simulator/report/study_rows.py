"""A chart of a study of many models on many machines: a row for each pair, in place of lines that nobody can follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simulator.report import canvas
from simulator.report.columns import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

ROW = 0.16
"""Inches of a row."""

SMALLEST, LARGEST = 8.0, 34.0
"""Areas of the dots of the first and the last value, in square points."""


def draw_rows(means: DataFrame, x: str, metrics: Sequence[str]) -> Figure:
    """A panel for each metric and in it, under the name of each model, a row for each machine: a dot for each value of
    `x`, larger from value to value, on a common log axis."""
    models, machines = (list(dict.fromkeys(means[name])) for name in ("model", "machine"))
    values = sorted(means[x].unique())
    with canvas.style():
        across, height = 2, len(models) * (len(machines) + 1.4)
        down = -(-len(metrics) // across)
        fig = canvas.figure((ROW * height + 0.6) * down + 0.5)
        grid = fig.subplots(down, across, sharey=True, squeeze=False)
        for ax, metric in zip(grid.flat, metrics, strict=False):
            _panel(ax, means, x, metric, models, machines)
        for ax in grid.flat[len(metrics) :]:
            ax.set_axis_off()
        dots = ", ".join(f"{value:,g}" for value in values)
        fig.supxlabel(f"Dots from small to large: {label(x).lower()}: {dots}", fontsize=7, color=canvas.SOFT)
        return fig


def _panel(ax: Axes, means: DataFrame, x: str, metric: str, models: Sequence[str], machines: Sequence[str]) -> None:
    ticks: list[tuple[float, str, str]] = []
    top = 0.0
    for model in models:
        ticks.append((top, model, canvas.INK))
        for index, machine in enumerate(machines):
            rows = means[(means["model"] == model) & (means["machine"] == machine)]
            line = rows.groupby(x)[metric].mean().dropna()
            color = canvas.MACHINES[index % len(canvas.MACHINES)]
            y = top + 1.0 + index
            ticks.append((y, machine, color))
            ax.plot(line, [y] * len(line), color=color, linewidth=0.8, alpha=0.6)
            ax.scatter(line, [y] * len(line), s=np.linspace(SMALLEST, LARGEST, len(line)), color=color, linewidths=0)
        top += len(machines) + 1.4
    canvas.logarithmic(ax, "x", means[metric].to_numpy(dtype=float))
    ax.set_ylim(top - 0.9, -0.7)
    ax.set_yticks([y for y, _, _ in ticks], labels=[text for _, text, _ in ticks])
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_title(label(metric), loc="left")
    for name, (_, text, color) in zip(ax.get_yticklabels(), ticks, strict=False):  # the left panels carry them
        name.set_color(color)
        name.set_fontweight("bold" if text in models else "normal")
