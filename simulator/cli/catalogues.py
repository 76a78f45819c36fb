"""`ramwise hardware`, `models` and `stacks`: what there is, with its sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simulator.cli.options import AsJson, Profiles

hardware_app = typer.Typer(help="Hardware profiles: list, show with sources, check a file.", no_args_is_help=True)
models_app = typer.Typer(help="Models: list, show.", no_args_is_help=True)
stacks_app = typer.Typer(help="Software stacks: list, show with sources.", no_args_is_help=True)


@hardware_app.command("list")
def hardware_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every hardware profile, its family and main figures."""
    from simulator.hardware.catalogue import Catalogue
    from simulator.report.catalogues import hardware_table, print_rows

    catalogue = Catalogue(profiles or ())
    print_rows(hardware_table([catalogue.load(name) for name in catalogue.names()]), as_json)


@hardware_app.command("show")
def hardware_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every number of a profile, how it is known and from where."""
    from simulator.hardware.catalogue import Catalogue
    from simulator.report.catalogues import facts_table, print_rows

    print_rows(facts_table(Catalogue(profiles or ()).load(name).provenance()), as_json)


@hardware_app.command("check")
def hardware_check(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check hardware profiles: units, sources, and numbers that contradict each other."""
    from simulator.errors import InputError, Problem
    from simulator.hardware.catalogue import Catalogue

    problems: list[Problem] = []
    for file in files:
        try:
            profile = Catalogue().load(file if file.suffix else f"{file}.yaml")
        except InputError as error:
            problems += error.problems
        else:
            typer.echo(f"{file}: '{profile.name}' is sound; its weakest label is {profile.weakest_label()}")
    if problems:
        raise InputError(problems)


@models_app.command("list")
def models_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every model of the zoo with its parameters."""
    from simulator.model.zoo import load_model, model_names
    from simulator.report.catalogues import models_table, print_rows

    folders = profiles or []
    print_rows(models_table([load_model(name, folders) for name in model_names(folders)]), as_json)


@models_app.command("show")
def models_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """A model: shape, parameters by tensor class beside the published total, KV cache of a token."""
    from simulator.model.zoo import load_model, published
    from simulator.report.catalogues import model_table, print_rows

    print_rows(model_table(load_model(name, profiles or ()), published(name)), as_json)


@stacks_app.command("list")
def stacks_list(profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every software stack, of serving and of training, its date and where it runs."""
    from simulator.report.catalogues import print_rows, stacks_table
    from simulator.stack.stack import Stacks
    from simulator.stack.training.stack import TrainingStacks

    serving, training = Stacks(profiles or ()), TrainingStacks(profiles or ())
    listed = [serving.load(name) for name in serving.paths()], [training.load(name) for name in training.paths()]
    print_rows(stacks_table([*listed[0], *listed[1]]), as_json)


@stacks_app.command("show")
def stacks_show(name: str, profiles: Profiles = None, as_json: AsJson = False) -> None:
    """Every number of a stack, how it is known and from where."""
    from simulator.report.catalogues import facts_table, print_rows
    from simulator.stack.stack import Stacks
    from simulator.stack.training.stack import TrainingStacks

    training = TrainingStacks(profiles or ())
    stack = training.load(name) if name in training.paths() else Stacks(profiles or ()).load(name)
    print_rows(facts_table(stack.provenance()), as_json)
