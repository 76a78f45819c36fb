"""Reads a scenario, with changes from the command line on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator.errors import ScenarioError
from simulator.scenario.serving import Scenario
from simulator.yaml_source import Source, read_yaml, validate


def read_scenario(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[Scenario, Source]:
    """Read a scenario, with `--set`-like changes ("limits.max_num_seqs=64", "machines[0].tp=4") on top.

    Raise ScenarioError with everything that is wrong.
    """
    source = read_yaml(Path(path), error=ScenarioError)
    for change in changes:
        source = _changed(source, change)
    scenario: Scenario = validate(Scenario, source, error=ScenarioError)
    return scenario, source


def _changed(source: Source, change: str) -> Source:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ScenarioError(f"--set {change}: not a change; write KEY=VALUE, e.g. --set limits.max_num_seqs=64")
    location: list[Any] = []
    for part in key.strip().replace("[", ".").replace("]", "").split("."):
        location.append(int(part) if part.isdigit() else part)
    return source.replaced(tuple(location), value, f"--set {change}", ScenarioError)
