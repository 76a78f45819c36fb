"""Finds and reads a scenario, with changes on top."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from simulator.errors import Problem, ScenarioError, Where, unknown
from simulator.hardware.catalogue import packaged_folder
from simulator.problems import Location
from simulator.scenario.samples import TASKS, SampleScenario
from simulator.scenario.serving import Scenario
from simulator.scenario.training import TrainingScenario
from simulator.yaml_source import Source, read_yaml, validate

_PARTS = re.compile(r'"([^"]+)"|([^.\[\]"]+)')
"""The parts of a key; one with dots in it stands in double quotes."""


def read_scenario(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[Scenario, Source]:
    """Read a scenario, with `--set`-like changes ("limits.max_num_seqs=64", "machines[*].tp=4") on top.

    Raise ScenarioError with everything that is wrong.
    """
    source = _read(path, changes)
    return scenario_of(source), source


def read_training(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[TrainingScenario, Source]:
    """The same for a scenario of `task: train`."""
    source = _read(path, changes)
    scenario: TrainingScenario = validate(TrainingScenario, source, error=ScenarioError)
    return scenario, source


def read_samples(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[SampleScenario, Source]:
    """The same for a scenario of `task: recommend`, `solve` or `classes`."""
    source = _read(path, changes)
    scenario: SampleScenario = validate(SampleScenario, source, error=ScenarioError)
    return scenario, source


def read_any(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[AnyScenario, Source]:
    """The same for a scenario of any task."""
    source = _read(path, changes)
    return any_scenario(source), source


def task_of(path: Path | str) -> str:
    """The task that a scenario names: serve when it names none. Raise ScenarioError when it cannot be read."""
    return _task(read_yaml(Path(path), error=ScenarioError).data)


def _task(whole: Any) -> str:
    return str(whole.get("task", "serve")) if isinstance(whole, dict) else "serve"


def _read(path: Path | str, changes: tuple[str, ...]) -> Source:
    source = read_yaml(Path(path), error=ScenarioError)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key.strip():
            raise ScenarioError(f"--set {change}: not a change; write KEY=VALUE, e.g. --set limits.max_num_seqs=64")
        source = changed(source, key, value, f"--set {change}")
    return source


AnyScenario = Scenario | TrainingScenario | SampleScenario


def any_scenario(source: Source) -> AnyScenario:
    """The scenario of any task that a source holds. Raise ScenarioError with everything that is wrong."""
    task = _task(source.data)
    if task == "train":
        training: TrainingScenario = validate(TrainingScenario, source, error=ScenarioError)
        return training
    if task in TASKS:
        samples: SampleScenario = validate(SampleScenario, source, error=ScenarioError)
        return samples
    return scenario_of(source)


def scenario_of(source: Source) -> Scenario:
    """The scenario that a source holds. Raise ScenarioError with everything that is wrong."""
    if isinstance(source.data, dict):
        _of_serving(source)
    scenario: Scenario = validate(Scenario, source, error=ScenarioError)
    return scenario


def _of_serving(source: Source) -> None:
    """Raise ScenarioError for a study, for a task that nobody knows, and for one that is not served."""
    task, place = source.data.get("task", "serve"), source.where(("task",))
    if "study" in source.data and "scenario" in source.data:
        mend = f"run it: ramwise {source.data['study']} {source.path}"
        raise ScenarioError(Problem("this is a study and no scenario", source.where(), mend))
    if not isinstance(task, str) or task == "serve":
        return
    tasks = ("serve", "train", *TASKS)
    if task not in tasks:
        raise ScenarioError(unknown("task", task, tasks, place))
    mend = "others run alone, ramwise run FILE, or vary in a sweep or a crossover"
    raise ScenarioError(Problem(f"the task is {task}, and serve is needed here", place, mend))


def changed(source: Source, key: str, value: str, name: str) -> Source:
    """A source with `value` (YAML text) at `key`; [*] stands for every item of a list. `name` is its place in messages.

    Raise ScenarioError when the key leads nowhere.
    """
    for location in _locations(key, source.data):
        source = source.replaced(location, value, name, ScenarioError)
    return source


def find_scenario(name: str, where: Where | None = None) -> Path:
    """A file, or the name of a packaged scenario. Raise ScenarioError when it is neither."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = {found.stem: found for found in sorted(packaged_folder("scenarios").glob("*.yaml"))}
    if path.stem in packaged and (path.suffix in ("", ".yaml")) and len(path.parts) <= 2:
        return packaged[path.stem]
    if path.suffix:
        raise ScenarioError(Problem(f"no such file: {name}", where, "packaged scenarios: " + ", ".join(packaged)))
    raise ScenarioError(unknown("scenario", name, packaged, where))


@cache
def parts_of(key: str) -> tuple[str, ...]:
    """'machines[*].change."chip.memory.hbm.bandwidth"' -> machines, *, change, chip.memory.hbm.bandwidth."""
    parts = [quoted or plain for quoted, plain in _PARTS.findall(key)]
    for name in ("change", "stack_change"):  # what follows is a path in a profile or a stack, quoted or not
        if name in parts[:-1]:
            at = parts.index(name) + 1
            return (*parts[:at], ".".join(parts[at:]))
    return tuple(parts)


def value_at(scenario: AnyScenario, key: str) -> Any:
    """What a scenario holds at a key, of a list's items the first for [*]; None where it leads nowhere."""
    found: Any = scenario
    for part in parts_of(key.replace("[*]", "[0]")):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif part.isdigit() and isinstance(found, Sequence) and not isinstance(found, str):
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = getattr(found, part, None)
    return found


def _locations(key: str, data: Any) -> list[Location]:
    """Where a key such as 'machines[*].tp' stands."""
    found: list[tuple[Location, Any]] = [((), data)]
    for part in parts_of(key.strip()) or (key,):
        if part == "*":
            found = [((*at, i), item) for at, below in found if isinstance(below, list) for i, item in enumerate(below)]
        else:
            step: str | int = int(part) if part.isdigit() else part
            found = [((*at, step), _below(inside, step)) for at, inside in found]
    if not found:
        raise ScenarioError(f"{key}: there is no list for [*]; write the number of an item")
    return [at for at, _ in found]


def _below(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    return data[part] if isinstance(data, list) and isinstance(part, int) and part < len(data) else None
