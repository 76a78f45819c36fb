"""Measurements of serving configurations: a row is one metric of a deployment under a number of clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from simulator.validation import pools
from simulator.validation.closed_loop import simulate
from simulator.validation.compare import Place, Point
from simulator.validation.deployment import Deployments, Loop, PoolLoop, ServingRow
from simulator.validation.rows import REQUIRED, UNITS, Reason, RefusedError, Row, answered, once, read_rows


class Serving:
    """The kind of serving_configurations.csv."""

    columns: ClassVar[frozenset[str]] = frozenset({*REQUIRED, "mode", "attention_dp", "moe_tp", "moe_ep"})
    shipped: ClassVar[tuple[Path, ...]] = ()

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._deployments = Deployments(folders)

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files; equal rows count once."""
        return list(once(row for file in files for row in read_rows(file, ServingRow)))

    def place(self, row: Row) -> Place:
        """Family, stack and profile of a row; "-" where nothing is known."""
        family, stack = self._deployments.place(row)
        return Place(family, stack, self._deployments.profile_name(row))

    @answered
    def ask(self, row: Row) -> Loop | PoolLoop:
        """The loop of a row. RefusedError where there is none."""
        if not isinstance(row, ServingRow):
            raise RefusedError("no serving configuration")
        if not row.decodes_alone:
            return self._deployments.loop(row)
        try:
            return self._deployments.pools(row)
        except RefusedError:
            if row.metric != "tpot_ms":
                raise
            return self._deployments.loop(row)  # what decodes alone needs no word on what prefills

    def points(self, rows: Sequence[Row]) -> list[Point]:
        """Simulate every row that can be expressed, in the order of `rows`."""
        asked = {row.id: self.ask(row) for row in rows}
        values = simulate(loop for loop in asked.values() if isinstance(loop, Loop))
        values |= pools.simulate(loop for loop in asked.values() if isinstance(loop, PoolLoop))
        return [self._point(row, asked[row.id], values) for row in rows]

    def _point(self, row: Row, asked: Loop | PoolLoop | Reason, values: dict[str, float | Reason]) -> Point:
        family, stack, _ = self.place(row)
        value = asked if isinstance(asked, Reason) else values[row.id]
        if isinstance(value, Reason):
            return Point(row, family, stack, None, value.text)
        assumed = "" if isinstance(asked, Reason) else asked.assumed
        return Point(row, family, stack, value / UNITS[row.unit][0], "", assumed)
