"""A point of a study: one model on one machine under one workload."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product, takewhile
from pathlib import Path
from typing import Any

from simulator.errors import Where
from simulator.hardware.catalogue import Catalogue
from simulator.quantity import in_si
from simulator.report.plain import plain
from simulator.scenario import AnyScenario, Money, Scenario, any_scenario, changed, parts_of, value_at
from simulator.study.axes import Changes
from simulator.study.equal_loss import Leveller
from simulator.study.task import check_single, run, terms
from simulator.study.uncertainty import Uncertainty
from simulator.yaml_source import Marked, Source

LOAD = ("traffic.", "seed")
"""How keys begin that say what there is to do, and not by what it is done."""


@dataclass(frozen=True)
class Point:
    """A scenario of one model and one machine, and the values of the study's keys that led to it. Sample 0 holds the
    numbers as they are known. `file` is where the scenario was written, for names beside it; `folders` come first.
    alike: equal for points of one study that differ in nothing but their traffic and seed."""

    values: Mapping[str, Any]
    replication: int
    sample: int
    scenario: AnyScenario
    file: str
    folders: tuple[Path, ...]
    alike: str

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


@dataclass
class Points:
    """Makes the points of a scenario, `base`, with changes on top: every model on every machine, with every seed and
    sample. `at` is where the study says what varies."""

    base: Source
    replications: int
    uncertainty: Uncertainty
    catalogue: Catalogue
    folders: tuple[Path, ...]
    at: Where
    leveller: Leveller | None = None
    _terms: dict[str, dict[str, Money]] = field(default_factory=dict)
    _last: list[tuple[str, str]] = field(default_factory=list)
    _sources: list[Source] = field(default_factory=list)

    def of(self, changes: Changes) -> Iterator[Point]:
        """The points of one combination of values. Machines are priced on the basis that they have in common, as they
        are when the scenario runs as a whole. Raise ScenarioError, named by the study's keys."""
        source = self._source(changes)
        if self.leveller is not None:
            source = self.leveller.levelled(source)
        scenario = any_scenario(source)
        check_single(scenario, self.at)
        values = {key: _value(scenario, key, written) for key, written in changes.items()}
        alike = repr([(key, value) for key, value in changes.items() if not key.startswith(LOAD)])
        money = self._money(scenario, alike)
        machines: tuple[Any, ...] = scenario.machines
        for (m, model), (k, machine) in product(enumerate(scenario.models), enumerate(machines)):
            for sample in range(self.uncertainty.samples + 1):
                sampled = self.uncertainty.sample(machine, sample)
                same = f"{alike} {m} {k} {sample}"
                for replication in range(self.replications):
                    case = {"model": model, "machines": (sampled,), "seed": scenario.seed + replication, **money}
                    one = scenario.model_copy(update=case)
                    yield Point(values, replication, sample, one, self.base.path, self.folders, same)

    def _source(self, changes: Changes) -> Source:
        """The base with changes on top; what it has in common with the last one, from the first key on, is kept."""
        wanted = [(key, json.dumps(value, ensure_ascii=False)) for key, value in changes.items()]
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, self._last, strict=False)))
        sources = self._sources[:alike] if self._last else []
        for key, text in wanted[alike:]:
            sources.append(changed(sources[-1] if sources else self.base, key, text, f"{self.at}: {key}"))
        self._last, self._sources = wanted, sources
        return sources[-1] if sources else self.base

    def _money(self, scenario: AnyScenario, alike: str) -> dict[str, Money]:
        """The basis of all machines of the scenario; what only differs in its load is on the same one."""
        if alike not in self._terms:
            found = terms(scenario, self.catalogue)
            self._terms[alike] = {} if found is None else {"money": found}
        return self._terms[alike]


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
