"""The borders of a map, asked of the event engine: at places along them, who is ahead on either side, and up to where.

On an edge of a finest cell, between the nodes a and b at which A and B are ahead, a border lies at the share

    t = l(a) / (l(a) - l(b)),   l = log(metric of B / metric of A), its negative where more is better,

by closed form, and by events once for each seed. Outside of 0 .. 1 it lies beyond that cell, on a straight line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.metrics.steady import student_t
from simulator.report.map_chart import Axis
from simulator.study.begin import Begun
from simulator.study.space import Row, Space
from simulator.study.store import STORE, Store
from simulator.study.study import Confirm, Crossover
from simulator.study.table import conditioned, contender_of, more_is_better, rankings, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

Place = tuple[float, float]
"""Shares of the two axes."""


@dataclass(frozen=True)
class Edge:
    """Two neighbouring nodes, and who is ahead at each."""

    low: Place
    high: Place
    below: str
    above: str

    @property
    def across(self) -> int:
        """Along which of the axes one goes from one to the other."""
        return 0 if self.low[1] == self.high[1] else 1

    def at(self, share: float) -> Place:
        """A share of the way."""
        (u, v), (x, y) = self.low, self.high
        return u + share * (x - u), v + share * (y - v)


def far_apart(edges: Sequence[Edge], count: int) -> list[Edge]:
    """So many of them, each the farthest from those before; the first is the first."""
    middles = np.array([edge.at(0.5) for edge in edges])
    chosen = [0] if len(edges) else []
    nearest = np.full(len(edges), np.inf)
    while chosen and len(chosen) < min(count, len(edges)):
        nearest = np.minimum(nearest, np.hypot(*(middles - middles[chosen[-1]]).T))
        chosen.append(int(np.argmax(nearest)))
    return [edges[index] for index in chosen]


def confirmed(
    begun: Begun[Crossover], wanted: Confirm, edges: Sequence[Edge], steady: DataFrame, axes: Sequence[Axis], out: Path
) -> DataFrame:
    """A row for each place. `u`, `v` and the keys: where the border lies in closed form. `below`, `above`: who is ahead
    on its sides `along` one of the keys, at its values `from` and `to`. `steady`, `events`: its value there by both,
    with the 95 % interval over seeds; nan where they do not meet, or where one of both does not count on one side, as
    beyond the most that it can hold. `events_below`, `events_above`: who is ahead by events, empty where nobody counts;
    `agrees`: the same two. Empty where the map has no border.

    steady: the conditioned table of the map.
    """
    from pandas import DataFrame

    if not edges:
        return DataFrame()
    chosen = far_apart(edges, wanted.points)
    metric = begun.study.metric
    simulated = _simulated(begun, wanted, chosen, out)
    ahead = _ahead(simulated, metric)
    known = _values(steady[steady["sample"] == 0], metric)
    seeds = [_values(rows, metric) for _, rows in simulated.groupby("replication")]
    records = []
    for edge in chosen:
        share = _crossing(known, edge)
        shares = np.array([_crossing(found, edge) for found in seeds]) + 0.0 * share
        mean, half = shares.mean(), student_t(len(shares) - 1) * shares.std(ddof=1) / len(shares) ** 0.5
        places = {"from": 0.0, "to": 1.0, "steady": share}
        places |= {"events": mean, "events_low": mean - half, "events_high": mean + half}
        axis, found = axes[edge.across], (ahead.get(edge.low, ""), ahead.get(edge.high, ""))
        u, v = edge.at(share if np.isfinite(share) else 0.5)
        records.append(
            {"u": u, "v": v, **{each.key: each.at(place) for each, place in zip(axes, (u, v), strict=True)}}
            | {"below": edge.below, "above": edge.above, "along": axis.key}
            | {name: axis.at(edge.at(t)[edge.across]) for name, t in places.items()}
            | {"events_below": found[0], "events_above": found[1], "agrees": found == (edge.below, edge.above)}
        )
    return DataFrame.from_records(records)


def _simulated(begun: Begun[Crossover], wanted: Confirm, edges: Sequence[Edge], out: Path) -> DataFrame:
    """Every contender at both ends of the edges, by events, with each seed; kept in `out` as all runs of events are."""
    study = begun.study
    at = begun.source.where(("confirm",), key=True)
    space = Space(
        begun.scenario, at, folders=begun.folders, replications=wanted.replications, equal=study.at_equal_loss
    )
    more = {} if wanted.requests is None else {"traffic.requests": wanted.requests}
    rows: list[Row] = []
    for u, v in sorted({place for edge in edges for place in (edge.low, edge.high)}):
        changes = {key: axis.at(share) for (key, axis), share in zip(study.axes.items(), (u, v), strict=True)}
        rows += [replace(row, values={**row.values, "u": u, "v": v}) for row in space.rows({**changes, **more})]
    space.check()
    results, _ = replace(begun.evaluation, store=Store(out / STORE)).results(space.points)
    return conditioned(table_of(rows, results, study, at), study.within, study.metric, at)


def _ahead(table: DataFrame, metric: str) -> dict[Place, str]:
    """Who is ahead at each node, in the mean over the seeds."""
    first = rankings(table, ["u", "v"], metric)
    if first.empty:
        return {}
    named = dict(zip(zip(table["model"], table["machine"], strict=True), contender_of(table), strict=True))
    winners = [named[pair] for pair in zip(first["model"], first["machine"], strict=True)]
    return dict(zip(zip(first["u"], first["v"], strict=True), winners, strict=True))


def _values(table: DataFrame, metric: str) -> dict[tuple[Place, str], float]:
    """Node and contender -> logarithm of the metric, its negative where more is better."""
    sign = -1.0 if more_is_better(metric) else 1.0
    places = zip(table["u"], table["v"], strict=True)
    logs = sign * np.log(table[metric].astype(float))
    return dict(zip(zip(places, contender_of(table), strict=True), logs, strict=True))


def _crossing(values: Mapping[tuple[Place, str], float], edge: Edge) -> float:
    """t, see above; nan where one of both does not count at one of the ends, or where they never meet."""
    below, above = (
        values.get((place, edge.above), np.nan) - values.get((place, edge.below), np.nan)
        for place in (edge.low, edge.high)
    )
    return float(below / (below - above)) if below > above else float("nan")
