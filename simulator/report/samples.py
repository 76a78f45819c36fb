"""What runs of recommenders, solvers and decoding models leave: a table, charts, a folder."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.report import canvas
from simulator.report.charts import save
from simulator.report.folder import SUMMARY, put
from simulator.report.numerals import percent, significant
from simulator.report.result import plain, version

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

BOUNDS = {
    "compute": "#D55E00",
    "network": "#009E73",
    "overhead": "#999999",
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


@dataclass(frozen=True)
class SampleRun:
    """One model on one machine. `summary` is an entry of "runs" in summary.json; every key carries its unit."""

    summary: dict[str, Any]


@dataclass(frozen=True)
class SampleReport:
    """All the runs of one scenario."""

    scenario: str
    seed: int
    runs: tuple[SampleRun, ...]
    description: str = ""

    def document(self, complete: bool = True) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "scenario": self.scenario,
            "seed": int(self.seed),
            "version": version(),
            "complete": complete,
            "runs": [plain(run.summary) for run in self.runs],
        }


def overview(report: SampleReport) -> Group:
    """A row for each run, models together, and notes below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("model", "left"), ("machine", "left"), ("", "right"), ("query p50 / p99, ms", "right")):
        table.add_column(name or "per second", justify=justify)  # type: ignore[arg-type]
    for name in ("J each", "kW", "bound by"):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    for run in report.runs:
        s = run.summary
        latency = (
            "-" if s["query_p50_ms"] is None else f"{significant(s['query_p50_ms'])} / {significant(s['query_p99_ms'])}"
        )
        table.add_row(
            str(s["model"]),
            str(s["machine"]),
            f"{significant(s['samples_per_s'])} {s['unit']}s",
            "saturated" if s["saturated"] else latency,
            significant(s["energy_per_sample_j"]),
            significant(s["average_power_w"] / 1e3),
            ", ".join(f"{name} {percent(share)}" for name, share in _largest(s["bound_by"], 2)),
        )
    warned = dict.fromkeys(str(w) for run in report.runs for w in run.summary["warnings"])
    return Group(table, *(Text(f"note: {warning}", style="dim") for warning in warned))


def plain_text(report: SampleReport, width: int = 140) -> str:
    """The table as text."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(overview(report))
    return text.getvalue()


def _largest(shares: dict[str, float] | None, count: int) -> list[tuple[str, float]]:
    return sorted((shares or {}).items(), key=lambda item: -item[1])[:count]


def draw(report: SampleReport) -> Figure:
    """For each model: throughput, joules and what binds it, machine by machine."""
    models = list(dict.fromkeys(str(run.summary["model"]) for run in report.runs))
    bounds = [b for b in BOUNDS if any(b in (run.summary["bound_by"] or {}) for run in report.runs)]
    most = max(sum(run.summary["model"] == model for run in report.runs) for model in models)
    with canvas.style():
        fig = canvas.figure(0.9 + (0.75 + 0.26 * most) * len(models))
        axes = fig.subplots(len(models), 3, squeeze=False)
        for line, model in zip(axes, models, strict=True):
            runs = [run.summary for run in report.runs if run.summary["model"] == model]
            unit = runs[0]["unit"]
            names = [str(s["machine"]) for s in runs]
            for ax, key, label in (
                (line[0], "samples_per_s", f"{unit}s per second"),
                (line[1], "samples_per_joule", f"{unit}s per joule"),
            ):
                values = [float(s[key] or 0.0) for s in runs]
                ax.barh(names, values, height=0.7, color="#0072B2", linewidth=0)
                for y, value in enumerate(values):
                    ax.text(value, y, f" {significant(value)}", va="center", fontsize=7)
                ax.set_xlabel(label, fontsize=7)
                ax.set_xlim(0, 1.3 * max([*values, 1e-12]))
                ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4))
            line[0].set_title(model, loc="left", fontsize=8)
            for y, s in enumerate(runs):
                left = 0.0
                for bound in bounds:
                    share = float((s["bound_by"] or {}).get(bound, 0.0))
                    line[2].barh(y, share, left=left, height=0.7, color=BOUNDS[bound], linewidth=0)
                    left += share
            line[2].set_xlim(0, 1)
            line[2].set_xlabel("share of the time", fontsize=7)
            for ax in line:
                ax.invert_yaxis()
                ax.grid(False, axis="y")
                ax.tick_params(labelsize=7)
            for ax in line[1:]:
                ax.set_yticks(range(len(runs)), labels=[""] * len(runs))
        handles = [axes[0][2].barh(0, 0, color=BOUNDS[bound], label=bound) for bound in bounds]
        fig.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=7)
        return fig


def write(report: SampleReport, out: str | Path, plots: bool = True, complete: bool = True) -> Path:
    """Write summary.json, summary.txt and plots/ into the folder `out`. Raise OutputError."""

    def fill(folder: Path) -> None:
        (folder / "summary.txt").write_text(plain_text(report), encoding="utf-8")
        if plots:
            (folder / "plots").mkdir()
            save(draw(report), folder / "plots" / "samples")
        (folder / SUMMARY).write_text(summary_json(report, complete), encoding="utf-8")

    return put(fill, out, complete)


def summary_json(report: SampleReport, complete: bool = True) -> str:
    """The text of summary.json, which is also what --json prints."""
    return json.dumps(report.document(complete), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
