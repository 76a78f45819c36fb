"""Where a study looks: the scenario that it changes, and the points that changes make of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from simulator.errors import InputError, Problem, ScenarioError, Where
from simulator.hardware.catalogue import Catalogue
from simulator.scenario import AnyScenario, ServingMachineChoice
from simulator.stack.stack import Stacks
from simulator.study.axes import Changes
from simulator.study.content import Contents
from simulator.study.equal_loss import EqualLoss, Level, Leveller
from simulator.study.point import Point, Points, as_number
from simulator.study.task import named
from simulator.study.uncertainty import Uncertainty
from simulator.yaml_source import read_yaml


@dataclass(frozen=True)
class Row:
    """A place in the table of a study: its point and the point's key, or why there is none (`refused`)."""

    values: Mapping[str, Any]
    point: Point | None = None
    key: str = ""
    refused: str = ""

    @cached_property
    def machine(self) -> str:
        """What results call the machine."""
        choice = self.point.scenario.machines[0] if self.point else None
        if choice is None:
            return "-"
        pools = choice.pools if isinstance(choice, ServingMachineChoice) else (choice,)
        return choice.name or " > ".join(pool.hardware for pool in pools)

    @cached_property
    def model(self) -> str:
        """What results call the model."""
        return named(self.point.scenario.models[0]) if self.point else "-"


class Space:
    """The rows that changes of a scenario make: every model on every machine, seeds and samples of each.

    Keys are of all that a result depends on, or mere places in the study where results are not kept.
    """

    def __init__(
        self,
        scenario: Path,
        at: Where,
        *,
        folders: Sequence[Path] = (),
        replications: int = 1,
        samples: int = 0,
        kept: bool = True,
        equal: EqualLoss | None = None,
    ) -> None:
        """Raise InputError when the scenario cannot be read."""
        base = read_yaml(scenario, error=ScenarioError)
        places = (*folders, scenario.resolve().parent)
        catalogue = Catalogue(places)
        seed = base.data.get("seed", 0) if isinstance(base.data, dict) else 0
        self.uncertainty = Uncertainty(samples, seed if isinstance(seed, int) else 0, catalogue, Stacks(places))
        self._key = _by_content(Contents(places)) if kept else _by_place()
        self._leveller = Leveller(equal, places, at) if equal else None
        self._made = Points(base, replications, self.uncertainty, catalogue, tuple(folders), at, self._leveller)
        self._refused: InputError | None = None
        self.points: dict[str, Point] = {}

    def rows(self, changes: Changes) -> list[Row]:
        """The rows of one combination of values; their points are added to `points`."""
        try:
            found = [Row(point.values, point, self._key(point)) for point in self._made.of(changes)]
        except InputError as error:
            self._refused = self._refused or error
            values = {key: as_number(value) for key, value in changes.items()}
            return [Row(values, refused=str(error).splitlines()[0])]
        self.points.update({row.key: row.point for row in found if row.point})
        return found

    @property
    def levels(self) -> tuple[tuple[Level, ...], ...]:
        """What was resized for equal losses, and every loss; empty where nothing was asked."""
        return tuple(self._leveller.levels) if self._leveller else ()

    def check(self) -> None:
        """Raise what is wrong when no point at all can run."""
        if self._refused is not None and not self.points:
            raise self._refused


def check_names(rows: Iterable[Row], told: Collection[str], at: Where) -> None:
    """Raise ScenarioError where two points would count as one: by the keys that vary and the names of model and machine
    they are the same, and their scenarios are not. told: keys of which those names alone tell."""
    known: dict[tuple[Any, ...], AnyScenario] = {}
    for row in rows:
        if row.point is None:
            continue
        place = tuple(value for key, value in row.values.items() if key not in told)
        place += (row.model, row.machine, row.point.replication, row.point.sample)
        if known.setdefault(place, row.point.scenario) != row.point.scenario:
            what = f"'{row.model}' on '{row.machine}' is there twice, with other settings"
            raise ScenarioError(Problem(what, at, "give models and machines a `name` each"))


def _by_content(contents: Contents) -> Callable[[Point], str]:
    return lambda point: contents.key(point.scenario)


def _by_place() -> Callable[[Point], str]:
    places = count()
    return lambda _: str(next(places))
