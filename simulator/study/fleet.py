"""A fleet of a candidate's replicas: how many nodes with spares, what it costs and draws over a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb

import numpy as np

from simulator.errors import Problem, ScenarioError
from simulator.hardware.profile import Profile
from simulator.serve import Case
from simulator.study.candidate import Candidate
from simulator.study.study import Availability, Plan

HOUR_S = 3600.0
MTOK = 1e6
MOST_SPARES = 10_000


@dataclass(frozen=True)
class Demand:
    """Requests a second on average and at the peak, and the load of the hours of a day (means of the same)."""

    mean: float
    peak: float
    hours: tuple[float, ...]
    output_tokens: float  # of a request


@dataclass(frozen=True)
class Nodes:
    """So many nodes of a profile, and `spares` more."""

    profile: Profile
    count: int
    spares: int


@dataclass(frozen=True)
class Part:
    """Replicas of a candidate that carry a slice of the load: what of it lies above `floor`, at most `rate` (1/s)."""

    candidate: Candidate
    replicas: int
    floor: float
    rate: float

    def hours(self, demand: Demand) -> np.ndarray:
        """Requests a second that it carries in each hour."""
        return np.asarray(np.clip(np.array(demand.hours) - self.floor, 0.0, self.rate))


@dataclass(frozen=True)
class Fleet:
    """Parts that share the load: one, or one for the base load and one for what exceeds it, on nodes of a few kinds.
    cost_per_hour in USD (None without a price), power in W on average, peak_power in W, of a node of each kind
    node_power; per million output tokens: cost_per_mtok (USD) and carbon_per_mtok (kg CO2e, of the electricity alone),
    and joules per output token. racks: 0 unless the plan says what a rack can draw."""

    parts: tuple[Part, ...]
    kinds: tuple[Nodes, ...]
    cost_per_hour: float | None
    power: float
    peak_power: float
    cost_per_mtok: float | None
    joules_per_token: float
    carbon_per_mtok: float
    node_power: float
    racks: int = 0

    @property
    def candidate(self) -> Candidate:
        """That of the first part, which carries the base load."""
        return self.parts[0].candidate

    @property
    def replicas(self) -> int:
        """Of the first part."""
        return self.parts[0].replicas

    @property
    def peaks(self) -> Part | None:
        """The part that carries what exceeds the base load, where there is one."""
        return self.parts[1] if len(self.parts) > 1 else None

    @property
    def name(self) -> str:
        """The candidates of its parts."""
        return ", then ".join(part.candidate.name for part in self.parts)

    @property
    def engines(self) -> int:
        """Replicas of all sides: those that answer, and those that compute their prompts."""
        return sum(side.count(part.replicas) for part in self.parts for side in part.candidate.sides)

    @property
    def nodes(self) -> int:
        """Nodes of all kinds, without spares."""
        return sum(kind.count for kind in self.kinds)

    def count_of(self, name: str) -> int:
        """Nodes of a profile, without spares."""
        return sum(kind.count for kind in self.kinds if kind.profile.name == name)

    @property
    def spares(self) -> int:
        """Spare nodes of all kinds."""
        return sum(kind.spares for kind in self.kinds)

    @property
    def chips(self) -> int:
        """Chips of all nodes, spares too."""
        return sum((kind.count + kind.spares) * kind.profile.node.chips for kind in self.kinds)

    def score(self, objective: str) -> float:
        """What the plan makes as small as it can."""
        value = {
            "cost": self.cost_per_mtok,
            "energy": self.joules_per_token,
            "chips": float(self.chips),
            "carbon": self.carbon_per_mtok,
        }[objective]
        return float("inf") if value is None else value

    def breaks(self, plan: Plan) -> Excess | None:
        """The constraint of the plan that the fleet breaks furthest."""
        found = []
        if plan.power is not None:
            drawn, most = self.peak_power / 1e3, float(plan.power) / 1e3
            found.append(Excess("power", f"{drawn:.4g} kW of {most:.4g} kW", drawn / most))
        if plan.rack_power is not None:
            drawn, most = self.node_power / 1e3, float(plan.rack_power) / 1e3
            found.append(Excess("rack_power", f"{drawn:.4g} kW a node, {most:.4g} kW a rack", drawn / most))
        if plan.racks is not None:
            found.append(Excess("racks", f"{self.racks} of {plan.racks}", self.racks / plan.racks))
        for kind in self.kinds:
            limit, wanted = plan.nodes.get(kind.profile.name), kind.count + kind.spares
            if limit is not None:
                share = wanted / limit if limit else float("inf")
                found.append(Excess("nodes", f"{wanted} of {limit} {kind.profile.name}", share))
        worst = max(found, key=lambda each: each.factor, default=None)
        return worst if worst is not None and worst.factor > 1.0 else None


@dataclass(frozen=True)
class Excess:
    """A constraint that a fleet breaks: which, what it takes of what there is, and the ratio of the two."""

    constraint: str
    what: str
    factor: float


def single(candidate: Candidate, replicas: int, demand: Demand, plan: Plan) -> Fleet:
    """So many replicas of one candidate for all of the load."""
    return fleet((Part(candidate, replicas, 0.0, demand.peak),), demand, plan)


def fleet(parts: Sequence[Part], demand: Demand, plan: Plan) -> Fleet:
    """Parts through a day, with spares for the plan's availability. Sides on machines of one kind share nodes.

    Replicas that a load does not need wait, and draw what an idle chip draws. With `standby: off` only as many are on
    as carry the hour's load at the same load each as at the peak; nodes without any draw nothing, and cost no rent.
    """
    sides = [(part, side) for part in parts for side in part.candidate.sides]
    cases = {side.case.machine.profile.name: side.case for _, side in sides}
    zeros = np.zeros(len(demand.hours))
    chips = dict.fromkeys(cases, 0)  # that are there
    on = dict.fromkeys(cases, zeros)  # of them, in each hour
    busy = dict.fromkeys(cases, zeros)  # W above idle
    for part, side in sides:
        name, each = side.case.machine.profile.name, side.case.machine.parallelism.chips
        hours, count = part.hours(demand), side.count(part.replicas)
        awake = np.full(len(hours), float(count))
        if plan.standby == "off":
            awake = np.ceil(count * hours / part.rate - 1e-9)
        load = hours / np.maximum(awake, 1.0)
        chips[name] += count * each
        on[name] = on[name] + awake * each
        busy[name] = busy[name] + awake * each * side.watts(load)
    kinds, power, node_power, racks = [], zeros, 0.0, 0
    cost: float | None = 0.0
    for name, case in cases.items():
        node = case.machine.profile.node
        nodes = ceil(chips[name] / node.chips)
        spares = spare_nodes(nodes, node.chips, plan)
        kinds.append(Nodes(case.machine.profile, nodes, spares))
        running = np.ceil(on[name] / node.chips) if plan.standby == "off" else np.full(len(zeros), nodes + spares)
        still = node.chips * float(case.machine.profile.chip.power.idle) + float(node.power.base)
        whole = (busy[name] + running * still) * float(node.power.pue)
        power = power + whole
        drawn = float(np.max(whole / np.maximum(running, 1.0)))  # of a node
        node_power = max(node_power, drawn)
        if plan.rack_power is not None:
            racks += ceil((nodes + spares) / max(1, int(float(plan.rack_power) / drawn)))
        rented = case.terms.basis == "rental"
        paid = _paid(case, float(running.mean()) if rented else nodes + spares, float(whole.mean()))
        cost = None if cost is None or paid is None else cost + paid
    tokens = demand.mean * demand.output_tokens * HOUR_S
    each_token = float(power.mean()) * HOUR_S / tokens
    return Fleet(
        tuple(parts),
        tuple(kinds),
        cost,
        float(power.mean()),
        float(power.max()),
        None if cost is None else cost / tokens * MTOK,
        each_token,
        each_token * MTOK * float(plan.intensity()),
        node_power,
        racks,
    )


def _paid(case: Case, nodes: float, watts: float) -> float | None:
    """USD an hour."""
    return sum(case.hourly.of(HOUR_S, nodes, watts * HOUR_S).values()) if case.hourly else None


def spare_nodes(nodes: int, chips: int, plan: Plan) -> int:
    """The spares that the plan names, or as many as its availability needs."""
    return plan.spares if plan.availability is None else spares_for(nodes, chips, plan.availability)


def spares_for(nodes: int, chips: int, availability: Availability) -> int:
    """The fewest spares k with P(at least `nodes` of nodes + k are up) >= target, and those in maintenance.

    A node of c chips is up for the share T / (T + repair), T = chip_hours / c, independently of the others.
    """
    between = float(availability.chip_hours) / chips
    up = between / (between + float(availability.repair))
    for spares in range(MOST_SPARES):
        whole = nodes + spares
        short = sum(comb(whole, n) * up**n * (1.0 - up) ** (whole - n) for n in range(nodes)) if whole < 500 else None
        if short is None:  # the normal approximation
            mean, spread = whole * up, (whole * up * (1.0 - up)) ** 0.5
            short = _below(nodes - 0.5, mean, spread)
        if 1.0 - short >= float(availability.target):
            return spares + availability.maintenance
    what = f"no {MOST_SPARES:,} spares keep {nodes} nodes up for {float(availability.target):g} of the time"
    raise ScenarioError(Problem(what, None, "write a smaller target, or a shorter repair"))


def _below(x: float, mean: float, spread: float) -> float:
    from math import erf, sqrt

    return 0.5 * (1.0 + erf((x - mean) / (spread * sqrt(2.0)))) if spread else float(x >= mean)
