"""Charts of samples: bars of what each machine does, and curves over the batch of decoding models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.report import canvas
from simulator.report.charts import save
from simulator.report.numerals import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.sample_result import SampleReport

BOUNDS = {
    "compute": "#D55E00",
    "network": "#009E73",
    "overhead": "#999999",
    "host": "#BBBBBB",
    "power": "#CC79A7",
    "hbm": "#0072B2",
    "gddr": "#56B4E9",
    "lpddr": "#4C72B0",
    "ddr": "#E69F00",
    "cxl": "#F0E442",
    "nvme": "#B0623A",
    "remote": "#7A9A01",
    "sram": "#A6D5F2",
}
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#B0623A", "#7A9A01", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")

Summaries = list[dict[str, Any]]


def charts_of(report: SampleReport) -> dict[str, tuple[Callable[[Summaries], Figure], Summaries]]:
    """Name -> what draws it, and its runs: `batches` for models with several batches, `samples` for all others."""
    runs = [run.summary for run in report.runs]
    several = {s["model"] for s in runs if len({o["batch"] for o in runs if o["model"] == s["model"]}) > 1}
    curves, bars = ([s for s in runs if (s["model"] in several) == wanted] for wanted in (True, False))
    return ({"batches": (draw_batches, curves)} if curves else {}) | ({"samples": (draw_bars, bars)} if bars else {})


def save_all(report: SampleReport, folder: Path) -> None:
    """Draw and save every figure into `folder`, which exists."""
    for name, (draw, runs) in charts_of(report).items():
        save(draw(runs), folder / name)


def draw_batches(runs: Summaries) -> Figure:
    """Tokens a second, joules a token and milliseconds a step over the batch: a line a model, a row a machine."""
    machines = list(dict.fromkeys(s["machine"] for s in runs))
    models = list(dict.fromkeys(s["model"] for s in runs))
    columns = (("samples_per_s", "tokens per second"), ("energy_per_sample_j", "joules per token"), ("step_ms", "ms"))
    with canvas.style():
        fig = canvas.figure(1.0 + 0.17 * len(models) + 2.1 * len(machines))
        axes = fig.subplots(len(machines), 3, squeeze=False)
        for row, machine in zip(axes, machines, strict=True):
            for ax, (key, label) in zip(row, columns, strict=True):
                canvas.logarithmic(ax, "y", [s[key] for s in runs if s["machine"] == machine and s[key]])
                for index, model in enumerate(models):
                    mine = [s for s in runs if (s["machine"], s["model"]) == (machine, model)]
                    points = [(s["batch"], s[key]) for s in mine if s[key]]
                    if points:
                        style = {"color": LINES[index % 10], "marker": MARKS[index % 10], "markersize": 3.5}
                        ax.plot(*zip(*sorted(points), strict=True), label=model, linewidth=1.2, **style)
                _over_batches(ax, runs, f"{label} a step" if key == "step_ms" else label)
            row[0].set_title(machine, loc="left", fontsize=8)
        handles, labels = axes[0][0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=7)
        return fig


def _over_batches(ax: Axes, runs: Summaries, label: str) -> None:
    batches = sorted({s["batch"] for s in runs})
    ax.set_xscale("log", base=2)
    ax.set_xticks(batches, labels=[str(batch) for batch in batches])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("batch", fontsize=7)
    ax.set_ylabel(label, fontsize=7)
    ax.tick_params(labelsize=6)


def draw_bars(runs: Summaries) -> Figure:
    """For each model: throughput, samples a joule and what binds it, machine by machine."""
    from matplotlib.patches import Patch

    models = list(dict.fromkeys(str(s["model"]) for s in runs))
    bounds = [bound for bound in BOUNDS if any(bound in (s["bound_by"] or {}) for s in runs)]
    most = max(sum(s["model"] == model for s in runs) for model in models)
    with canvas.style():
        fig = canvas.figure(0.9 + (0.75 + 0.26 * most) * len(models))
        axes = fig.subplots(len(models), 3, squeeze=False)
        for line, model in zip(axes, models, strict=True):
            here = [s for s in runs if s["model"] == model]
            _bars(line[0], here, "samples_per_s", "per second")
            _bars(line[1], here, "samples_per_joule", "per joule")
            _shares(line[2], here, bounds)
            line[0].set_title(model, loc="left", fontsize=8)
            for ax in line:
                ax.invert_yaxis()
                ax.grid(False, axis="y")
                ax.tick_params(labelsize=7)
            for ax in line[1:]:
                ax.set_yticks(range(len(here)), labels=[""] * len(here))
        handles = [Patch(color=BOUNDS[bound], label=bound) for bound in bounds]
        fig.legend(handles=handles, title="what binds", title_fontsize=8, loc="outside lower center", ncols=6)
        return fig


def _bars(ax: Axes, runs: Summaries, key: str, per: str) -> None:
    values = [float(s[key] or 0.0) for s in runs]
    ax.barh([str(s["machine"]) for s in runs], values, height=0.7, color="#0072B2", linewidth=0)
    for y, value in enumerate(values):
        ax.text(value, y, f" {significant(value)}", va="center", fontsize=7)
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel(f"{runs[0]['unit']}s {per}", fontsize=7)
    ax.set_xlim(0, 1.3 * max([*values, 1e-12]))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(lambda value, _: canvas.short(value))


def _shares(ax: Axes, runs: Summaries, bounds: list[str]) -> None:
    for y, s in enumerate(runs):
        left = 0.0
        for bound in bounds:
            share = float((s["bound_by"] or {}).get(bound, 0.0))
            ax.barh(y, share, left=left, height=0.7, color=BOUNDS[bound], linewidth=0)
            left += share
    canvas.shares(ax, "what binds, share of the time")
