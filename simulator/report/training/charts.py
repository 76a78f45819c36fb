"""Charts of training runs: where a step's time goes, one step stage by stage, and scaling over chips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.report import canvas
from simulator.report.charts import save
from simulator.report.numerals import significant
from simulator.report.training.timeline import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simulator.report.training.result import TrainingReport, TrainingRun

PARTS = {
    "matmul": "#D55E00",
    "attention": "#E69F00",
    "elementwise": "#0072B2",
    "permutation": "#56B4E9",
    "recompute": "#B0623A",
    "head": "#CC79A7",
    "accumulation": "#A6D5F2",
    "host": "#7F7F7F",
    "tp": "#009E73",
    "ep": "#4DC3A3",
    "cp": "#B3D96B",
    "fsdp": "#7A9A01",
    "gradients": "#5C8001",
    "slices": "#33691E",
    "bubble": "#DDDDDD",
    "jitter": "#BBBBBB",
    "stragglers": "#8C6BB1",
    "optimizer": "#F0E442",
}
PASSES = {"F": "#56B4E9", "B": "#D55E00", "W": "#E69F00"}
SHOWN = 12  # micro-batches in the stage-by-stage picture, beside those that fill the pipeline


def names(report: TrainingReport) -> list[str]:
    """A short name for each run."""
    found = []
    for run in report.runs:
        s = run.summary
        parts = [str(s["machine"]), f"{s['chips']:,} chips"]
        if len({other.summary["model"] for other in report.runs}) > 1:
            parts.insert(0, str(s["model"]))
        found.append(", ".join(parts))
    return found


def draw_step(report: TrainingReport) -> Figure:
    """Seconds of a step of each run by what the slowest stage spends them on."""
    with canvas.style():
        fig = canvas.figure(1.1 + 0.36 * len(report.runs))
        ax = fig.subplots()
        used = [name for name in PARTS if any(name in run.summary["step_by_part_s"] for run in report.runs)]
        for y, run in enumerate(report.runs):
            left = 0.0
            for name in used:
                seconds = float(run.summary["step_by_part_s"].get(name, 0.0))
                ax.barh(y, seconds, left=left, height=0.7, color=PARTS[name], linewidth=0)
                left += seconds
            ax.text(left, y, f" {significant(left)} s", va="center", fontsize=7)
        ax.set_yticks(range(len(report.runs)), labels=names(report))
        ax.invert_yaxis()
        ax.set_xlabel("Step of the slowest stage (s)")
        ax.margins(x=0.1)
        ax.grid(False, axis="y")
        handles = [ax.barh(0, 0, color=PARTS[name], label=name) for name in used]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=7)
        return fig


def draw_pipeline(report: TrainingReport) -> Figure:
    """One step of the first run with a pipeline, stage by stage; what is white is bubble."""
    run = next((run for run in report.runs if len(run.record.busy_s) > 1), report.runs[0])
    with canvas.style():
        stages = len(run.record.busy_s)
        fig = canvas.figure(0.9 + min(5.0, 0.22 * stages))
        ax = fig.subplots()
        s = run.summary
        shown = min(run.record.seconds, (stages + SHOWN) * max(stage.both for stage in run.step.stages))
        _passes(ax, run, shown)
        ax.set_xlim(0, shown)
        ax.set_yticks(range(0, stages, max(1, stages // 8)))
        ax.set_ylim(stages - 0.4, -0.6)
        ax.set_ylabel("Stage")
        until = "" if shown == run.record.seconds else f" of {significant(run.record.seconds)}"
        about = f"{s['model']}, {s['layout']}, {s['schedule']}: bubble {100 * s['bubble']:.1f} %"
        ax.set_xlabel(f"First {significant(shown)} s{until} s; {about}")
        ax.grid(False)
        kinds = {each.task.kind for each in run.record.slices}
        handles = [ax.barh(-9, 0, color=PASSES[kind], label=NAMES[kind]) for kind in PASSES if kind in kinds]
        fig.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False, fontsize=7)
        return fig


def _passes(ax: Axes, run: TrainingRun, until: float) -> None:
    slices = [each for each in run.record.slices if each.start_s < until]
    for kind, color in PASSES.items():
        own = [each for each in slices if each.task.kind == kind]
        ax.barh(
            [each.stage for each in own],
            [each.end_s - each.start_s for each in own],
            left=[each.start_s for each in own],
            height=0.8,
            color=color,
            edgecolor="white",
            linewidth=0.15,
        )


def draw_scaling(report: TrainingReport) -> Figure:
    """Tokens per second and mfu over chips, a line for each machine and model; dashed: in proportion to chips.

    A single run shows its own layout with more and fewer replicas at the same global batch.
    """
    with canvas.style():
        fig = canvas.figure(3.0)
        left, right = fig.subplots(1, 2)
        for index, (name, points) in enumerate(_scaling(report).items()):
            color = canvas.MACHINES[index % len(canvas.MACHINES)]
            chips, rates, shares = zip(*sorted(points), strict=True)
            left.plot(chips, rates, "o-", color=color, label=name, markersize=3)
            left.plot(chips, [rates[0] * n / chips[0] for n in chips], "--", color=color, linewidth=0.7)
            right.plot(chips, [100 * share for share in shares], "o-", color=color, markersize=3)
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_xlabel("Chips")
        left.set_yscale("log")
        left.set_ylabel("Tokens/s of the run")
        right.set_ylabel("mfu (%)")
        right.set_ylim(bottom=0)
        left.legend(fontsize=7, frameon=False)
        return fig


def _scaling(report: TrainingReport) -> dict[str, list[tuple[int, float, float]]]:
    """Name -> (chips, tokens/s, mfu): the runs of a machine, or of a single run more and fewer replicas."""
    groups: dict[str, list[TrainingRun]] = {}
    for run in report.runs:
        groups.setdefault(f"{run.summary['model']} on {run.summary['machine']}", []).append(run)
    found = {}
    for name, runs in groups.items():
        sources = [run.summary for run in runs] if len(runs) > 1 else runs[0].summary["scaling"]
        found[name] = [(int(p["chips"]), float(p["tokens_per_s"]), float(p["mfu"])) for p in sources]
    return found


CHARTS: dict[str, Callable[[TrainingReport], Figure]] = {
    "step": draw_step,
    "pipeline": draw_pipeline,
    "scaling": draw_scaling,
}


def save_all(report: TrainingReport, folder: Path) -> list[Path]:
    """Draw and save every chart into `folder`, which exists; the files that were written."""
    written: list[Path] = []
    if report.runs:
        for name, draw in CHARTS.items():
            written += save(draw(report), folder / name)
    return written
