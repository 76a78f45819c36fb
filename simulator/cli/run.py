"""`ramwise run` and `ramwise compare`, of every task."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from simulator.cli.options import INTERRUPTED, AsJson, NoPlots, Out, Profiles, ScenarioFile, Seed, Set
from simulator.cli.progress import progress
from simulator.cli.tasks import task_for


def run(
    scenario: ScenarioFile,
    out: Out = None,
    change: Set = None,
    seed: Seed = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario: a table, and a folder with summary.json, requests, a timeline, plots and a page."""
    _run(scenario, out, change, seed, profiles, as_json, no_plots)


def compare(
    scenario: ScenarioFile,
    out: Out = None,
    change: Set = None,
    seed: Seed = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario and set its machines side by side, a column each, with ratios to the best."""
    _run(scenario, out, change, seed, profiles, as_json, no_plots, side_by_side=True)


def _run(
    name: str,
    out: Path | None,
    change: list[str] | None,
    seed: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
    side_by_side: bool = False,
) -> None:
    """Run, write the folder, show the table; after Ctrl-C write what was finished, then leave."""
    from simulator.report.folder import check
    from simulator.scenario import find_scenario, read_any

    path = find_scenario(name)
    scenario, source = read_any(path, tuple(change or ()))
    task = task_for(scenario)
    place = check(out or Path("ramwise-results") / path.stem)
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    done: list[Any] = []
    try:
        with progress(quiet=as_json) as tell:
            report = task.run(scenario, source, profiles=profiles or (), progress=tell, finished=done.append)
        place = task.write(report, place, plots=not no_plots)
    except KeyboardInterrupt:
        if done:
            place = task.write(task.report_of(scenario, source, done), place, plots=False, complete=False)
            said = f"stopped; what was finished is in {place} (runs: {len(done)})"
        else:
            said = "stopped before the first run was finished"
        typer.echo(f"ramwise: {said}", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        sys.stdout.write(report.summary_json())
        return
    from rich.console import Console

    console = Console()
    console.print((task.side_by_side if side_by_side else task.table)(report, console.width))
    console.print(f"results: {place}", soft_wrap=True, highlight=False)
