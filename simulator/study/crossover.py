"""The map of who wins over two axes, refined where the winner changes.

A grid of n x n points is laid over the two ends of each axis. A cell whose corners have different winners is halved
both ways, again and again; so the boundary is known to 1 / ((n - 1) * 2^refine) of each axis at a small part of the
points of a fine grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.errors import Problem, ScenarioError, Where
from simulator.report.map_chart import Axis, Field, Mark, draw_map
from simulator.report.notebook import Charts, Shown, labelled
from simulator.study.begin import begin
from simulator.study.confirm import Edge, confirmed
from simulator.study.equal_loss import Level, level_lines
from simulator.study.evaluation import Progress
from simulator.study.space import Row, Space, check_names
from simulator.study.store import Result
from simulator.study.study import Crossover
from simulator.study.table import (
    conditioned,
    contender_of,
    contenders,
    more_is_better,
    rankings,
    several_units,
    table_of,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

Node = tuple[int, int]
"""A point of the finest grid, counted along each axis."""

NOBODY = ""


@dataclass(frozen=True)
class Map(Shown):
    """table: a row for each node, contender and sample, with its place `u`, `v` (shares of the axes); winners: a row
    for each node: who is ahead (nobody where no contender meets the condition), by which factor, in which share of the
    samples. computed: points that were computed now. levels: what `at_equal_loss` resized, and every loss. confirmed: a
    row for each place of a border at which the event engine was asked too, where the study asks for that."""

    name: str
    study: Crossover
    table: DataFrame
    winners: DataFrame
    computed: int
    levels: tuple[tuple[Level, ...], ...] = ()
    confirmed: DataFrame | None = None

    @property
    def keys(self) -> list[str]:
        """The two axes."""
        return list(self.study.axes)

    def areas(self) -> dict[str, float]:
        """Contender -> share of the map in which it is ahead, the largest first. A node stands for the cells around
        it, so each counts by the size of its smallest neighbours."""
        weight = self.winners["weight"]
        shares = weight.groupby(self.winners["winner"], sort=False).sum() / weight.sum()
        return {str(name): float(share) for name, share in shares.sort_values(ascending=False).items()}

    def level_lines(self) -> list[str]:
        """What is said of the models' losses; nothing unless the study asks for equal ones."""
        wanted = self.study.at_equal_loss
        return level_lines(self.levels, wanted.tolerance) if wanted else []

    def frame(self) -> DataFrame:
        """Who is ahead at each node, with the units in the names of columns."""
        return labelled(self.winners.drop(columns=["u", "v", "weight"]))

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        return {"map": self._map}

    def _map(self) -> Figure:
        known = self.table[self.table["sample"] == 0] if "sample" in self.table else self.table
        metric = self.study.metric
        values = known.assign(contender=contender_of(known)).pivot_table(
            index=["u", "v"], columns="contender", values=metric, sort=False, dropna=False, aggfunc="mean"
        )
        places = self.winners.set_index(["u", "v"])
        values = values.reindex(places.index)
        order = [name for name in self.areas() if name] + [str(name) for name in values.columns]
        names = tuple(dict.fromkeys(name for name in order if name in values.columns))
        field = Field(
            np.array(list(places.index), dtype=float),
            names,
            values[list(names)].to_numpy(dtype=float),
            places["share"].to_numpy(dtype=float),
            more_is_better(metric),
        )
        asked = [] if self.confirmed is None else self.confirmed.to_dict(orient="records")
        marks = [Mark(place["u"], place["v"], place["agrees"]) for place in asked]
        return draw_map(field, _axes(self.study, self.table), metric, marks)


def crossover(
    path: Path | Mapping[str, Any],
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    samples: int | None = None,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Map:
    """Compute the map. Raise ScenarioError for a study that is wrong, or whose contenders can nowhere run."""
    begun = begin(
        path, Crossover, out, workers=workers, cluster=cluster, samples=samples, folders=folders, progress=progress
    )
    study, space, at = begun.study, begun.space, begun.source.where(("axes",), key=True)
    atlas = _Atlas(study, space, begun.source.where(("scenario",)))
    computed = 0
    results: dict[str, Result] = {}
    for level in range(study.refine + 1):
        atlas.add(level)
        space.check()
        if not level and len(atlas.contenders) < 2:
            what, mend = "a crossover of one contender has no winner", "give its scenario another machine or model"
            raise ScenarioError(Problem(what, begun.source.where(("scenario",)), mend))
        new = {key: point for key, point in space.points.items() if key not in results}
        found, count = begun.evaluation.results(new)
        results.update(found)
        computed += count
        table = table_of([row for rows in atlas.rows.values() for row in rows], results, study, at)
        if several_units(table):
            units = ", ".join(f"{unit}s" for unit in table["unit"].dropna().unique())
            what = f"the contenders of a crossover count in one unit, not in {units}"
            raise ScenarioError(Problem(what, begun.source.where(("scenario",)), "leave models out of its scenario"))
        table = conditioned(table, study.within, study.metric, at)
        atlas.judge(table)
    asked = None
    if study.confirm is not None:
        asked = confirmed(begun, study.confirm, atlas.border(), table, _axes(study, table), out)
    return Map(begun.name, study, table, atlas.winners(), computed, space.levels, asked)


def _axes(study: Crossover, table: DataFrame) -> list[Axis]:
    """Both axes with the values of their ends."""
    columns = [table[key].astype(float) for key in study.axes]
    return [
        Axis(key, float(column.min()), float(column.max()), axis.log is not None)
        for (key, axis), column in zip(study.axes.items(), columns, strict=True)
    ]


class _Atlas:
    """Nodes and cells. A cell is its lower left node and its size on the finest grid."""

    def __init__(self, study: Crossover, space: Space, at: Where) -> None:
        self._study, self._space, self._at = study, space, at
        self._size = 2**study.refine
        self._last = (study.grid - 1) * self._size
        self._cells: list[tuple[Node, int]] = [
            ((x * self._size, y * self._size), self._size) for x in range(study.grid - 1) for y in range(study.grid - 1)
        ]
        self._done: list[tuple[Node, int]] = []
        self._winner: dict[Node, str] = {}
        self._leads: dict[tuple[float, float], tuple[float, float]] = {}  # place -> factor and share of the winner
        self.rows: dict[Node, list[Row]] = {}

    @property
    def contenders(self) -> set[tuple[str, str]]:
        """Model and machine of every point."""
        return {(row.model, row.machine) for rows in self.rows.values() for row in rows if row.point}

    def add(self, level: int) -> None:
        """Make the nodes of a level: of the whole grid, then of the cells in which the winner changes."""
        if level:
            split = [cell for cell in self._cells if len({self._winner[node] for node in _corners(*cell)}) > 1]
            changing = set(split)
            self._done += [cell for cell in self._cells if cell not in changing]
            self._cells = [
                ((x + dx, y + dy), size // 2)
                for (x, y), size in split
                for dx in (0, size // 2)
                for dy in (0, size // 2)
            ]
        for node in sorted({node for cell in self._cells for node in _corners(*cell)}):
            if node not in self.rows:
                self.rows[node] = self._made(node)

    def _made(self, node: Node) -> list[Row]:
        u, v = (place / self._last for place in node)
        (x, across), (y, up) = self._study.axes.items()
        rows = self._space.rows({x: across.at(u), y: up.at(v)})
        check_names(rows, (), self._at)
        return [Row({**row.values, "u": u, "v": v}, row.point, row.key, row.refused) for row in rows]

    def judge(self, table: DataFrame) -> None:
        """Note who is ahead at each node, by which factor, in which share of the samples."""
        first = rankings(table, ["u", "v"], self._study.metric)
        ahead: dict[tuple[float, float], str] = {}
        self._leads = {}
        if not first.empty:
            places = list(zip(first["u"], first["v"], strict=True))
            names = contenders(first["model"], first["machine"], table)
            ahead = dict(zip(places, names, strict=True))
            self._leads = dict(zip(places, zip(first["factor"], first["share"], strict=True), strict=True))
        self._winner = {node: ahead.get(self._place(node), NOBODY) for node in self.rows}

    def _place(self, node: Node) -> tuple[float, float]:
        return node[0] / self._last, node[1] / self._last

    def border(self) -> list[Edge]:
        """One edge of each finest cell with two winners, between nodes with different ones."""
        found: dict[Edge, None] = {}
        for cell in self._cells:
            low, right, up, corner = _corners(*cell)
            for a, b in ((low, right), (low, up), (up, corner), (right, corner)):
                first, second = self._winner[a], self._winner[b]
                if NOBODY not in (first, second) and first != second:
                    found[Edge(self._place(a), self._place(b), first, second)] = None
                    break
        return list(found)

    def winners(self) -> DataFrame:
        """A row for each node that was judged, see Map."""
        from pandas import DataFrame

        weights = dict.fromkeys(self.rows, 0.0)
        for cell in (*self._done, *self._cells):
            for node in _corners(*cell):
                weights[node] += cell[1] ** 2 / 4
        records = []
        for node, rows in self.rows.items():
            factor, share = self._leads.get(self._place(node), (float("nan"), float("nan")))
            records.append(
                {
                    **rows[0].values,
                    "winner": self._winner[node],
                    "factor": factor,
                    "share": share,
                    "weight": weights[node],
                }
            )
        return DataFrame.from_records(records).sort_values(["u", "v"]).reset_index(drop=True)


def _corners(low: Node, size: int) -> tuple[Node, Node, Node, Node]:
    x, y = low
    return (x, y), (x + size, y), (x, y + size), (x + size, y + size)
