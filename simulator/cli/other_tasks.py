"""`ramwise run` of a scenario whose task is not serving."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def train(*options: Any) -> None:
    """A scenario with `task: train`."""
    from simulator.report.training.folder import summary_json, write
    from simulator.report.training.tables import overview
    from simulator.scenario import read_training
    from simulator.train import run

    _finished(read_training, run, write, summary_json, overview, *options)


def samples(*options: Any) -> None:
    """A scenario with `task: recommend`, `solve` or `classes`."""
    from simulator.report.samples import overview, summary_json, write
    from simulator.samples import run
    from simulator.scenario import read_samples

    _finished(read_samples, run, write, summary_json, lambda report, _: overview(report), *options)


def _finished(
    read: Callable[..., Any],
    run: Callable[..., Any],
    write: Callable[..., Path],
    summary_json: Callable[..., str],
    overview: Callable[[Any, int], Any],
    scenario: str,
    out: Path | None,
    change: list[str] | None,
    seed: int | None,
    profiles: list[Path] | None,
    as_json: bool,
    no_plots: bool,
) -> None:
    """Run, write the folder, show the table."""
    from rich.console import Console

    from simulator.report.folder import check
    from simulator.scenario import find_scenario

    path = find_scenario(scenario)
    place = check(out or Path("ramwise-results") / path.stem)
    wanted, source = read(path, tuple(change or ()))
    report = run(wanted, source, profiles=profiles or (), seed=seed)
    place = write(report, place, plots=not no_plots)
    if as_json:
        sys.stdout.write(summary_json(report))
        return
    console = Console()
    console.print(overview(report, console.width))
    console.print(f"results: {place}", soft_wrap=True, highlight=False)
