"""The best fleet for some traffic within its SLO.

Every candidate (model, machine, layout, stack, number format, largest batch; or one machine for the prompts and one for
the answers) is judged by its steady state: the most requests a second at which the mean latencies keep the SLO. That
orders them. The best are then simulated by events at the peak, until what is left cannot win: the fewest replicas that
keep the SLO, found by bisection (more replicas never keep it worse), all with the same requests. Fleets of two kinds,
one for the base load and one for what exceeds it, follow where they promise to be better: the base's largest load and
the fewest replicas for the rest are found in the same way. The winner's head-room is the largest factor on the traffic
that its fleet still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf
from pathlib import Path
from typing import Any

from simulator.errors import Problem, ScenarioError, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.scenario import Scenario, scenario_of
from simulator.serve import slo
from simulator.stack.stack import Stacks
from simulator.study.bench import HALVINGS, Bench, Load, Miss
from simulator.study.candidates import Candidates
from simulator.study.content import Contents
from simulator.study.equal_loss import Level, Leveller, losses
from simulator.study.evaluation import Evaluation, Progress
from simulator.study.fleet import Demand, Fleet, Part, fleet, single
from simulator.study.mixed import mixed
from simulator.study.objective import Objective, objective_of
from simulator.study.proposal import Proposal
from simulator.study.store import STORE, Store
from simulator.study.study import Plan, read_study
from simulator.workload import workload
from simulator.yaml_source import Source, read_yaml

MOST_REPLICAS = 10_000
"""Larger fleets are not simulated."""

MOST_HEADROOM = 3.0
"""Factors on the traffic above it are not tried."""

WORTHWHILE = 0.98
"""Of the best fleet of one kind: what a second kind must promise before it is simulated."""

FRONT = 8
"""Fleets of a front that are simulated beside the best ones."""

LEAST_SHARE, MOST_SHARE = 0.4, 1.5
"""Of its steady state's rate: what is tried of a machine for the base load."""

LEAST_REST = 0.01
"""Of the peak: what is left to the machine for the peaks."""


def plan(
    path: Path | Mapping[str, Any],
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Proposal:
    """Find the fleet. Raise ScenarioError when the scenario has no SLO or no rate, and for what is written wrong."""
    wanted, study, file = read_study(path, Plan)
    places = (*folders, file.resolve().parent)
    base = read_yaml(file, error=ScenarioError)
    levels: tuple[Level, ...] = ()
    if wanted.at_equal_loss is not None:
        leveller = Leveller(wanted.at_equal_loss, places, study.where(("at_equal_loss",)))
        base = leveller.levelled(base)
        levels = leveller.levels[0]
    scenario = scenario_of(base)
    if len(scenario.models) > 1 and not levels:
        levels = losses(scenario, base, places)
    _check_names(wanted, study, places)
    objective = slo(scenario, base)
    if objective is None:
        raise ScenarioError(Problem("a plan needs an slo", base.where(()), "write slo: {ttft: 2 s, tpot: 100 ms}"))
    if wanted.slo_by == "percentiles" and objective.percentile not in (50.0, 90.0, 99.0):
        what = f"slo_by: percentiles, and the SLO is for {objective.percentile:g} % of the requests"
        raise ScenarioError(Problem(what, base.where(("slo",)), "runs know the percentiles 50, 90 and 99"))
    demand = demand_of(scenario, wanted, file, base)
    wanted.intensity(study.where(("grid",)))
    candidates = Candidates(wanted, scenario, base, objective, demand, folders, levels)
    alone = [single(one, max(1, ceil(demand.peak / one.rate)), demand, wanted) for one in candidates.found]
    goal = objective_of(wanted.goals, alone)
    closed = goal.ordered(alone)
    allowed = [each for each in closed if each.breaks(wanted) is None]
    if allowed and min(each.engines for each in allowed) > MOST_REPLICAS:
        what = f"no fleet of {MOST_REPLICAS:,} replicas or fewer holds {demand.peak:,.4g} requests a second"
        raise ScenarioError(Problem(what, base.where(("traffic",)), "plan for a share of the traffic"))
    evaluation = Evaluation(Store(out / STORE), workers, cluster, progress)
    bench = Bench(
        scenario,
        str(file),
        tuple(folders),
        objective,
        wanted.slo_by,
        Contents(places),
        evaluation,
        wanted.replications,
    )
    search = _Search(wanted, demand, goal, bench)
    fleets = search.best_of([each for each in allowed if each.engines <= MOST_REPLICAS])
    joined = mixed(closed, demand, wanted, goal) if wanted.mixed else []
    fleets = search.with_second_kinds(fleets, joined, goal.of(allowed[0]) if allowed else 0.0)
    head, runs = search.headroom(fleets[0]) if fleets else (0.0, [])
    return Proposal(
        name=Path(study.path).stem,
        plan=wanted,
        slo=objective,
        objective=goal,
        demand=demand,
        fleets=tuple(fleets),
        headroom=head,
        headroom_found=head < MOST_HEADROOM - (MOST_HEADROOM - 1.0) / 2**HALVINGS,
        runs=tuple(runs),
        closed=tuple(closed),
        joined=tuple(joined),
        refused=candidates.reasons,
        nearest=None if fleets else _nearest(candidates, search.broken or closed, bench, wanted),
        levels=levels,
        tried=candidates.tried,
        computed=bench.computed,
    )


def _check_names(wanted: Plan, study: Source, places: Sequence[Path]) -> None:
    catalogue, stacks = Catalogue(places), Stacks(places)
    known = catalogue.names()
    for name in wanted.nodes:
        if name not in known:
            raise ScenarioError(unknown("hardware profile", name, known, study.where(("nodes", name), key=True)))
    for index, name in enumerate(wanted.machines if wanted.machines != "auto" else ()):
        catalogue.load(name, study.where(("machines", index)))
    for index, name in enumerate(wanted.stacks if not isinstance(wanted.stacks, str) else ()):
        stacks.load(name, study.where(("stacks", index)))


class _Search:
    """The fleets that keep the SLO by events and the constraints, the best first. `broken`: those that keep the SLO and
    break a constraint."""

    def __init__(self, wanted: Plan, demand: Demand, goal: Objective, bench: Bench) -> None:
        self._wanted, self._demand, self._goal, self._bench = wanted, demand, goal, bench
        self.broken: list[Fleet] = []

    def best_of(self, allowed: Iterable[Fleet]) -> list[Fleet]:
        """Fleets of one kind: a steady state keeps the SLO on average only, so it mostly promises too much, and what it
        ranks lower than a fleet that was verified is out. Of several goals the front is verified too."""
        waiting = _distinct(allowed)
        front = self._goal.front(waiting)[:FRONT] if len(self._goal.weights) > 1 else []
        fleets: list[Fleet] = []
        while waiting and not (fleets and self._goal.of(waiting[0]) >= self._goal.of(fleets[0])):
            fleets = self._goal.ordered([*fleets, *self._verified(waiting[: self._wanted.verify], fleets[:1])])
            front = [each for each in front if each not in waiting[: self._wanted.verify]]
            waiting = waiting[self._wanted.verify :]
        return self._goal.ordered([*fleets, *self._verified(front)])

    def _verified(self, fleets: Sequence[Fleet], best: Sequence[Fleet] = ()) -> list[Fleet]:
        """Of one kind each, with as many replicas as they need by events, where they then may be second to the best."""

        def cost(index: int, count: int) -> float:
            return self._goal.of(single(fleets[index].candidate, count, self._demand, self._wanted))

        least = min((self._goal.of(each) for each in best), default=inf)
        counts = self._bench.smallest([self._load(each.parts[0]) for each in fleets], cost, least)
        return self._within(
            single(each.candidate, count, self._demand, self._wanted)
            for each, count in zip(fleets, counts, strict=True)
            if count is not None
        )

    def _within(self, fleets: Iterable[Fleet]) -> list[Fleet]:
        """Those that keep the constraints."""
        kept: list[Fleet] = []
        for each in fleets:
            (kept if each.breaks(self._wanted) is None else self.broken).append(each)
        return kept

    def with_second_kinds(self, fleets: list[Fleet], joined: Sequence[Fleet], promised: float) -> list[Fleet]:
        """The fleets, and those of two kinds that promise to be better than one kind does (`promised`, in
        closed form too); where no one kind keeps all, the best of two."""
        least = promised * WORTHWHILE if fleets else inf
        promising = [each for each in joined if self._goal.of(each) < least][: self._wanted.verify]
        bases = [self._based(each) for each in promising]
        held = [each for each in bases if each is not None]
        counts = self._bench.smallest([self._load(peaks) for _, peaks in held])
        made = self._within(
            fleet((base, Part(peaks.candidate, count, peaks.floor, peaks.rate)), self._demand, self._wanted)
            for (base, peaks), count in zip(held, counts, strict=True)
            if count is not None
        )
        return self._goal.ordered([*fleets, *made])

    def _based(self, joined: Fleet) -> tuple[Part, Part] | None:
        """The base with the largest load that it holds by events, and the rest; None where it holds too little."""
        base, peaks = joined.parts

        def held(rate: float) -> bool:
            return self._bench.hold([self._load(Part(base.candidate, base.replicas, 0.0, rate))])

        promised, peak = base.rate, self._demand.peak
        if held(promised):
            rate = self._bench.largest(held, promised, min(MOST_SHARE * promised, peak * (1.0 - LEAST_REST)))
        elif held(LEAST_SHARE * promised):
            rate = self._bench.largest(held, LEAST_SHARE * promised, promised)
        else:
            return None
        rest = peak - rate
        return Part(base.candidate, base.replicas, 0.0, rate), Part(
            peaks.candidate, max(1, ceil(peaks.replicas * rest / peaks.rate)), rate, rest
        )

    def headroom(self, best: Fleet) -> tuple[float, list[Mapping[str, Any]]]:
        """The largest factor on the traffic that the fleet holds, and the runs of its first part at the peak."""
        loads = [self._load(part) for part in best.parts]

        def held(factor: float) -> bool:
            return self._bench.hold([Load(each.candidate, each.replicas, each.factor * factor) for each in loads])

        return self._bench.largest(held, 1.0, MOST_HEADROOM), list(self._bench.runs(loads[:1])[0])

    def _load(self, part: Part) -> Load:
        """Its replicas under the scenario's requests, as fast as its slice of the peak has them come."""
        return Load(part.candidate, part.replicas, part.rate / self._demand.mean * float(self._wanted.growth))


def _nearest(candidates: Candidates, fleets: Sequence[Fleet], bench: Bench, wanted: Plan) -> Miss | None:
    """What came nearest where no fleet keeps all: of what missed the SLO by events and of the fleets that break a
    constraint; where there are none, of the steady states."""
    near = list(bench.misses)
    for each in fleets:
        excess = each.breaks(wanted)
        if excess is not None:
            what = f"breaks the constraint {excess.constraint}: {excess.what}"
            near.append(Miss(each.name, what, excess.factor))
    if not near:
        misses = [(name, refusal) for name, refusal in candidates.refused if refusal.miss < 1e9]
        near = [Miss(name, refusal.why, refusal.miss) for name, refusal in misses]
    return min(near, key=lambda each: (each.factor, each.name), default=None)


def _distinct(fleets: Iterable[Fleet]) -> list[Fleet]:
    """The best of each kind, so that runners-up are not the winner with another batch limit."""
    chosen: dict[tuple[str, ...], Fleet] = {}
    for each in fleets:
        chosen.setdefault(each.candidate.kind, each)
    return list(chosen.values())


def demand_of(scenario: Scenario, wanted: Plan, file: Path, source: Source) -> Demand:
    """Requests a second, on average and by the hour. Raise ScenarioError for traffic without a rate."""
    traffic, where = scenario.traffic, source.where(("traffic",))
    requests = workload(traffic, scenario.seed, file.resolve().parent, where)
    if traffic.request_rate is not None:
        mean = float(traffic.request_rate)
    else:
        span = float(requests.arrival_s[-1] - requests.arrival_s[0]) if len(requests) > 1 else 0.0
        if requests.concurrency is not None or not span:
            mend = "write a trace or request_rate: a fleet is made for requests that come by themselves"
            raise ScenarioError(Problem("this traffic has no rate to plan for", where, mend))
        mean = (len(requests) - 1) / span
    mean *= float(wanted.growth)
    day = wanted.day or (1.0,)
    hours = tuple(mean * load * len(day) / sum(day) for load in day)
    return Demand(mean, max(hours) * float(wanted.headroom), hours, float(requests.output_tokens.mean()))
