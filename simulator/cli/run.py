"""`ramwise run` and `ramwise compare`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simulator.cli.options import INTERRUPTED, AsJson, NoPlots, Out, Profiles, ScenarioFile, Seed, Set

if TYPE_CHECKING:
    from simulator.report.result import Report, RunResult


def run(
    scenario: ScenarioFile,
    out: Out = None,
    change: Set = None,
    seed: Seed = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Run a scenario: a table, and a folder with summary.json, requests, a timeline and plots."""
    from simulator.report.tables import overview

    if _of_another_task(scenario, out, change, seed, profiles, as_json, no_plots):
        return
    report, place = _run(scenario, out, change, seed, profiles, as_json, no_plots)
    if not as_json:
        _show(report, place, lambda width: overview(report, width))


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
    from simulator.report.comparison import side_by_side

    if _of_another_task(scenario, out, change, seed, profiles, as_json, no_plots):
        return
    report, place = _run(scenario, out, change, seed, profiles, as_json, no_plots)
    if not as_json:
        _show(report, place, lambda width: side_by_side(report, width))


def _of_another_task(
    scenario: str,
    out: Path | None,
    change: list[str] | None,
    seed: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
) -> bool:
    """Run a scenario whose task is not serving; its table has a row or a column for each machine anyway."""
    from simulator.scenario import find_scenario, task_of
    from simulator.scenario.samples import TASKS

    task = task_of(find_scenario(scenario))
    if task == "train":
        from simulator.cli.other_tasks import train

        train(scenario, out, change, seed, profiles, as_json, no_plots)
    elif task in TASKS:
        from simulator.cli.other_tasks import samples

        samples(scenario, out, change, seed, profiles, as_json, no_plots)
    return task == "train" or task in TASKS


def _run(
    scenario: str,
    out: Path | None,
    change: list[str] | None,
    seed: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
) -> tuple[Report, Path]:
    """Run and write; after Ctrl-C write what was finished, then leave."""
    from simulator.report.folder import check, summary_json, write
    from simulator.report.result import Report
    from simulator.scenario import find_scenario, read_scenario
    from simulator.serve import run as run_scenario

    path = find_scenario(scenario)
    place = check(out or Path("ramwise-results") / path.stem)
    read, source = read_scenario(path, tuple(change or ()))
    done: list[RunResult] = []
    try:
        with _progress(quiet=as_json) as progress:
            report = run_scenario(
                read, source, profiles=profiles or (), seed=seed, progress=progress, finished=done.append
            )
        place = write(report, place, plots=not no_plots)
    except KeyboardInterrupt:
        if not done:
            typer.echo("ramwise: stopped before the first run was finished", err=True)
            raise SystemExit(INTERRUPTED) from None
        partial = Report(path.stem, read.seed if seed is None else seed, tuple(done), read.description)
        place = write(partial, place, plots=False, complete=False)
        typer.echo(f"ramwise: stopped; what was finished is in {place} (runs: {len(done)})", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        sys.stdout.write(summary_json(report))
    return report, place


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def tell(title: str, done: int, of: int) -> None:
            if title not in tasks:
                tasks[title] = bar.add_task(title, total=of)
            bar.update(tasks[title], completed=done)

        yield tell


def _show(report: Report, place: Path, table: Callable[[int], Any]) -> None:
    from rich.console import Console

    console = Console()
    console.print(table(console.width))
    console.print(f"results: {place}", soft_wrap=True, highlight=False)
