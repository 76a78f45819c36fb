"""`ramwise schema` and `ramwise init`: files to write scenarios with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def schema(
    what: Annotated[
        str, typer.Argument(metavar="scenario|training|samples|hardware|stack|training-stack")
    ] = "scenario",
) -> None:
    """Print the JSON Schema of scenarios, hardware profiles or stacks, for editors."""
    from simulator.errors import InputError, unknown
    from simulator.hardware.profile import Profile
    from simulator.scenario import SampleScenario, Scenario, TrainingScenario
    from simulator.stack.stack import Stack
    from simulator.stack.training.stack import TrainingStack

    kinds: dict[str, Any] = {
        "scenario": Scenario,
        "training": TrainingScenario,
        "samples": SampleScenario,
        "hardware": Profile,
        "stack": Stack,
        "training-stack": TrainingStack,
    }
    if what not in kinds:
        raise InputError(unknown("schema", what, kinds))
    typer.echo(json.dumps(kinds[what].model_json_schema(), indent=2))


def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("scenario.yaml")) -> None:
    """Write a commented scenario to start from."""
    from simulator.errors import OutputError
    from simulator.hardware.catalogue import packaged_folder

    if path.exists():
        raise OutputError(f"{path} exists; give another name: ramwise init NAME.yaml")
    text = (packaged_folder("scenarios") / "first.yaml").read_text(encoding="utf-8")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"wrote {path}; run it: ramwise run {path}")
