"""What Python programs use: load a scenario, run it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simulator.report.result import Report
from simulator.scenario import Scenario, read_scenario
from simulator.serve import run as run_scenario
from simulator.yaml_source import Source


@dataclass(frozen=True)
class Loaded:
    """A scenario and the text that it was read from, for messages."""

    scenario: Scenario
    source: Source


def load(path: str | Path, *changes: str) -> Loaded:
    """Read a scenario, with changes on top: load("chat.yaml", "limits.max_num_seqs=64"). Raise ScenarioError."""
    return Loaded(*read_scenario(path, changes))


def run(loaded: Loaded | str | Path, *, seed: int | None = None, profiles: tuple[Path, ...] = ()) -> Report:
    """Run a scenario, loaded or by path. Raise RamwiseError: everything that is wrong, before anything runs."""
    if not isinstance(loaded, Loaded):
        loaded = load(loaded)
    return run_scenario(loaded.scenario, loaded.source, profiles=profiles, seed=seed)
