"""Measurements of training: a row is the time of one step of one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from simulator.cost.training.step import step_time
from simulator.errors import RamwiseError
from simulator.validation.compare import Place, Point
from simulator.validation.rows import FOLDER, MeasurementError, Reason, Row
from simulator.validation.training.question import TrainingInterpreter, TrainingQuestion
from simulator.validation.training.rows import TELLING, TrainingRow, read_training_rows

SHIPPED = FOLDER / "training.csv.gz"


class Training:
    """The kind of training.csv. Rates become the seconds of a step before they are compared."""

    columns: ClassVar[frozenset[str]] = TELLING
    shipped: ClassVar[tuple[Path, ...]] = (SHIPPED,)

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
        """Simulate every row that can be expressed, in the order of `rows`."""
        return (self._point(row) for row in rows if isinstance(row, TrainingRow))

    def _point(self, row: TrainingRow) -> Point:
        family, stack, _ = self.place(row)
        asked = self._interpreter.ask(row)
        if isinstance(asked, Reason):
            return Point(row, family, stack, None, asked.text)
        value = simulate(asked)
        if isinstance(value, Reason):
            return Point(row, family, stack, None, value.text)
        return Point(asked.row, family, stack, value, "", asked.assumed)


def simulate(asked: TrainingQuestion) -> float | Reason:
    """Seconds of the step, or why the costs refuse it."""
    problems = asked.layout.check(asked.architecture)
    if problems:
        return Reason(f"layout cannot cut the model: {problems[0].what}")
    try:
        return step_time(asked.architecture, asked.recipe, asked.layout, asked.machine).seconds
    except RamwiseError as error:
        return Reason(str(error).splitlines()[0])
