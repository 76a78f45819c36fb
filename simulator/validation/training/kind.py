"""Measurements of training: a row is the time of one step of one run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.step import StepTime, step_time
from simulator.engine.schedules import check_schedule
from simulator.errors import RamwiseError
from simulator.model.architecture import Architecture
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.recipe import Recipe
from simulator.train.step import event_time
from simulator.validation.compare import Place, Point
from simulator.validation.rows import FOLDER, MeasurementError, Reason, Row
from simulator.validation.training.question import TrainingInterpreter, TrainingQuestion
from simulator.validation.training.rows import TELLING, TrainingRow, read_training_rows

SHIPPED = FOLDER / "training.csv.gz"
SCALE = FOLDER / "training_scale.csv"
"""GPT-3 175B of MLPerf Training on 256 to 10,752 H100, as rates of FLOPs whose seconds and layouts follow from the
submissions."""


class Training:
    """The kind of training.csv. Rates become the seconds of a step before they are compared."""

    columns: ClassVar[frozenset[str]] = TELLING
    shipped: ClassVar[tuple[Path, ...]] = (SHIPPED, SCALE)

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._interpreter = TrainingInterpreter(folders)

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files; equal rows count once."""
        seen: dict[str, TrainingRow] = {}
        for row in (row for file in files for row in read_training_rows(file)):
            if seen.setdefault(row.id, row) != row:
                raise MeasurementError(f"two different rows are called '{row.id}'; give each its own id")
        return [row for row in seen.values() if not row.dropped]

    def place(self, row: Row) -> Place:
        """Family, stack and profile of a row; "-" where nothing is known."""
        assert isinstance(row, TrainingRow)
        site, profile = self._interpreter.site(row), self._interpreter.profile(row)
        stack = site["stack"] if site else "-"
        return Place(profile.family, stack, profile.name) if profile else Place("-", stack, None)

    def points(self, rows: Sequence[Row]) -> Iterator[Point]:
        """Simulate every row that can be expressed, in the order of `rows`; steps that are alike once."""
        found: dict[Hashable, float | Reason] = {}
        for row in rows:
            if isinstance(row, TrainingRow):
                yield self._point(row, found)

    def _point(self, row: TrainingRow, found: dict[Hashable, float | Reason]) -> Point:
        family, stack, _ = self.place(row)
        asked = self._interpreter.ask(row)
        if isinstance(asked, Reason):
            return Point(row, family, stack, None, asked.text)
        machine = asked.machine
        where = machine.stack.name, machine.profile.name, machine.chips, machine.slices, machine.network_override
        step = asked.architecture, asked.recipe, asked.layout, where
        if step not in found:
            found[step] = simulate(asked)
        value = found[step]
        if isinstance(value, Reason):
            return Point(row, family, stack, None, value.text)
        return Point(asked.row, family, stack, value, "", asked.assumed)


def simulate(asked: TrainingQuestion) -> float | Reason:
    """Seconds of the step in events, as `run` prints them, or why the costs refuse it."""
    return _seconds(asked, _event_time)


def in_closed_form(asked: TrainingQuestion) -> float | Reason:
    """The same without events: within a per cent of them where exchanges fit beside the passes."""
    return _seconds(asked, step_time)


def _seconds(asked: TrainingQuestion, time: Callable[..., StepTime]) -> float | Reason:
    problems = asked.layout.check(asked.architecture)
    if problems:
        return Reason(f"layout cannot cut the model: {problems[0].what}")
    try:
        return time(asked.architecture, asked.recipe, asked.layout, asked.machine).seconds
    except RamwiseError as error:
        return Reason(str(error).splitlines()[0])


def _event_time(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> StepTime:
    """A batch that leaves a part of a micro-batch over has no events."""
    if check_schedule(recipe.schedule, layout.pp, recipe.micro_batches(layout), layout.vpp):
        return step_time(architecture, recipe, layout, machine)
    return event_time(architecture, recipe, layout, machine, recipe.schedule)
