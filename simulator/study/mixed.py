"""Fleets of two kinds: one machine carries the base load, another what exceeds it.

Of each hour's load L the base takes min(L, R), and the peaks' machine the rest. Which base load R is best depends on
how the two differ: a machine that is dear to buy and cheap to run belongs under the load of all hours, the other one
under the few busy ones; and where a whole node more of the one is too much, a smaller one of the other may do. Every
pair of kinds is looked at, with as many nodes for the base as are not yet enough for the peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from math import ceil

import numpy as np

from simulator.study.candidate import Candidate
from simulator.study.fleet import Demand, Fleet, Part, fleet
from simulator.study.objective import Objective
from simulator.study.study import Plan

KINDS = 16
"""Machines that are joined, the best ones alone; and as many of those that are the best when full."""

BASES = 12
"""Numbers of nodes for the base, evenly from one up to those for the peak."""


def mixed(alone: Sequence[Fleet], demand: Demand, plan: Plan, objective: Objective) -> list[Fleet]:
    """The best fleet of each set of machines that keeps the plan's constraints, the best first; `alone`: fleets of one
    candidate each, the best first."""
    few = [*_few(alone), *_few(_when_full(alone, demand, plan, objective))]
    kinds = list({each.name: each for each in few}.values())
    found: list[Fleet] = []
    for one, other in combinations(kinds, 2):
        if one.model == other.model and _machines(one).isdisjoint(_machines(other)):
            both = (*_of_two(one, other, demand, plan), *_of_two(other, one, demand, plan))
            found += objective.ordered(each for each in both if each.breaks(plan) is None)[:1]
    best: dict[frozenset[str], Fleet] = {}
    for fleet_of_two in objective.ordered(found):
        best.setdefault(frozenset(kind.profile.name for kind in fleet_of_two.kinds), fleet_of_two)
    return list(best.values())


def _machines(candidate: Candidate) -> set[str]:
    return {side.case.machine.profile.name for side in candidate.sides}


def _few(fleets: Sequence[Fleet]) -> list[Candidate]:
    """The first candidates of each model and set of machines."""
    chosen: dict[tuple[str, frozenset[str]], Candidate] = {}
    for each in fleets:
        chosen.setdefault((str(each.candidate.model), frozenset(_machines(each.candidate))), each.candidate)
    return list(chosen.values())[:KINDS]


def _when_full(alone: Sequence[Fleet], demand: Demand, plan: Plan, objective: Objective) -> list[Fleet]:
    """Candidates for many times the peak, at which it does not matter that nodes are whole."""
    many = Demand(demand.peak * 1e3, demand.peak * 1e3, (demand.peak * 1e3,), demand.output_tokens)
    one_of_each: dict[tuple[str, ...], Candidate] = {}
    for each in alone:
        one_of_each.setdefault(each.candidate.kind, each.candidate)
    bare = plan.model_copy(update={"availability": None, "spares": 0})
    whole = [
        fleet((Part(each, ceil(many.peak / each.rate), 0.0, many.peak),), many, bare) for each in one_of_each.values()
    ]
    return objective.ordered(whole)


def _of_two(base: Candidate, peaks: Candidate, demand: Demand, plan: Plan) -> Iterator[Fleet]:
    most = ceil(demand.peak / base.rate) - 1  # replicas, of which one more would carry all
    if most < 1:
        return
    for replicas in dict.fromkeys(_whole_nodes(base, int(count)) for count in np.linspace(1, most, BASES)):
        rate = replicas * base.rate
        if rate < demand.peak:
            rest = demand.peak - rate
            parts = Part(base, replicas, 0.0, rate), Part(peaks, ceil(rest / peaks.rate), rate, rest)
            yield fleet(parts, demand, plan)


def _whole_nodes(candidate: Candidate, replicas: int) -> int:
    """As many replicas as the nodes of so many hold."""
    machine = candidate.case.machine
    each, chips = machine.parallelism.chips, machine.profile.node.chips
    return max(replicas, ceil(replicas * each / chips) * chips // each)
