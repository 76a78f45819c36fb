"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells report it."""

ScenarioFile = Annotated[str, typer.Argument(metavar="SCENARIO", help="A YAML file, or the name of a packaged one.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the results; ramwise-results/NAME when left out.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the scenario.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed in place of the scenario's.")]
Profiles = Annotated[
    list[Path] | None, typer.Option(metavar="DIR", help="Folder of profiles, stacks and models that come first.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print summary.json on stdout and nothing else.")]
NoPlots = Annotated[bool, typer.Option("--no-plots", help="Leave the plots out.")]
