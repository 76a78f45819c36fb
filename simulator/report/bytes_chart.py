"""Where bytes come from: for each run what its memories move for an output token, by tensor and by tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.report import canvas
from simulator.report.canvas import Line
from simulator.report.numerals import significant
from simulator.report.plain import finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.result import Report

MEGA = 1e6
NAMED = 0.07
"""Share of a bar from which a part carries its share."""

TIERS = {"sram": "#000000", "hbm": "#333333", "gddr": "#4D4D4D", "lpddr": "#666666", "ddr": "#8C8C8C", "cxl": "#A6A6A6",
         "nvme": "#C4C4C4", "remote": "#DDDDDD"}  # fmt: skip
"""The farther the paler: colours are the tensors'."""

Parts = list[tuple[str, str, float]]
"""Tier, tensor and megabytes, nearest tier first."""


def draw_bytes(report: Report) -> Figure:
    """Megabytes for each output token by tensor, and below them by tier; the same as shares beside them."""
    with canvas.style():
        rows = canvas.rows(report)
        fig = canvas.figure(1.25 * rows.inches + 1.0)
        axes = fig.subplots(1, 2)
        parts = {id(line): _parts(line) for _, line in rows.places}
        longest = max((_whole(found) for found in parts.values()), default=0.0)
        for y, line in rows.places:
            found = parts[id(line)]
            whole = _whole(found)
            _bar(axes[0], y, found, shares=False)
            text = f"{significant(whole)}: {_tiers(found)}" if found else "no token completed"
            axes[0].text(whole + 0.015 * (longest or 1), y, text, va="center", color=canvas.INK)
            if whole > 0:
                _bar(axes[1], y, [(tier, tensor, part / whole) for tier, tensor, part in found], shares=True)
        axes[0].set_xlim(0, 1.45 * longest if longest else 1)
        axes[0].xaxis.set_major_formatter(lambda value, _: canvas.short(value))
        axes[0].set_xlabel("Bytes moved (MB per output token)")
        canvas.shares(axes[1], "Share of the bytes")
        rows.dress(axes)
        _key(fig, [part for found in parts.values() for part in found])
        return fig


def _parts(line: Line) -> Parts:
    moved = line.run.summary.get("moved_per_output_token_b") or {}
    found = []
    for tier in canvas.stack_order(moved, TIERS):
        for tensor in canvas.stack_order(moved[tier], canvas.TENSORS):
            part = finite(moved[tier][tensor])
            if part:
                found.append((tier, tensor, part / MEGA))
    return found


def _whole(parts: Parts) -> float:
    return sum(part for _, _, part in parts)


def _tiers(parts: Parts) -> str:
    """The tiers that move anything; of several the share of each."""
    whole = _whole(parts)
    sums = {tier: sum(part for at, _, part in parts if at == tier) for tier, _, _ in parts}
    if len(sums) == 1:
        return next(iter(sums))
    return ", ".join(f"{tier} {100 * part / whole:.0f} %" for tier, part in sums.items() if part / whole >= 0.005)


def _bar(ax: Axes, y: float, parts: Parts, shares: bool) -> None:
    """A bar of tensors, and a thin one below it of the tiers that they lie in."""
    start = 0.0
    for tier, tensor, part in parts:
        color = canvas.TENSORS.get(tensor, canvas.OTHER)
        ax.barh(y - 0.1, part, left=start, height=0.54, color=color, edgecolor="white", linewidth=0.5)
        ax.barh(y + 0.27, part, left=start, height=0.14, color=TIERS.get(tier, canvas.OTHER), linewidth=0)
        if shares and part >= NAMED:
            ax.text(start + part / 2, y - 0.1, f"{100 * part:.0f}", ha="center", va="center", fontsize=7.5,
                    color=canvas.on_color(color))  # fmt: skip
        start += part


def _key(fig: Figure, parts: Parts) -> None:
    """Tensors, then tiers, in the order of the stack."""
    from matplotlib.patches import Patch

    tensors = canvas.stack_order({tensor for _, tensor, _ in parts}, canvas.TENSORS)
    tiers = canvas.stack_order({tier for tier, _, _ in parts}, TIERS)
    handles = [Patch(facecolor=canvas.TENSORS.get(name, canvas.OTHER), label=name) for name in tensors]
    handles += [Patch(facecolor=TIERS.get(name, canvas.OTHER), label=f"in {name}") for name in tiers]
    if handles:
        fig.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
