"""The best fleet for some traffic within its SLO.

Every candidate (machine, layout, number format, largest batch; or one machine for the prompts and one for the answers)
is judged by its steady state: the most requests a second at which the mean latencies keep the SLO. That orders them.
The best are then simulated by events at the peak, until what is left cannot win: the fewest replicas that keep the
SLO's percentiles, found by bisection (more replicas never keep it worse), all with the same requests. The winner's
head-room is the largest factor on the traffic that its fleet still holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import Problem, ScenarioError, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.slo import Slo
from simulator.quantity import Known
from simulator.report.notebook import Charts, Shown, labelled
from simulator.report.study_charts import draw_front
from simulator.scenario import Scenario, Traffic, scenario_of
from simulator.serve import slo
from simulator.study.candidate import Candidate, Side
from simulator.study.candidates import Candidates
from simulator.study.content import Contents
from simulator.study.evaluation import Evaluation, Progress
from simulator.study.fleet import Demand, Fleet, fleet
from simulator.study.point import Point
from simulator.study.store import STORE, Store
from simulator.study.study import Plan, read_study
from simulator.workload import workload
from simulator.yaml_source import read_yaml

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_REPLICAS = 10_000
"""Larger fleets are not simulated."""

ROUNDS = 16
HEADROOM_ROUNDS = 6
MOST_HEADROOM = 3.0
SENSITIVITY = 1.2


@dataclass(frozen=True)
class Proposal(Shown):
    """fleets: verified ones, the best first (empty: nothing keeps the SLO); headroom: factor on the traffic that the
    best still holds; figures of its run at the peak; closed: all candidates by their closed form; refused: why others
    were none -> how many; nearest: the best that misses the SLO (name, what it misses, by which factor)."""

    name: str
    plan: Plan
    demand: Demand
    fleets: tuple[Fleet, ...]
    headroom: float
    run: Mapping[str, Any]
    closed: tuple[Fleet, ...]
    refused: Mapping[str, int]
    nearest: tuple[str, str, float] | None
    tried: int
    computed: int

    @property
    def table(self) -> DataFrame:
        """The verified fleets, then the other candidates by their closed form."""
        from pandas import DataFrame

        known = {fleet.candidate.name for fleet in self.fleets}
        rest = [fleet for fleet in self.closed if fleet.candidate.name not in known]
        rows = [_record(fleet, True) for fleet in self.fleets] + [_record(fleet, False) for fleet in rest]
        return DataFrame.from_records(rows)

    def buys(self) -> dict[str, float]:
        """Requests a second that one more USD an hour and one more kW would carry, on the best fleet's kind."""
        if not self.fleets:
            return {}
        best = self.fleets[0]
        rate = best.candidate.rate * best.replicas
        per_dollar = {"USD/h": rate / best.cost_per_hour} if best.cost_per_hour else {}
        return {**per_dollar, "kW": rate / best.peak_power * 1e3}

    def sensitivity(self) -> DataFrame:
        """What the best fleet's objective becomes when an input is 20 % larger, all else equal, by the closed form."""
        from pandas import DataFrame

        return DataFrame.from_records(_sensitivity(self)) if self.fleets else DataFrame()

    def frame(self) -> DataFrame:
        """`table` with the units in the names of columns."""
        return labelled(self.table)

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        return {
            "candidates": lambda: draw_front(self.table, "cost_per_mtok_usd", "energy_per_output_token_j"),
            "latency": lambda: draw_front(self.table, "tpot_mean_ms", "cost_per_mtok_usd"),
        }


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
    base = read_yaml(file, error=ScenarioError)
    scenario = scenario_of(base)
    known = Catalogue((*folders, file.resolve().parent)).names()
    for name in wanted.nodes:
        if name not in known:
            raise ScenarioError(unknown("hardware profile", name, known, study.where(("nodes", name), key=True)))
    if len(scenario.models) > 1:
        what = f"a plan is for one model, and the scenario names {len(scenario.models)}"
        raise ScenarioError(Problem(what, base.where(("model",)), "write one of them"))
    objective = slo(scenario, base)
    if objective is None:
        raise ScenarioError(Problem("a plan needs an slo", base.where(()), "write slo: {ttft: 2 s, tpot: 100 ms}"))
    demand = _demand(scenario, wanted, file, base.where(("traffic",)))
    wanted.intensity(study.where(("grid",)))
    candidates = Candidates(wanted, scenario, base, objective, demand, folders)
    closed = _ordered(
        [fleet(one, max(1, ceil(demand.peak / one.rate)), demand, wanted) for one in candidates.found], wanted
    )
    allowed = [each for each in closed if not each.breaks(wanted)]
    if allowed and min(each.engines for each in allowed) > MOST_REPLICAS:
        what = f"no fleet of {MOST_REPLICAS:,} replicas or fewer holds {demand.peak:,.4g} requests a second"
        raise ScenarioError(Problem(what, base.where(("traffic",)), "plan for a share of the traffic"))
    broken = [each.breaks(wanted).partition(":")[0] for each in closed if each.breaks(wanted)]
    refused = {**candidates.reasons, **{f"constraint {name}": broken.count(name) for name in dict.fromkeys(broken)}}
    contents = Contents((*folders, file.resolve().parent))
    evaluation = Evaluation(Store(out / STORE), workers, cluster, progress)
    bench = _Bench(scenario, str(file), tuple(folders), objective, contents, evaluation, wanted.replications)
    peak = demand.peak / demand.mean * float(wanted.growth)
    fleets: list[Fleet] = []
    waiting = _distinct(each for each in allowed if each.engines <= MOST_REPLICAS)
    # A steady state keeps the SLO on average only, so it promises too much: what it ranks lower still is out.
    while waiting and not (fleets and waiting[0].score(wanted.objective) >= fleets[0].score(wanted.objective)):
        sizes = bench.smallest(waiting[: wanted.verify], peak)
        waiting = waiting[wanted.verify :]
        verified = (fleet(each.candidate, count, demand, wanted) for each, count in sizes)
        fleets = _ordered([*fleets, *(each for each in verified if not each.breaks(wanted))], wanted)
    headroom, run = bench.headroom(fleets[0], peak) if fleets else (0.0, {})
    misses = [(refusal.miss, hardware, refusal.why) for hardware, refusal in candidates.refused if refusal.miss < 1e9]
    nearest = min(misses, default=None)
    return Proposal(
        Path(study.path).stem,
        wanted,
        demand,
        tuple(fleets),
        headroom,
        run,
        tuple(closed),
        refused,
        (nearest[1], nearest[2], nearest[0]) if nearest else None,
        candidates.tried,
        bench.computed,
    )


def _ordered(fleets: Iterable[Fleet], wanted: Plan) -> list[Fleet]:
    return sorted(fleets, key=lambda each: (each.score(wanted.objective), each.chips, each.candidate.name))


def _distinct(fleets: Iterable[Fleet]) -> list[Fleet]:
    """The best of each machine and layout, so that runners-up are not the winner with another batch limit."""
    chosen: dict[tuple[str, ...], Fleet] = {}
    for each in fleets:
        chosen.setdefault(tuple(side.name for side in each.candidate.sides), each)
    return list(chosen.values())


def _demand(scenario: Scenario, wanted: Plan, file: Path, where: Any) -> Demand:
    traffic = scenario.traffic
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
    if not sum(day):
        raise ScenarioError(Problem("the day has no load in any hour", where, "write day: [1, 2, 4, 2]"))
    hours = tuple(mean * load * len(day) / sum(day) for load in day)
    return Demand(mean, max(hours), hours, float(requests.output_tokens.mean()))


@dataclass
class _Bench:
    """Fleets in the event engine, all under the same requests."""

    scenario: Scenario
    file: str
    folders: tuple[Path, ...]
    objective: Slo
    contents: Contents
    evaluation: Evaluation
    replications: int
    computed: int = 0

    def smallest(self, fleets: Sequence[Fleet], factor: float) -> list[tuple[Fleet, int]]:
        """Fleet -> the fewest replicas that keep the SLO; those that never do within ROUNDS are left out."""
        failed = dict.fromkeys(range(len(fleets)), 0)  # the most replicas that are too few
        enough: dict[int, int] = {}
        trying = {index: each.replicas for index, each in enumerate(fleets)}
        for _ in range(ROUNDS):
            kept = self._kept([(fleets[index].candidate, count, factor) for index, count in trying.items()])
            following: dict[int, int] = {}
            for (index, count), good in zip(trying.items(), kept, strict=True):
                if good:
                    enough[index] = count
                else:
                    failed[index] = count
                low, high = failed[index], enough.get(index)
                if high is None:
                    following[index] = ceil(low * 1.3) + (low < 4)
                elif high - low > 1:
                    following[index] = (low + high) // 2 if low else max(1, int(high * 0.8))
            trying = following
            if not trying:
                break
        return [(fleets[index], count) for index, count in enough.items()]

    def headroom(self, best: Fleet, factor: float) -> tuple[float, Mapping[str, Any]]:
        """The largest factor on the traffic, beyond `factor`, that the fleet holds, and its run at `factor`."""
        low, high = 1.0, MOST_HEADROOM
        for _ in range(HEADROOM_ROUNDS):
            middle = (low + high) / 2
            held = self._kept([(best.candidate, best.replicas, factor * middle)])[0]
            low, high = (middle, high) if held else (low, middle)
        return low, self._runs([(best.candidate, best.replicas, factor)])[0][0]

    def _kept(self, wanted: Sequence[tuple[Candidate, int, float]]) -> list[bool]:
        least = self.objective.percentile / 100.0
        return [
            all(not run["saturated"] and (run["slo_attainment"] or 0.0) >= least for run in runs) and bool(runs)
            for runs in self._runs(wanted)
        ]

    def _runs(self, wanted: Sequence[tuple[Candidate, int, float]]) -> list[list[Mapping[str, Any]]]:
        """The summaries of each, one for every seed; none for one that fails."""
        points = [[self._point(*each, seed) for seed in range(self.replications)] for each in wanted]
        keys = [[self.contents.key(point.scenario) for point in group] for group in points]
        named = {key: point for ks, ps in zip(keys, points, strict=True) for key, point in zip(ks, ps, strict=True)}
        results, count = self.evaluation.results(named)
        self.computed += count
        found = [[results[key].get("summary") for key in group] for group in keys]
        return [[run for run in runs if run] if all(runs) else [] for runs in found]

    def _point(self, candidate: Candidate, replicas: int, factor: float, seed: int) -> Point:
        scenario = self.scenario.model_copy(
            update={
                "model": str(self.scenario.models[0]),
                "machines": (candidate.choice(replicas),),
                "limits": candidate.limits,
                "traffic": _faster(self.scenario.traffic, factor),
                "seed": self.scenario.seed + seed,
            }
        )
        return Point({}, seed, 0, scenario, self.file, self.folders, "")


def _faster(traffic: Traffic, factor: float) -> Traffic:
    if traffic.request_rate is not None:
        return traffic.model_copy(update={"request_rate": Known(float(traffic.request_rate) * factor, unit="/s")})
    return traffic.model_copy(update={"speed": Known(float(traffic.speed) * factor, unit="")})


def _record(each: Fleet, verified: bool) -> dict[str, Any]:
    case = each.candidate.case
    return {
        "machine": case.machine.profile.name,
        "layout": str(case.machine.parallelism),
        "weights": case.precision.weights,
        "max_num_seqs": each.candidate.limits.max_num_seqs,
        "stack": case.machine.stack.name,
        "verified": verified,
        "replicas": each.replicas,
        **_prefill(each),
        "nodes": sum(kind.count for kind in each.kinds if kind.profile.name == case.machine.profile.name),
        "spares": each.spares,
        "chips": each.chips,
        "cost_per_mtok_usd": each.cost_per_mtok,
        "cost_per_hour_usd": each.cost_per_hour,
        "energy_per_output_token_j": each.joules_per_token,
        "average_power_w": each.power,
        "carbon_per_mtok_kg": each.carbon_per_mtok,
        "tpot_mean_ms": each.candidate.token_s * 1e3,
        "requests_per_s_per_replica": each.candidate.rate,
        "binding": each.candidate.binding,
    }


def _prefill(each: Fleet) -> dict[str, Any]:
    """The machines that compute the prompts, where they are others; nodes 0: they share those that answer."""
    side = each.candidate.prefill
    if side is None:
        return {"prefill_machine": None, "prefill_layout": None, "prefill_replicas": 0, "prefill_nodes": 0}
    profile = side.case.machine.profile
    shared = profile.name == each.candidate.case.machine.profile.name
    return {
        "prefill_machine": profile.name,
        "prefill_layout": str(side.case.machine.parallelism),
        "prefill_replicas": side.count(each.replicas),
        "prefill_nodes": 0 if shared else each.kinds[0].count,
    }


def _sensitivity(found: Proposal) -> list[dict[str, Any]]:
    best, wanted, demand = found.fleets[0], found.plan, found.demand
    now = best.score(wanted.objective)
    hours = tuple(hour * SENSITIVITY for hour in demand.hours)
    busier = replace(demand, mean=demand.mean * SENSITIVITY, peak=demand.peak * SENSITIVITY, hours=hours)
    changed = {
        "price of the machines": fleet(_dearer(best.candidate, SENSITIVITY, 1.0), best.replicas, demand, wanted),
        "price of electricity": fleet(_dearer(best.candidate, 1.0, SENSITIVITY), best.replicas, demand, wanted),
        "traffic, and replicas": fleet(best.candidate, ceil(best.replicas * SENSITIVITY), busier, wanted),
    }
    return [
        {"20 % more": name, wanted.objective: score, "change": score / now - 1}
        for name, score in ((name, each.score(wanted.objective)) for name, each in changed.items())
    ]


def _dearer(candidate: Candidate, parts: float, electricity: float) -> Candidate:
    return replace(candidate, sides=tuple(_dearer_side(side, parts, electricity) for side in candidate.sides))


def _dearer_side(side: Side, parts: float, electricity: float) -> Side:
    hourly = side.case.hourly
    if hourly is None:
        return side
    changed = {name: value * parts for name, value in hourly.parts.items()}
    priced = replace(hourly, parts=changed, electricity=hourly.electricity * electricity)
    return replace(side, case=replace(side.case, hourly=priced))
