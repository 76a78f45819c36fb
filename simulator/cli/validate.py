"""`ramwise validate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from simulator.cli.options import INTERRUPTED, Profiles, Set
from simulator.cli.progress import progress

if TYPE_CHECKING:
    from simulator.validation.validation import Validation


def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[CSV...]", help="Measurements; the shipped ones when left out.")
    ] = None,
    stack: Annotated[str | None, typer.Option(help="Only rows of this software stack.")] = None,
    chip: Annotated[str | None, typer.Option(help="Only rows of this chip, as rows or profiles name it.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only rows of this metric.")] = None,
    leave_out: Annotated[
        Literal["chip", "model"] | None,
        typer.Option(
            help="chip: each chip on its datasheet and the stack's numbers of other chips; "
            "model: each on the stack's numbers as the other models tell them."
        ),
    ] = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="The shipped tables of single kernels: products, attention, collectives.")
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Recorded runs, request by request: HARDWARE_MODEL_tpN.csv.")
    ] = False,
    change: Set = None,
    profiles: Profiles = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figures, the rows and two plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """Simulated against measured: errors by family, chip, stack and metric, the worst rows, and what is left out."""
    if replay:
        _refuse({"--chip": chip, "--metric": metric, "--leave-out": leave_out, "--kernels": kernels}, "beside --replay")
        _replay(files, stack, change, profiles, out, as_json)
        return
    _refuse({"--set": change}, "without --replay")
    _refuse({"--leave-out model": kernels and leave_out == "model"}, "beside --kernels")
    from simulator.validation.report import print_validation, write_validation
    from simulator.validation.validation import Stopped
    from simulator.validation.validation import validate as compare_rows

    try:
        with progress(quiet=as_json) as tell:
            found = compare_rows(
                files or (),
                stack=stack,
                chip=chip,
                metric=metric,
                kernels=kernels,
                profiles=profiles or (),
                leave_out=leave_out,
                progress=tell,
            )
    except Stopped as stopped:
        _stop(stopped.found, out)
    if out is not None:
        write_validation(found, out)
    if as_json:
        sys.stdout.write(json.dumps(found.document(), allow_nan=False) + "\n")
        return
    from rich.console import Console

    print_validation(found, Console().width)


def _stop(found: Validation, out: Path | None) -> NoReturn:
    """After Ctrl-C keep what was finished, say so, leave."""
    from simulator.validation.report import write_validation

    rows = len(found.points) + len(found.apart)
    said = "nothing is kept without --out DIR"
    if out is not None and rows:
        said = f"what was finished is in {write_validation(found, out)[0].parent}"
    typer.echo(f"ramwise: stopped; {said} (rows: {rows:,})", err=True)
    raise SystemExit(INTERRUPTED) from None


def _refuse(options: dict[str, object], where: str) -> None:
    """An option that would change nothing is a mistake of the user's."""
    from simulator.errors import InputError

    for name, value in options.items():
        if value:
            raise InputError(f"{name} means nothing {where}; leave it out")


def _replay(
    files: list[Path] | None,
    stack: str | None,
    changes: list[str] | None,
    profiles: list[Path] | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Arrivals of recorded runs through the event engine."""
    from simulator.validation.replay import read_replay, shipped_replays
    from simulator.validation.replay_report import document, print_replays, write_replays
    from simulator.validation.replay_study import study

    replays = [
        read_replay(file, changes or (), stack=stack, profiles=profiles or ()) for file in files or shipped_replays()
    ]
    outcomes = study(replays)
    if out is not None:
        write_replays(outcomes, out)
    if as_json:
        sys.stdout.write(json.dumps(document(outcomes), allow_nan=False) + "\n")
        return
    from rich.console import Console

    print_replays(outcomes, Console().width)
