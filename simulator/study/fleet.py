"""A fleet of equal replicas: how many nodes with spares, what it costs and draws over a day."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, comb

import numpy as np

from simulator.errors import Problem, ScenarioError
from simulator.study.candidates import Candidate
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
class Fleet:
    """`replicas` of a candidate on `nodes` nodes and `spares` more. cost_per_hour in USD (None without a price), power
    in W on average, peak_power in W; per million output tokens: cost_per_mtok (USD), and joules per output token."""

    candidate: Candidate
    replicas: int
    nodes: int
    spares: int
    cost_per_hour: float | None
    power: float
    peak_power: float
    cost_per_mtok: float | None
    joules_per_token: float

    @property
    def chips(self) -> int:
        """Chips of all nodes, spares too."""
        return (self.nodes + self.spares) * self.candidate.case.machine.profile.node.chips

    def score(self, objective: str) -> float:
        """What the plan makes as small as it can."""
        value = {"cost": self.cost_per_mtok, "energy": self.joules_per_token, "chips": float(self.chips)}[objective]
        return float("inf") if value is None else value

    def breaks(self, plan: Plan) -> str:
        """The constraint of the plan that the fleet breaks, in words; "" for none."""
        profile = self.candidate.case.machine.profile.name
        if plan.power is not None and self.peak_power > float(plan.power):
            return f"power: {self.peak_power / 1e3:.4g} kW of {float(plan.power) / 1e3:.4g} kW"
        most = plan.nodes.get(profile)
        if most is not None and self.nodes + self.spares > most:
            return f"nodes: {self.nodes + self.spares} of {most} {profile}"
        return ""


def fleet(candidate: Candidate, replicas: int, demand: Demand, plan: Plan) -> Fleet:
    """So many replicas, with spares for the plan's availability, through a day."""
    case = candidate.case
    machine, node = case.machine, case.machine.profile.node
    chips = machine.parallelism.chips
    nodes = ceil(replicas * chips / node.chips)
    spares = spare_nodes(nodes, node.chips, plan.availability) if plan.availability else 0
    hours = np.array(demand.hours)
    state = candidate.replica.at_rate(hours / replicas)
    power = machine.profile.chip.power
    busy = replicas * chips * state.joules
    still = (nodes + spares) * (node.chips * float(power.idle) + float(node.power.base))
    drawn = (busy + still) * float(node.power.pue)
    mean = float(drawn.mean())
    tokens = demand.mean * demand.output_tokens * HOUR_S
    cost = None
    if case.hourly is not None:
        cost = sum(case.hourly.of(HOUR_S, nodes + spares, mean * HOUR_S).values())
    return Fleet(
        candidate,
        replicas,
        nodes,
        spares,
        cost,
        mean,
        float(drawn.max()),
        None if cost is None else cost / tokens * MTOK,
        mean * HOUR_S / tokens,
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
