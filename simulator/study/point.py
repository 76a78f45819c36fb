"""A point of a study: one model on one machine under one workload."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from simulator.errors import Where
from simulator.hardware.catalogue import Catalogue
from simulator.quantity import in_si
from simulator.report.plain import plain
from simulator.scenario import AnyScenario, Scenario, any_scenario, changed, parts_of, value_at
from simulator.study.axes import Changes
from simulator.study.equal_loss import Leveller
from simulator.study.task import check_single, priced, run
from simulator.study.uncertainty import Uncertainty
from simulator.yaml_source import Marked, Source


@dataclass(frozen=True)
class Point:
    """A scenario of one model and one machine, and the values of the study's keys that led to it. Sample 0 holds the
    numbers as they are known. `file` is where the scenario was written, for names beside it; `folders` come first."""

    values: Mapping[str, Any]
    replication: int
    sample: int
    scenario: AnyScenario
    file: str
    folders: tuple[Path, ...] = ()

    @property
    def serving(self) -> Scenario:
        """The scenario of a point whose task is serving: no other has a steady state."""
        if not isinstance(self.scenario, Scenario):
            raise TypeError(f"a scenario of {type(self.scenario).__name__} is not served")
        return self.scenario

    @property
    def source(self) -> Source:
        """The file, for messages; the values that it holds are in `scenario`."""
        return Source(self.file, {}, Marked({}, Where(self.file)))


def points_of(
    base: Source,
    changes: Changes,
    replications: int,
    uncertainty: Uncertainty,
    catalogue: Catalogue,
    folders: tuple[Path, ...],
    at: Where,
    leveller: Leveller | None = None,
) -> Iterator[Point]:
    """The points of one combination of values: every model on every machine, each with every seed and sample.

    Machines are priced on the basis that they have in common, as they are when the scenario runs as a whole. Raise
    ScenarioError, named by the study's keys.
    """
    source = base
    for key, value in changes.items():
        source = changed(source, key, json.dumps(value, ensure_ascii=False), f"{at}: {key}")
    if leveller is not None:
        source = leveller.levelled(source)
    scenario = any_scenario(source)
    check_single(scenario, at)
    values = {key: _value(scenario, key, written) for key, written in changes.items()}
    whole = priced(scenario, catalogue)
    machines: tuple[Any, ...] = scenario.machines
    for model, machine in product(scenario.models, machines):
        for sample in range(uncertainty.samples + 1):
            sampled = uncertainty.sample(machine, sample)
            for replication in range(replications):
                case = {"model": model, "machines": (sampled,), "seed": scenario.seed + replication}
                yield Point(values, replication, sample, whole.model_copy(update=case), base.path, folders)


def simulated(point: Point) -> dict[str, Any]:
    """The summary of a point, as JSON data. Raise RamwiseError when the scenario cannot run."""
    report = run(point.scenario, point.source, point.folders)
    summary: dict[str, Any] = plain(report.runs[0].summary)
    return summary


def _value(scenario: AnyScenario, key: str, written: Any) -> Any:
    """What the scenario holds at a key: a number in SI where it is one, else as it was written."""
    found = value_at(scenario, key)
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return float(found) if isinstance(found, float) else found
    # What a machine changes is read by its profile, not by the scenario.
    return as_number(written) if {"change", "stack_change"} & set(parts_of(key)) else as_written(written)


def as_written(value: Any) -> Any:
    """A value of a study as a cell of a table: itself, or as JSON text."""
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value, ensure_ascii=False)


def as_number(value: Any) -> Any:
    """The same of a value that no scenario could read: a quantity in SI, where it is one."""
    number = in_si(value) if isinstance(value, str) else None
    return as_written(value) if number is None else number
