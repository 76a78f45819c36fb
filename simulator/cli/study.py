"""`ramwise sweep`: many runs, in parallel, each computed once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from simulator.cli.options import INTERRUPTED, NoPlots, Out, Profiles
from simulator.cli.progress import progress

Found = TypeVar("Found")

StudyFile = Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a packaged study.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one for each core when left out.")]
Cluster = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler, e.g. tcp://10.0.0.1:8786 (extra: cluster).")
]
Samples = Annotated[
    int | None, typer.Option(min=0, help="Draws of the numbers that have ranges, for bands and shares of rankings.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the rows as JSON on stdout and nothing else.")]


def sweep(
    study: StudyFile,
    out: Out = None,
    workers: Workers = None,
    cluster: Cluster = None,
    samples: Samples = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Vary any key of a scenario; a stopped study goes on where it was, and only what is new is computed."""
    from simulator.study.folder import write
    from simulator.study.sweep import sweep as run_study

    computed = partial(run_study, cluster=cluster, samples=samples)
    found, place = _studied(computed, write, study, out, workers, profiles, as_json, no_plots)
    if as_json:
        sys.stdout.write(found.table.to_json(orient="records", double_precision=15) + "\n")
        return
    from rich.console import Console

    from simulator.report.study_tables import ranking_lines, study_table

    console = Console()
    console.print(study_table(found.means(), found.keys, found.study.shown))
    for line in (*found.level_lines(), *ranking_lines(found.rankings())):
        console.print(line, highlight=False, markup=False)
    for error, rows in found.failed.groupby("error").size().items():
        console.print(f"{rows} rows failed: {error}", style="red", highlight=False, markup=False)
    console.print(f"{found.computed} points computed, {found.reused} rows known or alike", highlight=False)
    console.print(f"results: {place}", soft_wrap=True, highlight=False)


def crossover(
    study: StudyFile,
    out: Out = None,
    workers: Workers = None,
    cluster: Cluster = None,
    samples: Samples = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Map who wins over two keys of a scenario, refined where the winner changes."""
    from simulator.report.study_tables import area_lines, confirm_lines
    from simulator.study.crossover import crossover as run_study
    from simulator.study.folder import write_map

    computed = partial(run_study, cluster=cluster, samples=samples)
    found, place = _studied(computed, write_map, study, out, workers, profiles, as_json, no_plots)
    if as_json:
        sys.stdout.write(found.winners.to_json(orient="records", double_precision=15) + "\n")
        return
    for line in (
        *found.level_lines(),
        f"ahead in {found.study.metric}:",
        *area_lines(found.areas()),
        *confirm_lines(found.confirmed),
    ):
        typer.echo(line)
    typer.echo(f"{len(found.winners)} nodes, {found.computed} points computed")
    typer.echo(f"results: {place}")


def plan(
    study: StudyFile,
    out: Out = None,
    workers: Workers = None,
    cluster: Cluster = None,
    profiles: Profiles = None,
    as_json: AsJson = False,
    no_plots: NoPlots = False,
) -> None:
    """Find the cheapest (or greenest, or smallest) fleet for some traffic within its SLO."""
    from simulator.report.plan_lines import plan_lines
    from simulator.study.folder import plan_document, write_plan
    from simulator.study.plan import plan as run_study

    computed = partial(run_study, cluster=cluster)
    found, place = _studied(computed, write_plan, study, out, workers, profiles, as_json, no_plots)
    document = plan_document(found)
    if as_json:
        sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
        return
    for line in plan_lines(document):
        typer.echo(line)
    typer.echo(f"results: {place}")


def _studied(
    run: Callable[..., Found],
    write: Callable[..., None],
    study: str,
    out: Path | None,
    workers: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
) -> tuple[Found, Path]:
    """Find the study, run it with a progress bar, write what it found; that, and the folder."""
    from simulator.study.folder import check
    from simulator.study.study import find_study

    file = find_study(study)
    place = check(out or Path("ramwise-results") / file.stem)
    with _goes_on(place), progress(quiet=as_json) as tell:
        found = run(
            file,
            place,
            workers=workers or os.cpu_count() or 1,
            folders=tuple(profiles or ()),
            progress=partial(tell, "points"),
        )
        write(found, file, place, plots=not no_plots)
    return found, place


@contextmanager
def _goes_on(place: Path) -> Iterator[None]:
    """After Ctrl-C say where the finished points are."""
    from simulator.study.store import STORE

    try:
        yield
    except KeyboardInterrupt:
        store = place / STORE
        kept = store.is_file() and store.stat().st_size > 0
        goes_on = f"stopped; what was finished is in {place}, the same command goes on"
        typer.echo(f"ramwise: {goes_on if kept else 'stopped before the first point was finished'}", err=True)
        raise SystemExit(INTERRUPTED) from None
