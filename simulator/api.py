"""What Python programs use: load a scenario, run it; studies of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from simulator.errors import InputError
from simulator.scenario import AnyScenario, find_scenario, read_any
from simulator.study.crossover import Map
from simulator.study.crossover import crossover as run_crossover
from simulator.study.evaluation import Progress
from simulator.study.folder import check
from simulator.study.plan import plan as run_plan
from simulator.study.proposal import Proposal
from simulator.study.study import find_study
from simulator.study.sweep import Sweep
from simulator.study.sweep import sweep as run_sweep
from simulator.study.task import AnyReport
from simulator.study.task import run as run_any
from simulator.yaml_source import Source, as_yaml

__all__ = ["Loaded", "crossover", "load", "plan", "run", "sweep"]


@dataclass(frozen=True)
class Loaded:
    """A scenario and the text that it was read from, for messages."""

    scenario: AnyScenario
    source: Source

    def __str__(self) -> str:
        return as_yaml(self.source.data)


def load(path: str | Path, *changes: str) -> Loaded:
    """Read a scenario, a file or a packaged one, with changes on top: load("first", "limits.max_num_seqs=64"). Raise
    ScenarioError."""
    if not isinstance(path, str | Path):
        raise InputError(f"a scenario is a path or a name, not {path!r}; write load('first')")
    return Loaded(*read_any(path if Path(path).suffix else find_scenario(str(path)), changes))


def run(loaded: Loaded | str | Path, *, seed: int | None = None, profiles: tuple[Path, ...] = ()) -> AnyReport:
    """Run a scenario, loaded or by path. Raise RamwiseError: everything that is wrong, before anything runs."""
    if seed is not None and (not isinstance(seed, int) or seed < 0):
        raise InputError(f"seed {seed!r} is no whole number of zero or more; write seed=7")
    if not isinstance(loaded, Loaded):
        loaded = load(loaded)
    return run_any(loaded.scenario, loaded.source, profiles, seed)


Study = str | Path | Mapping[str, Any]
"""A study's file, the name of a packaged one, or what would stand in a file."""

RESULTS = Path("ramwise-results")


class Options(TypedDict, total=False):
    """How a study is computed: processes on this machine, or a Dask scheduler's address; folders of profiles that come
    first; `progress(done, of)` is called with points."""

    workers: int
    cluster: str | None
    folders: Sequence[Path]
    progress: Progress | None


class Sampled(Options, total=False):
    """samples: draws of the numbers that have ranges, in place of the study's own."""

    samples: int | None


def sweep(study: Study, out: str | Path | None = None, **options: Unpack[Sampled]) -> Sweep:
    """Every point of a study. Results by events are kept in `out`, where another run of it goes on. Raise
    ScenarioError."""
    return run_sweep(*_placed(study, out, "sweep"), **options)


def crossover(study: Study, out: str | Path | None = None, **options: Unpack[Sampled]) -> Map:
    """The map of who wins over two keys of a scenario. Raise ScenarioError."""
    return run_crossover(*_placed(study, out, "crossover"), **options)


def plan(study: Study, out: str | Path | None = None, **options: Unpack[Options]) -> Proposal:
    """The best fleet for some traffic within its SLO. Raise ScenarioError."""
    return run_plan(*_placed(study, out, "plan"), **options)


def _placed(study: Study, out: str | Path | None, command: str) -> tuple[Path | Mapping[str, Any], Path]:
    """The study, and the folder of its results."""
    found = study if isinstance(study, Mapping) else find_study(str(study))
    name = command if isinstance(found, Mapping) else found.stem
    return found, check(RESULTS / name if out is None else Path(out))
