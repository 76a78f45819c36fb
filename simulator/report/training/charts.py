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
    "host rows": "#54278F",
    "offload": "#9E9AC8",
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
    "other": "#444444",
}
PASSES = {"F": "#56B4E9", "B": "#D55E00", "W": "#E69F00"}
EXCHANGES = {"weights": PARTS["fsdp"], "gradients": PARTS["gradients"], "gradients between slices": PARTS["slices"]}
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
    """What the slowest stage spends a step of each run on: seconds, and beside several runs shares."""
    several = len(report.runs) > 1
    with canvas.style():
        fig = canvas.figure(1.1 + 0.36 * len(report.runs))
        axes = fig.subplots(1, 2, squeeze=False, width_ratios=(3, 2))[0] if several else [fig.subplots()]
        spent = [_parts(run) for run in report.runs]
        used = [name for name in PARTS if any(name in parts for parts in spent)]
        for ax, whole in zip(axes, (False, True), strict=False):
            for y, parts in enumerate(spent):
                of, left = (sum(parts.values()) / 100.0 if whole else 1.0), 0.0
                for name in used:
                    width = parts.get(name, 0.0) / of
                    ax.barh(y, width, left=left, height=0.7, color=PARTS[name], linewidth=0)
                    left += width
                if not whole:
                    ax.text(left, y, f" {significant(left)} s", va="center", fontsize=7)
            ax.set_yticks(range(len(spent)), labels=[] if whole else names(report))
            ax.invert_yaxis()
            ax.grid(False, axis="y")
        axes[0].set_xlabel("Step of the slowest stage (s)")
        axes[0].margins(x=0.12)
        if several:
            axes[1].set_xlabel("Share of the step (%)")
            axes[1].set_xlim(0, 100)
            axes[1].set_ylim(axes[0].get_ylim())
        handles = [axes[0].barh(0, 0, color=PARTS[name], label=name) for name in used]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=7)
        return fig


def _parts(run: TrainingRun) -> dict[str, float]:
    """Seconds of a step by part, those without a colour together."""
    found: dict[str, float] = {}
    for name, seconds in run.summary["step_by_part_s"].items():
        shown = name if name in PARTS else "other"
        found[shown] = found.get(shown, 0.0) + float(seconds)
    return found


def draw_pipeline(report: TrainingReport) -> Figure:
    """One step of the first run with a pipeline, stage by stage; what is white is bubble. Thin lines: weights and
    gradients on their way."""
    run = next((run for run in report.runs if len(run.record.busy_s) > 1), report.runs[0])
    with canvas.style():
        stages = len(run.record.busy_s)
        fig = canvas.figure(0.9 + min(5.0, 0.22 * stages))
        ax = fig.subplots()
        s = run.summary
        shown = min(run.record.seconds, (stages + SHOWN) * max(stage.both for stage in run.step.stages))
        _passes(ax, run, shown)
        carried = _exchanges(ax, run, shown)
        ax.set_xlim(0, shown)
        ax.set_yticks(range(0, stages, max(1, stages // 8)))
        ax.set_ylim(stages - 0.4, -0.6)
        ax.set_ylabel("Stage")
        whole = f"{significant(run.record.seconds)} s"
        extent = f"One step, {whole}" if shown == run.record.seconds else f"First {significant(shown)} s of {whole}"
        about = f"{s['model']}, {s['layout']}, {s['schedule']}: bubble {100 * s['bubble']:.1f} %"
        ax.set_xlabel(f"{extent}; {about}")
        ax.grid(False)
        kinds = {each.task.kind for each in run.record.slices}
        handles = [ax.barh(-9, 0, color=PASSES[kind], label=NAMES[kind]) for kind in PASSES if kind in kinds]
        handles += [ax.barh(-9, 0, color=EXCHANGES[name], label=name) for name in carried]
        fig.legend(handles=handles, loc="outside upper right", ncols=5, frameon=False, fontsize=7)
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


def _exchanges(ax: Axes, run: TrainingRun, until: float) -> list[str]:
    """Weights and gradients below the passes of their stage; which of them there are."""
    shown = []
    for name, color in EXCHANGES.items():
        own = [each for each in run.record.carried if each.name == name and each.start_s < until]
        if own:
            shown.append(name)
            widths = [each.end_s - each.start_s for each in own]
            lefts = [each.start_s for each in own]
            ax.barh([each.stage + 0.46 for each in own], widths, left=lefts, height=0.12, color=color, linewidth=0)
    return shown


def draw_scaling(report: TrainingReport) -> Figure:
    """Tokens per second and mfu over chips, a line for each machine and model; dashed: in proportion to chips.

    A single run shows its own layout with more and fewer replicas at the same global batch, in closed form; the ring is
    its step in events.
    """
    with canvas.style():
        fig = canvas.figure(3.0)
        left, right = fig.subplots(1, 2)
        found = _scaling(report)
        for index, (name, points) in enumerate(found.items()):
            color = canvas.MACHINES[index % len(canvas.MACHINES)]
            chips, rates, shares = zip(*sorted(points), strict=True)
            left.plot(chips, rates, "o-", color=color, label=name, markersize=3)
            left.plot(chips, [rates[0] * n / chips[0] for n in chips], "--", color=color, linewidth=0.7)
            right.plot(chips, [100 * share for share in shares], "o-", color=color, markersize=3)
            if len(points) > 1 and len(report.runs) == 1:
                s = report.runs[0].summary
                right.plot(s["chips"], 100 * s["mfu"], "o", color=color, markersize=6, fillstyle="none")
                left.plot(s["chips"], s["tokens_per_s"], "o", color=color, markersize=6, fillstyle="none")
        every = [point for points in found.values() for point in points]
        for ax in (left, right):
            canvas.logarithmic(ax, "x", [chips for chips, _, _ in every])
            ax.set_xlabel("Chips")
        canvas.logarithmic(left, "y", [rate for _, rate, _ in every])
        left.set_ylabel("Tokens/s of the run")
        right.set_ylabel("mfu (%)")
        right.set_ylim(0, 110 * max(share for _, _, share in every))
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
