"""The folder that a study leaves: points.jsonl (results by content), tables, study.json, plots, a page."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import OutputError
from simulator.report.charts import save
from simulator.report.notebook import Shown
from simulator.report.plain import plain
from simulator.report.plan_lines import plan_lines
from simulator.report.result import version
from simulator.report.study_page import study_page
from simulator.report.study_tables import area_lines, confirm_lines, ranking_lines
from simulator.study.store import STORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from simulator.study.crossover import Map
    from simulator.study.fleet import Fleet
    from simulator.study.proposal import Proposal
    from simulator.study.sweep import Sweep

DOCUMENT = "study.json"
CAPTIONS = {
    "metrics": "Metrics over what varies",
    "front": "Throughput of a chip against the pace of each user, dollars against latency; lines: the fronts",
    "capacity": "Latency over the load; a line ends with the last load that its machine holds",
    "map": "Who is ahead where; paler where samples disagree",
    "day": "The load of each hour, and which machines carry it; lines: how much they hold",
    "candidates": "Cost and energy of the candidates",
    "latency": "Cost and pace of the candidates",
}


def check(out: Path) -> Path:
    """The folder, if a study may write there. Raise OutputError for a file or a folder that holds other things."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file, not a folder; choose another one with --out DIR")
    ours = any((out / name).is_file() for name in (STORE, DOCUMENT))
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise OutputError(f"'{out}' is not empty and holds no study (no {STORE}); choose another one with --out DIR")
    return out


def write(found: Sweep, file: Path, out: Path, plots: bool = True) -> None:
    """Write what a sweep found: tables, figures, a copy of the study, plots and a page. Raise OutputError."""
    ahead, means = found.rankings(), found.means()
    figures = {
        "rows": len(found.table),
        "failed": len(found.failed),
        "keys": found.keys,
        "metrics": list(found.study.shown),
        "ahead": {metric: table.to_dict(orient="records") for metric, table in ahead.items()},
        "errors": sorted(set(found.failed["error"])),
    }
    _write(found.name, found.study.description, file, out, figures, found.table, means,
           [*found.level_lines(), *ranking_lines(ahead)],
           _pictures(found) if plots else {}, "sweep")  # fmt: skip


def write_map(found: Map, file: Path, out: Path, plots: bool = True) -> None:
    """Write what a crossover found: nodes, winners, the map and a page. Raise OutputError."""
    figures = {
        "nodes": len(found.winners),
        "keys": found.keys,
        "metric": found.study.metric,
        "areas": found.areas(),
        "errors": sorted(set(found.table["error"].dropna())),
        **({} if found.confirmed is None else {"confirmed": found.confirmed.to_dict(orient="records")}),
    }
    winners = found.winners.drop(columns=["u", "v", "weight"])
    _write(found.name, found.study.description, file, out, figures, found.table, winners,
           [*found.level_lines(), *area_lines(found.areas()), *confirm_lines(found.confirmed)],
           _pictures(found) if plots else {}, "crossover")  # fmt: skip


def plan_document(found: Proposal) -> dict[str, Any]:
    """What a plan answers, as plain data."""
    table = found.table
    best = table.iloc[0].to_dict() if found.fleets else None
    kept_out = found.kept_out()
    share, half = found.attained() if found.fleets else (None, None)
    document: dict[str, Any] = plain(
        {
            "tried": found.tried,
            "computed": found.computed,
            "demand": vars(found.demand),
            "objective": found.objective.name,
            "best": best,
            "runners_up": table[table["verified"]].iloc[1:].to_dict(orient="records") if found.fleets else [],
            "grid": found.plan.grid if found.plan.carbon_intensity is None else "as the plan says",
            "headroom": found.headroom,
            "headroom_found": found.headroom_found,
            "largest_rate": found.headroom * found.demand.peak,
            "slo": found.slo.summary(),
            "slo_attainment": share,
            "slo_attainment_ci95": half,
            "binding_constraint": None
            if kept_out is None
            else {"constraint": kept_out[0], "fleet": kept_out[1].name, **_figures(found, kept_out[1])},
            "buys": found.buys(),
            "sensitivity": found.sensitivity().to_dict(orient="records"),
            "losses": found.level_lines(),
            "run": found.run,
            "refused": {**found.refused, **found.constraints()},
            "nearest": found.nearest._asdict() if found.nearest else None,
        }
    )
    return document


def _figures(found: Proposal, fleet: Fleet) -> dict[str, float]:
    """The objective of a fleet, and what it would save of the best one's."""
    value = found.objective.of(fleet)
    return {found.objective.name: value, "saves": 1.0 - value / found.objective.of(found.fleets[0])}


def write_plan(found: Proposal, file: Path, out: Path, plots: bool = True) -> None:
    """Write what a plan found: all candidates, the answer, fronts and a page. Raise OutputError."""
    document, table = plan_document(found), found.table
    _write(found.name, found.plan.description, file, out, document, table, table, plan_lines(document),
           _pictures(found) if plots else {}, "plan")  # fmt: skip


def _pictures(found: Shown) -> dict[str, tuple[Figure, str]]:
    """Name -> chart and caption, of every chart that has something to draw."""
    drawn = {name: draw() for name, draw in found.charts().items()}
    return {name: (figure, CAPTIONS[name]) for name, figure in drawn.items() if figure is not None}


def _write(
    name: str,
    description: str,
    file: Path,
    out: Path,
    figures: dict[str, Any],
    table: DataFrame,
    short: DataFrame,
    findings: Sequence[str],
    pictures: dict[str, tuple[Figure, str]],
    command: str,
) -> None:
    """Every file is written beside its place and then put there, so that a stop leaves the old one or the new one."""
    document = json.dumps(plain({"study": name, "version": version(), **figures}), indent=2, ensure_ascii=False) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        _put(out / DOCUMENT, lambda path: path.write_text(document, encoding="utf-8"))
        _put(out / "study.yaml", lambda path: shutil.copyfile(file, path))
        _put(out / "table.csv", lambda path: table.to_csv(path, index=False))
        _put(out / "table.parquet", lambda path: table.to_parquet(path, index=False))
        if pictures:
            (out / "plots").mkdir(exist_ok=True)
            for stem, (figure, _) in pictures.items():
                save(figure, out / "plots" / stem)
            files = [(out / "plots" / f"{stem}.svg", words) for stem, (_, words) in pictures.items()]
            text = file.read_text(encoding="utf-8")
            page = study_page(name, description, findings, files, short, text, f"ramwise {command} {name}.yaml")
            _put(out / "report.html", lambda path: path.write_text(page, encoding="utf-8"))
    except OSError as error:
        raise OutputError(f"cannot write to '{out}': {error.strerror or error}; choose another --out DIR") from None


def _put(place: Path, write_to: Callable[[Path], object]) -> None:
    beside = place.with_name(f".{place.name}.part")
    write_to(beside)
    os.replace(beside, place)
