"""`ramwise run` of a scenario with `task: train`."""

from __future__ import annotations

import sys
from pathlib import Path


def train(
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
    from simulator.report.training.folder import summary_json, write
    from simulator.report.training.tables import overview
    from simulator.scenario import find_scenario, read_training
    from simulator.train import run

    path = find_scenario(scenario)
    place = check(out or Path("ramwise-results") / path.stem)
    read, source = read_training(path, tuple(change or ()))
    report = run(read, source, profiles=profiles or (), seed=seed)
    place = write(report, place, plots=not no_plots)
    if as_json:
        sys.stdout.write(summary_json(report))
        return
    console = Console()
    console.print(overview(report, console.width))
    console.print(f"results: {place}", soft_wrap=True, highlight=False)
