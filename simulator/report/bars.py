"""Charts of one row for each run: throughput beside latency, joules by component, time by what bounds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.report import canvas
from simulator.report.canvas import Line, Rows
from simulator.report.numerals import percent, saturation, significant
from simulator.report.plain import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from simulator.report.result import Report

SATURATED: dict[str, Any] = {"facecolor": "none", "edgecolor": canvas.INK, "linewidth": 1.0, "linestyle": (0, (3, 2))}


def draw_throughput_latency(report: Report) -> Figure:
    """Output throughput beside TTFT and TPOT from p50 to p99. A saturated machine shows what it holds, no latency."""
    with canvas.style():
        rows = canvas.rows(report)
        fig = canvas.figure(rows.inches + 0.75)
        axes = fig.subplots(1, 3, gridspec_kw={"width_ratios": [1.0, 1.15, 1.15]})
        _throughput(axes[0], rows)
        for ax, name in zip(axes[1:], ("ttft", "tpot"), strict=True):
            _latency(ax, rows, name)
        _say_saturated(axes[1], axes[2], rows)
        rows.dress(axes)
        return fig


def draw_energy(report: Report) -> Figure:
    """Joules per output token by component, and the same as shares (small machines stay readable)."""
    with canvas.style():
        rows = canvas.rows(report)
        fig = canvas.figure(rows.inches + 1.0)
        axes = fig.subplots(1, 2)
        parts = {id(line): _joules(line) for _, line in rows.places}
        names = canvas.stack_order(name for found in parts.values() for name in found)
        longest = max([sum(found.values()) for found in parts.values()] or [0.0])
        for y, line in rows.places:
            found = parts[id(line)]
            total = sum(found.values())
            _stack(axes[0], y, found, names, line, label=False)
            text = significant(total) if found else "no token completed"
            axes[0].text(total + 0.015 * (longest or 1), y, text, va="center", color=canvas.INK)
            if total > 0:
                _stack(axes[1], y, {name: part / total for name, part in found.items()}, names, line, label=True)
        axes[0].set_xlim(0, 1.16 * longest if longest else 1)
        axes[0].set_xlabel("Energy (J per output token)")
        canvas.shares(axes[1], "Share of the energy")
        rows.dress(axes)
        _key(fig, names, rows)
        return fig


def draw_bound_by(report: Report) -> Figure:
    """What bounds each machine: its busy time shared among compute, memory tiers, network and overhead."""
    with canvas.style():
        rows = canvas.rows(report)
        fig = canvas.figure(rows.inches + 1.0)
        ax = fig.subplots()
        parts = {
            id(line): {name: share for name, share in _numbers(line.run.summary.get("bound_by")).items() if share > 0}
            for _, line in rows.places
        }
        names = canvas.stack_order(name for found in parts.values() for name in found)
        for y, line in rows.places:
            _stack(ax, y, parts[id(line)], names, line, label=True)
            busy = line.run.number("utilisation")
            ax.text(1.012, y, "" if busy is None else percent(busy), va="center", color=canvas.INK)
        ax.text(1.012, rows.headings[0][0] if rows.headings else 0, "busy", va="center", color=canvas.SOFT)
        canvas.shares(ax, "Share of busy time")
        ax.set_xlim(0, 1.07)
        ax.spines["bottom"].set_bounds(0, 1)
        rows.dress([ax])
        _key(fig, names, rows)
        return fig


def _throughput(ax: Axes, rows: Rows) -> None:
    longest = max([line.run.number("output_throughput") or 0.0 for _, line in rows.places] or [0.0])
    for y, line in rows.places:
        value = line.run.number("output_throughput")
        hatch = "////" if line.run.saturated else None
        ax.barh(y, value or 0.0, height=0.66, color=line.color, hatch=hatch, linewidth=0)
        text = significant(value) if value else "none completed"
        ax.text((value or 0.0) + 0.02 * (longest or 1), y, text, va="center", color=canvas.INK)
    ax.set_xlim(0, 1.3 * longest if longest else 1)
    ax.xaxis.set_major_locator(_few_ticks())
    ax.xaxis.set_major_formatter(lambda value, _: canvas.short(value))
    ax.set_xlabel("Output throughput (tok/s)")


def _latency(ax: Axes, rows: Rows, name: str) -> None:
    steady = [(y, line) for y, line in rows.places if not line.run.saturated]
    ranks = {id(line): [line.run.number(f"{name}_{rank}_ms") for rank in ("p50", "p90", "p99")] for _, line in steady}
    limit = _limit(rows, f"{name}_ms")
    values = [value for found in ranks.values() for value in found if value]
    canvas.logarithmic(ax, "x", [*values, *([limit] if limit else [])])
    ax.set_xlabel(f"{name.upper()} (ms):  ● p50   | p90   ○ p99")
    for y, line in steady:
        p50, p90, p99 = ranks[id(line)]
        if not (p50 and p90 and p99):
            continue
        ax.plot([p50, p99], [y, y], color=line.color, linewidth=2.2, solid_capstyle="butt", alpha=0.55)
        ax.plot([p50], [y], "o", color=line.color)
        ax.plot([p90], [y], "|", color=line.color, markersize=7, markeredgewidth=1.6)
        ax.plot([p99], [y], "o", color=line.color, markerfacecolor="white", markeredgewidth=1.4)
    if limit:
        ax.axvline(limit, color=canvas.INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0.5)
        ax.annotate(
            "SLO",
            (limit, 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
            color=canvas.INK,
        )


def _say_saturated(left: Axes, right: Axes, rows: Rows) -> None:
    """One phrase across both latency panels in each saturated row."""
    for y, line in rows.places:
        if not line.run.saturated:
            continue
        phrase = saturation(line.run.number("sustainable_rate"), line.run.offered_rate)
        left.text(
            0.02,
            y,
            phrase,
            transform=left.get_yaxis_transform(),
            va="center",
            color=line.color,
            style="italic",
            zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
        right.text(
            0.5,
            y,
            "no steady latency",
            transform=right.get_yaxis_transform(),
            va="center",
            ha="center",
            color=canvas.SOFT,
            style="italic",
        )


def _limit(rows: Rows, key: str) -> float | None:
    """The SLO's limit where all runs have the same one."""
    limits = {finite((line.run.summary.get("slo") or {}).get(key)) for _, line in rows.places}
    return limits.pop() if len(limits) == 1 else None


def _joules(line: Line) -> dict[str, float]:
    """Component -> J per output token, which add up to energy_per_output_token_j."""
    parts = {
        name: joule for name, joule in _numbers(line.run.summary.get("energy_by_component_j")).items() if joule > 0
    }
    each, total = line.run.number("energy_per_output_token_j"), sum(parts.values())
    return {name: joule / total * each for name, joule in parts.items()} if each and total > 0 else {}


def _numbers(parts: object) -> dict[str, float]:
    items = parts.items() if isinstance(parts, dict) else ()
    return {str(name): number for name, number in ((n, finite(v)) for n, v in items) if number is not None}


def _stack(ax: Axes, y: float, parts: dict[str, float], names: list[str], line: Line, label: bool) -> None:
    """One stacked bar; with `label`, parts of at least 7 % carry their share."""
    start = 0.0
    for name in names:
        part = parts.get(name, 0.0)
        if part <= 0:
            continue
        color = canvas.PARTS.get(name, canvas.OTHER)
        ax.barh(y, part, left=start, height=0.7, color=color, edgecolor="white", linewidth=0.5)
        if label and part >= 0.07:
            ax.text(
                start + part / 2,
                y,
                f"{100 * part:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color=canvas.on_color(color),
            )
        start += part
    if line.run.saturated and start > 0:
        ax.barh(y, start, height=0.7, **SATURATED)


def _key(fig: Figure, names: list[str], rows: Rows) -> None:
    """One row of coloured squares above the figure, in the order of the stacked parts."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=canvas.PARTS.get(name, canvas.OTHER), label=name) for name in names]
    if any(line.run.saturated for _, line in rows.places):
        handles.append(Patch(label="saturated", **SATURATED))
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 10))


def _few_ticks() -> MaxNLocator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)
