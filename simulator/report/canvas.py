"""What all charts share: the style sheet, the colours of machines and of parts, rows of bars, logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.report.names import run_names
from simulator.report.numerals import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from simulator.report.result import Report, RunResult

STYLE = Path(__file__).with_name("style.mplstyle")
WIDTH = 8.4  # inches: two columns of a paper
INK, SOFT, FAINT = "#222222", "#666666", "#E4E4E4"
MACHINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))  # after seven machines the colours come round again
PARTS = {  # in the order in which they are stacked
    "compute": "#D55E00",
    "sram": "#CC79A7",
    "hbm": "#0072B2",
    "gddr": "#56B4E9",
    "lpddr": "#A6D5F2",
    "ddr": "#009E73",
    "cxl": "#4DC3A3",
    "nvme": "#B3D96B",
    "remote": "#7A9A01",
    "network": "#E69F00",
    "overhead": "#A6A6A6",
    "active": "#F0E442",
    "idle": "#CFCFCF",
    "host": "#7F7F7F",
    "cooling": "#404040",
}
TENSORS = {  # in the order in which they are stacked
    "attention": "#0072B2",
    "ffn": "#56B4E9",
    "expert": "#009E73",
    "router": "#B3D96B",
    "table": "#E69F00",
    "kv": "#D55E00",
    "activation": "#CC79A7",
    "embedding": "#7F7F7F",
    "head": "#BFBFBF",
}
OTHER = "#8C5A2B"  # a part that has no colour of its own


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib under the style sheet alone, whatever the user's own matplotlibrc says."""
    import matplotlib.style

    with matplotlib.style.context(str(STYLE), after_reset=True):
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches, not known to pyplot (so nothing opens a window or leaks)."""
    return _shown_by_notebooks()(figsize=(width, height))


@cache
def _shown_by_notebooks() -> type[Figure]:
    """A figure that a notebook shows by itself, with or without its own integration of matplotlib."""
    from matplotlib.figure import Figure

    class Chart(Figure):
        def _repr_png_(self) -> bytes:
            file = BytesIO()
            with style():
                self.savefig(file, format="png", metadata={"Software": None})
            return file.getvalue()

    return Chart


@dataclass(frozen=True)
class Line:
    """A run as charts see it."""

    run: RunResult
    name: str
    color: str
    dash: Any

    @property
    def model(self) -> str:
        return str(self.run.summary["model"])


def lines(report: Report) -> tuple[Line, ...]:
    """Every run with its name, and a colour that its machine (as named) keeps over models and charts."""
    names = run_names(report)
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return tuple(
        Line(run, name, MACHINES[order[name] % len(MACHINES)], DASHES[order[name] // len(MACHINES) % len(DASHES)])
        for run, name in zip(report.runs, names, strict=True)
    )


def by_model(report: Report) -> dict[str, list[Line]]:
    """The runs of each model, in the scenario's order."""
    groups: dict[str, list[Line]] = {}
    for line in lines(report):
        groups.setdefault(line.model, []).append(line)
    return groups


@dataclass(frozen=True)
class Rows:
    """Rows of a bar chart from top to bottom: a heading for each model, then its runs."""

    places: tuple[tuple[float, Line], ...]
    headings: tuple[tuple[float, str], ...]
    height: float  # in rows

    @property
    def inches(self) -> float:
        return 0.27 * self.height

    def dress(self, axes: Sequence[Axes]) -> None:
        """Names at the left of the first of the axes, which share these rows; the others carry none."""
        ticks = sorted([(y, line.name, False) for y, line in self.places] + [(y, m, True) for y, m in self.headings])
        for position, ax in enumerate(axes):
            ax.set_ylim(self.height - 0.4, -0.6)
            ax.set_yticks([y for y, _, _ in ticks], labels=[text for _, text, _ in ticks] if position == 0 else [])
            ax.tick_params(axis="y", length=0)
            ax.grid(False, axis="y")
            ax.spines["left"].set_visible(False)
        for label, (_, _, heading) in zip(axes[0].get_yticklabels(), ticks, strict=True):
            label.set_fontweight("bold" if heading else "normal")
            label.set_color(INK)


def rows(report: Report) -> Rows:
    """The rows of `report`, half a row apart between models."""
    places: list[tuple[float, Line]] = []
    headings: list[tuple[float, str]] = []
    y = 0.0
    for model, members in by_model(report).items():
        y += 0.5 if headings else 0.0
        headings.append((y, model))
        places += [(y + 1 + i, line) for i, line in enumerate(members)]
        y += 1 + len(members)
    return Rows(tuple(places), tuple(headings), y)


def stack_order(names: Iterable[str], palette: Mapping[str, str] = PARTS) -> list[str]:
    """Parts in the order of their palette, unknown ones last."""
    order = {name: index for index, name in enumerate(palette)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))


def on_color(color: str) -> str:
    """Black or white, whichever is read more easily on `color` (relative luminance, WCAG 2)."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#FFFFFF" if luminance < 0.30 else "#000000"


def logarithmic(ax: Axes, which: str, values: Iterable[float], room: float = 1.0) -> tuple[float, float] | None:
    """A log scale around the positive `values` with plain numbers, and its limits; None when there is no value.
    The margin at the upper end is `room` times that at the lower."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis: Axis = getattr(ax, f"{which}axis")
    known = [value for value in values if np.isfinite(value) and value > 0]
    if not known:
        axis.set_major_locator(NullLocator())
        return None
    low, high = float(np.log10(min(known))), float(np.log10(max(known)))
    margin = max(0.05 * (high - low), 0.12)
    limits = 10 ** (low - margin), 10 ** (high + margin * room)
    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}lim")(*limits)
    axis.set_major_locator(FixedLocator(log_ticks(*limits)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    return limits


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between `low` and `high`: powers of ten, or 1-2-5, or finer on a short axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks: list[float] = []
    for digits in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: math.ceil(len(ticks) / 7)] if ticks else ticks


def short(value: float) -> str:
    """A tick's number: "0.5", "20", "5k", "2M", "100µ"."""
    if 1e-3 * 0.9999 <= abs(value) < 1e3 * 0.9999 or value == 0:
        return f"{value:.4g}"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= size * 0.9999:
            return f"{value / size:.4g}{letter}"
    return significant(value, 1)


def shares(ax: Axes, text: str) -> None:
    """Make the x axis one of shares from 0 to 1, in per cent."""
    ax.set_xlim(0, 1)
    ax.set_xticks(np.linspace(0, 1, 5))
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    ax.set_xlabel(f"{text} (%)")


def nothing(ax: Axes, why: str) -> None:
    """Say in an empty panel why it is empty."""
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=SOFT)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions close to the `wanted` ones that lie at least `gap` apart, in the same order."""
    order = np.argsort(wanted, kind="stable")
    clusters: list[list[float]] = []  # [mean, count]
    for index in order:
        clusters.append([float(wanted[index]), 1.0])
        while len(clusters) > 1 and clusters[-1][0] - clusters[-2][0] < gap * (clusters[-1][1] + clusters[-2][1]) / 2:
            mean, count = clusters.pop()
            first, number = clusters.pop()
            clusters.append([(mean * count + first * number) / (count + number), count + number])
    placed = [mean + gap * (i - (count - 1) / 2) for mean, count in clusters for i in range(int(count))]
    result = [0.0] * len(placed)
    for position, index in zip(placed, order, strict=True):
        result[int(index)] = position
    return result
