"""`ramwise validate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from simulator.cli.options import Profiles


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[CSV...]", help="Measurements; the shipped ones when left out.")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Only rows of this software stack.")] = None,
    chip: Annotated[str | None, typer.Option(help="Only rows of this chip, as rows or profiles name it.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only rows of this metric.")] = None,
    profiles: Profiles = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures, the rows and two plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """Simulated against measured: errors by family, chip, stack and metric, the worst rows, and what is left out."""
    from simulator.validation.report import print_validation, write_validation
    from simulator.validation.validation import validate as compare_rows

    found = compare_rows(files or (), stack=stack, chip=chip, metric=metric, profiles=profiles or ())
    if out is not None:
        write_validation(found, out)
    if as_json:
        sys.stdout.write(json.dumps(found.document(), allow_nan=False) + "\n")
        return
    from rich.console import Console

    print_validation(found, Console().width)
