"""A fleet of a candidate's replicas: how many nodes with spares, what it costs and draws over a day."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, comb

import numpy as np

from simulator.errors import Problem, ScenarioError
from simulator.hardware.profile import Profile
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
class Fleet:
    """`replicas` of a candidate on nodes of one or two kinds. cost_per_hour in USD (None without a price), power in W
    on average, peak_power in W; per million output tokens: cost_per_mtok (USD) and carbon_per_mtok (kg CO2e, of the
    electricity alone), and joules per output token."""

    candidate: Candidate
    replicas: int
    kinds: tuple[Nodes, ...]
    cost_per_hour: float | None
    power: float
    peak_power: float
    cost_per_mtok: float | None
    joules_per_token: float
    carbon_per_mtok: float

    @property
    def engines(self) -> int:
        """Replicas of all sides: those that answer, and those that compute their prompts."""
        return sum(side.count(self.replicas) for side in self.candidate.sides)

    @property
    def nodes(self) -> int:
        """Nodes of all kinds, without spares."""
        return sum(kind.count for kind in self.kinds)

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

    def breaks(self, plan: Plan) -> str:
        """The constraint of the plan that the fleet breaks, in words; "" for none."""
        if plan.power is not None and self.peak_power > float(plan.power):
            return f"power: {self.peak_power / 1e3:.4g} kW of {float(plan.power) / 1e3:.4g} kW"
        for kind in self.kinds:
            most, wanted = plan.nodes.get(kind.profile.name), kind.count + kind.spares
            if most is not None and wanted > most:
                return f"nodes: {wanted} of {most} {kind.profile.name}"
        return ""


def fleet(candidate: Candidate, replicas: int, demand: Demand, plan: Plan) -> Fleet:
    """So many replicas, with spares for the plan's availability, through a day. Sides on machines of one kind share
    nodes."""
    hours = np.array(demand.hours)
    chips: dict[str, int] = {}
    busy: dict[str, np.ndarray] = {}  # W above idle
    profiles = {side.case.machine.profile.name: side.case.machine.profile for side in candidate.sides}
    hourly = {side.case.machine.profile.name: side.case.hourly for side in candidate.sides}
    for side in candidate.sides:
        name, count = side.case.machine.profile.name, side.count(replicas)
        each = side.case.machine.parallelism.chips
        drawn = count * each * side.replica.at_rate(hours / count).joules
        chips[name] = chips.get(name, 0) + count * each
        busy[name] = busy.get(name, np.zeros(len(hours))) + drawn
    kinds, power = [], np.zeros(len(hours))
    cost: float | None = 0.0
    for name, profile in profiles.items():
        node = profile.node
        nodes = ceil(chips[name] / node.chips)
        spares = spare_nodes(nodes, node.chips, plan.availability) if plan.availability else 0
        kinds.append(Nodes(profile, nodes, spares))
        still = (nodes + spares) * (node.chips * float(profile.chip.power.idle) + float(node.power.base))
        whole = (busy[name] + still) * float(node.power.pue)
        power += whole
        price = hourly[name]
        paid = sum(price.of(HOUR_S, nodes + spares, float(whole.mean()) * HOUR_S).values()) if price else None
        cost = None if cost is None or paid is None else cost + paid
    tokens = demand.mean * demand.output_tokens * HOUR_S
    each_token = float(power.mean()) * HOUR_S / tokens
    return Fleet(
        candidate,
        replicas,
        tuple(kinds),
        cost,
        float(power.mean()),
        float(power.max()),
        None if cost is None else cost / tokens * MTOK,
        each_token,
        each_token * MTOK * float(plan.intensity()),
    )


def spare_nodes(nodes: int, chips: int, availability: Availability) -> int:
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
