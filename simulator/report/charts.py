"""All the charts of a report, by name, and how they are saved: SVG and PNG, the same bytes for the same report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.report import canvas
from simulator.report.bars import draw_bound_by, draw_energy, draw_throughput_latency
from simulator.report.bytes_chart import draw_bytes
from simulator.report.curves import draw_latency, draw_queue, draw_roofline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simulator.report.result import Report

CHARTS: dict[str, Callable[[Report], Figure]] = {
    "throughput_latency": draw_throughput_latency,
    "latency_cdf": draw_latency,
    "queue": draw_queue,
    "energy": draw_energy,
    "bound_by": draw_bound_by,
    "bytes": draw_bytes,
    "roofline": draw_roofline,
}

__all__ = [
    "CHARTS",
    "draw_bound_by",
    "draw_bytes",
    "draw_energy",
    "draw_latency",
    "draw_queue",
    "draw_roofline",
    "draw_throughput_latency",
    "save",
    "save_all",
]


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.svg and `stem`.png (150 dots an inch) without dates or version in them."""
    vector, pixels = stem.with_suffix(".svg"), stem.with_suffix(".png")
    with canvas.style():
        figure.draw_without_rendering()  # places everything, once for both files
        figure.set_layout_engine("none")
        figure.savefig(vector, metadata={"Date": None, "Creator": None})
        figure.savefig(pixels, metadata={"Software": None})
    return vector, pixels


def save_all(report: Report, folder: Path) -> list[Path]:
    """Draw and save every chart into `folder`, which exists; the files that were written."""
    written: list[Path] = []
    if report.runs:
        for name, draw in CHARTS.items():
            written += save(draw(report), folder / name)
    return written
