"""The command `ramwise`. Imports that cost time are made where they are used, so that --help answers at once."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from simulator.cli import catalogues, files, run, study, validate
from simulator.cli.options import INTERRUPTED

app = typer.Typer(
    help="When is memory worth more than compute? Simulates large models on GPUs, DRAM nodes, TPUs and spatial chips.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    run.run,
    run.compare,
    study.sweep,
    study.crossover,
    study.plan,
    validate.validate,
    files.schema,
    files.init,
):
    app.command()(command)
for name, group in (
    ("hardware", catalogues.hardware_app),
    ("models", catalogues.models_app),
    ("stacks", catalogues.stacks_app),
):
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point: mistakes of the user end in one line a problem on stderr and status 1, never in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without × or — still gets its table
    try:
        from simulator.errors import RamwiseError

        try:
            app()
            sys.stdout.flush()
        except RamwiseError as error:
            typer.echo(f"ramwise: {error}", err=True)
            raise SystemExit(1) from None
    except OSError as error:
        # Standard output is full or gone. Nothing more can be written there, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        typer.echo(f"ramwise: cannot write: {error.strerror or error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        typer.echo("ramwise: stopped before anything was finished", err=True)
        raise SystemExit(INTERRUPTED) from None


@app.callback(invoke_without_command=True)
def version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """When is memory worth more than compute? Simulates large models on GPUs, DRAM nodes, TPUs and spatial chips."""
    if version:
        from simulator.report.result import version as installed

        typer.echo(f"ramwise {installed()}")
        raise typer.Exit
