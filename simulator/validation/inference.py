"""Measurements of inference: a row is one metric of one deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

from simulator.validation import sparse
from simulator.validation.compare import Place, Point
from simulator.validation.leave_out import chips_left_out, models_left_out
from simulator.validation.load import requests_held
from simulator.validation.predict import predictions
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import FOLDER, REQUIRED, SHIPPED, UNITS, Reason, Row, measurements


class Inference:
    """The kind of gpu_inference.csv and nongpu_inference.csv."""

    columns: ClassVar[frozenset[str]] = frozenset(REQUIRED)
    shipped: ClassVar[tuple[Path, ...]] = tuple(FOLDER / name for name in SHIPPED)

    def __init__(self, folders: Sequence[Path] = (), leave_out: str | None = None) -> None:
        self._interpreter, self._leave_out = Interpreter(folders), leave_out
        self._held: dict[tuple[object, ...], float] = {}

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files; equal rows count once."""
        return measurements(files)

    def place(self, row: Row) -> Place:
        """Family, stack and profile of a row; "-" where nothing is known."""
        family, stack = self._interpreter.place(row)
        return Place(family, stack, self._interpreter.profile_name(row))

    def points(self, rows: Sequence[Row]) -> Iterator[Point]:
        """Simulate every row that can be expressed; each as it is found."""
        parts = {row.id: sparse.members(row) for row in rows}
        whole = [row for row in rows if not parts[row.id]]
        asked = {row.id: self._interpreter.ask(row) for row in (*whole, *chain(*parts.values()))}
        if self._leave_out:
            left_out = {"chip": chips_left_out, "model": models_left_out}[self._leave_out]
            asked |= left_out([question for question in asked.values() if isinstance(question, Question)])
        of = {row.id: row for row in whole}
        refused = ((id, reason) for id, reason in asked.items() if isinstance(reason, Reason))
        found = predictions(question for question in asked.values() if isinstance(question, Question))
        several: dict[str, float | Reason] = {}
        for id, value in chain(refused, found):
            if id in of:
                yield self._point(of[id], asked[id], value)
            else:
                several[id] = value
        for row in rows:
            if parts[row.id]:
                first = asked[parts[row.id][0].id]
                yield self._point(row, first, sparse.mean([several[part.id] for part in parts[row.id]]))

    def _point(self, row: Row, asked: Question | Reason, value: float | Reason) -> Point:
        family, stack, _ = self.place(row)
        if isinstance(value, Reason):
            return Point(row, family, stack, None, value.text)
        assumed = asked.assumed if isinstance(asked, Question) else ""
        load = self._load(asked) if isinstance(asked, Question) else 0.0
        return Point(row, family, stack, value / UNITS[row.unit][0], "", assumed, load=load)

    def _load(self, question: Question) -> float:
        """Share of what the simulated system holds at which requests come; 0 where no rate is given."""
        load = question.load
        if load is None or load.arrivals.rate is None:
            return 0.0
        if load.key not in self._held:
            self._held[load.key] = requests_held(load)
        return load.arrivals.rate / self._held[load.key]
