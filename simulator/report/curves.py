"""Charts with a line for each run: latency distributions, queue and batch over time, rooflines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.report import canvas
from simulator.report.canvas import Line
from simulator.report.plain import finite
from simulator.report.state import mean_over_bins, state

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.result import Report, RunResult

BINS = 300  # of the time axis
RUNNING = "#C9CED3"
POINTS = 400  # of a distribution
LATENCIES = (("ttft", "Time to first token"), ("tpot", "Time per output token"), ("e2el", "End to end latency"))


def draw_latency(report: Report) -> Figure:
    """Distributions of TTFT, TPOT and E2EL over completed requests, one row of panels for each model."""
    with canvas.style():
        groups = canvas.by_model(report)
        heights = [max(2.15, 0.3 + _names_height(members) / 72) for members in groups.values()]
        fig = canvas.figure(0.35 + sum(heights))
        grid = fig.subplots(
            len(groups), 3, sharex="col", sharey=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for column, (name, title) in enumerate(LATENCIES):
            everything = [value for line in canvas.lines(report) for value in _quantiles(line, name)]
            for row, (model, members) in enumerate(groups.items()):
                ax = grid[row, column]
                _distribution(ax, members, name)
                if column == 0:
                    ax.set_ylabel("Completed requests (%)")
                    ax.set_title(model, loc="left", fontweight="bold")
            limits = canvas.logarithmic(grid[0, column], "x", everything)
            grid[-1, column].set_xlabel(f"{title}, {name.upper()} (ms)")
            if limits is None:
                canvas.nothing(grid[0, column], "no request completed")
        for row, members in enumerate(groups.values()):
            _name_lines(grid[row, 2], members)
        return fig


def draw_queue(report: Report) -> Figure:
    """Requests waiting and running on each machine over time, averaged in bins, on a scale that shows 1 and 10,000."""
    with canvas.style():
        models = len(canvas.by_model(report))
        across = 1 if len(report.runs) == 1 else max(2, min(models, 3))
        members = canvas.lines(report)
        if models > 1:  # a machine's models side by side
            names = list(dict.fromkeys(line.name for line in members))
            members = tuple(sorted(members, key=lambda line: names.index(line.name)))
        down = max(1, -(-len(members) // across))
        fig = canvas.figure(0.6 + 1.3 * down, canvas.WIDTH if across < 3 else 11.0)
        grid = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        end = max([_shown_until(line.run) for line in members], default=0.0)
        size, unit = (3600.0, "h") if end > 3 * 3600 else (60.0, "min") if end > 180 else (1.0, "s")
        for ax, line in zip(grid.flat, members, strict=False):
            _queue_panel(ax, line, size, shows_model=models > 1 or len(members) == 1)
        for ax in grid.flat[len(members) :]:
            ax.set_axis_off()
        for ax in grid[-1]:
            ax.set_xlabel(f"Time ({unit})")
        for ax in grid[:, 0]:
            ax.set_ylabel("Requests")
        grid[0, 0].set_xlim(0, end / size if end > 0 else 1)
        _queue_key(fig)
        return fig


def draw_roofline(report: Report) -> Figure:
    """Each machine's ceiling min(peak, bandwidth x intensity) with the mean prefill and decode step on it."""
    with canvas.style():
        groups = {
            model: [line for line in members if _ceiling(line)] for model, members in canvas.by_model(report).items()
        }
        groups = {model: members for model, members in groups.items() if members}
        across = 1 if len(groups) <= 1 else 2
        down = max(1, -(-len(groups) // across))
        fig = canvas.figure(3.5 * down, 6.0 if across == 1 else 10.0)
        grid = fig.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        every = [line for members in groups.values() for line in members]
        points = [point for line in every for point in _points(line)]
        corners = [(peak / bandwidth, peak) for peak, bandwidth in map(_ceiling, every)]  # type: ignore[misc]
        xs = [x for x, _, _ in points] + [x for x, _ in corners] + [x * 4 for x, _ in corners]
        limits = canvas.logarithmic(grid[0, 0], "x", xs)
        if limits is None:
            grid[0, 0].set_yticks([])
            canvas.nothing(grid[0, 0], "no roofline is known")
            return fig
        canvas.logarithmic(grid[0, 0], "y", [y for _, y, _ in points] + [y for _, y in corners], room=1.3)
        grid[0, 0].yaxis.set_major_formatter(lambda value, _: canvas.short(value / 1e12))
        for ax, (model, members) in zip(grid.flat, groups.items(), strict=False):
            _roofline_panel(ax, model, members, limits)
        for ax in grid.flat[len(groups) :]:
            ax.set_axis_off()
        for ax in grid[-1]:
            ax.set_xlabel("Arithmetic intensity (FLOP/B)")
        for ax in grid[:, 0]:
            ax.set_ylabel("Compute of one replica (TFLOP/s)")
        return fig


def _latencies(line: Line, name: str) -> np.ndarray:
    """Milliseconds of every completed request; TPOT exists from the second output token on."""
    requests = line.run.records.requests
    done = requests.completed
    if name == "ttft":
        seconds = (requests.first_token_s - requests.arrival_s)[done]
    elif name == "e2el":
        seconds = (requests.finish_s - requests.arrival_s)[done]
    else:
        done = done & (np.asarray(requests.output_tokens) > 1)
        seconds = (requests.finish_s - requests.first_token_s)[done] / (np.asarray(requests.output_tokens)[done] - 1)
    return np.asarray(1e3 * seconds[np.isfinite(seconds)], dtype=float)


def _quantiles(line: Line, name: str) -> np.ndarray:
    latencies = _latencies(line, name)
    return np.quantile(latencies, np.linspace(0.001, 0.999, POINTS)) if len(latencies) else np.empty(0)


def _distribution(ax: Axes, members: list[Line], name: str) -> None:
    for line in members:
        values = _quantiles(line, name)
        if len(values):
            dash = (0, (3, 1.5)) if line.run.saturated else line.dash
            ax.plot(values, np.linspace(0.1, 99.9, POINTS), color=line.color, linestyle=dash, solid_joinstyle="round")
    ax.set_ylim(0, 100)
    ax.set_yticks([0, 25, 50, 75, 90, 100])


def _name_lines(ax: Axes, members: list[Line]) -> None:
    """Names at the right of a row of panels, from the slowest down to the fastest as the curves lie."""

    def median(line: Line) -> float:
        values = _quantiles(line, "e2el")
        return float(np.median(values)) if len(values) else float("inf")

    down = 4.0  # points
    for line in sorted(members, key=median):
        note = _note(line)
        ax.annotate(
            line.name + (f"\n{note}" if note else ""),
            (1, 1),
            (8, -down),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=line.color,
            annotation_clip=False,
        )
        down += 25 if note else 14


def _note(line: Line) -> str:
    if not line.run.records.requests.completed.any():
        return "none completed"
    return "saturated: not steady" if line.run.saturated else ""


def _names_height(members: list[Line]) -> float:
    """Points that `_name_lines` takes."""
    return float(sum(25 if _note(line) else 14 for line in members))


DRAIN_SHOWN = 1.5
"""Arrival windows that the queue plot shows at most: a saturated machine may need days to drain."""


def _shown_until(run: RunResult) -> float:
    """When the run ended, s, but not much after the last arrival."""
    end, arrivals = float(run.records.end_s), run.records.requests.arrival_s
    if not np.isfinite(end):
        return 0.0
    last = float(arrivals[-1]) if len(arrivals) else 0.0
    return min(end, DRAIN_SHOWN * last) if last > 0 else end


def _queue_panel(ax: Axes, line: Line, size: float, shows_model: bool) -> None:
    end = line.run.records.end_s
    ax.set_title(line.name + ", saturated" * line.run.saturated, loc="left", color=line.color, fontweight="bold")
    if shows_model:
        ax.set_title(line.model, loc="right", color=canvas.SOFT)
    ax.set_yscale("symlog", linthresh=1, linscale=0.5)
    ax.yaxis.set_major_formatter(lambda value, _: canvas.short(value))
    if not np.isfinite(end) or end <= 0:
        canvas.nothing(ax, "no request completed")
        return
    over = state(line.run)
    edges = np.linspace(0, _shown_until(line.run), BINS + 1)
    waiting = mean_over_bins(over.time_s, over.waiting, edges)
    running = mean_over_bins(over.time_s, over.running, edges)
    ax.stairs(running, edges / size, fill=True, color=RUNNING, linewidth=0)
    ax.stairs(waiting, edges / size, color=line.color, linewidth=1.1, baseline=None)


def _queue_key(fig: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    waiting = Line2D([], [], color=canvas.SOFT, linewidth=1.1, label="waiting")
    fig.legend(handles=[Patch(color=RUNNING, label="running"), waiting], loc="outside upper center", ncols=2)


def _ceiling(line: Line) -> tuple[float, float] | None:
    """Peak in FLOP/s and bandwidth in B/s, when the summary has both."""
    roofline = line.run.summary.get("roofline") or {}
    peak, bandwidth = finite(roofline.get("peak_flops")), finite(roofline.get("bandwidth"))
    return (peak, bandwidth) if peak and bandwidth else None


def _points(line: Line) -> list[tuple[float, float, str]]:
    found = []
    for point in (line.run.summary.get("roofline") or {}).get("points") or ():
        x, y = finite(point.get("intensity_flop_per_byte")), finite(point.get("flops_per_s"))
        if x and y and x > 0 and y > 0:
            found.append((x, y, str(point["phase"])))
    return found


def _roofline_panel(ax: Axes, model: str, members: list[Line], limits: tuple[float, float]) -> None:
    from matplotlib.lines import Line2D

    markers: dict[str, Any] = {"decode": "o", "prefill": "^"}
    ax.set_title(model, loc="left", fontweight="bold")
    heights = []
    for line in members:
        peak, bandwidth = _ceiling(line) or (0.0, 1.0)
        corner = min(max(peak / bandwidth, limits[0]), limits[1])
        xs = np.array([limits[0], corner, limits[1]])
        ax.plot(xs, np.minimum(peak, bandwidth * xs), color=line.color, linestyle=line.dash, linewidth=1.3)
        heights.append(float(np.log10(peak)))
        for x, y, phase in _points(line):
            ax.plot(
                [x],
                [y],
                markers.get(phase, "s"),
                color=line.color,
                markersize=6.5,
                markeredgecolor="white",
                markeredgewidth=0.8,
                zorder=4,
            )
    low, high = np.log10(ax.get_ylim())
    for line, place in zip(members, canvas.spread(heights, 0.055 * (high - low)), strict=True):
        ax.text(1.015, 10.0**place, line.name, transform=ax.get_yaxis_transform(), va="center", color=line.color)
    handles = [
        Line2D([], [], marker=mark, linestyle="", color=canvas.SOFT, label=phase) for phase, mark in markers.items()
    ]
    ax.legend(handles=handles, loc="lower right")
