"""Candidates of two machines: one for the prompts, one for the answers, each as it is best at its part.

Each machine's replicas are judged at either part alone: the most requests a second at which their own share of the SLO
holds. The best few of each part, by what they take of the objective at the peak, are joined pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from simulator.cost.steady import Replica
from simulator.cost.steady_pools import MOST_LOAD, PrefillReplica
from simulator.errors import RamwiseError
from simulator.metrics.slo import Slo
from simulator.scenario import Limits
from simulator.scenario.model import ModelChoice
from simulator.serve import Case, link_of
from simulator.study.candidate import Candidate, Refusal, Side
from simulator.study.fleet import Demand
from simulator.study.judge import BATCHES, ending
from simulator.study.steady_pools import pools_of
from simulator.study.study import Goal, Plan

HALVES = 6
"""Machines of each part that are joined."""


@dataclass(frozen=True)
class Half:
    """One machine at one part. rate: requests a second of a replica; watts: of one chip above idle at that rate."""

    case: Case
    limits: Limits
    replica: Replica | PrefillReplica
    rate: float
    watts: float
    token_s: float = 0.0
    binding: str = "prefill"

    def score(self, objective: str, demand: Demand) -> float:
        """What it takes of the objective at the peak: USD an hour, chips, or W."""
        machine = self.case.machine
        node = machine.profile.node
        chips = ceil(demand.peak / self.rate) * machine.parallelism.chips
        if objective == "chips":
            return float(ceil(chips / node.chips) * node.chips)
        if objective == "cost":
            hourly = self.case.hourly
            return sum(hourly.parts.values()) * ceil(chips / node.chips) if hourly else float("inf")
        idle = float(machine.profile.chip.power.idle) + float(node.power.base) / node.chips
        work = demand.peak / self.rate * machine.parallelism.chips * self.watts
        return (chips * idle + work) * float(node.power.pue)


def pairs(
    model: str | ModelChoice, cases: Sequence[tuple[Case, Limits]], slo: Slo, demand: Demand, plan: Plan
) -> Iterator[Candidate | Refusal]:
    """Candidates of the best machines for each part, and why others of these are none. Without a link of the plan's
    only machines with a network of their own are looked at."""
    joined = plan.link is not None
    cases = [(case, limits) for case, limits in cases if joined or case.machine.profile.node.scale_out is not None]
    if not cases:
        return
    requests = cases[0][0].requests
    lengths = float(requests.input_tokens.mean()), float(requests.output_tokens.mean())
    firsts = {_key(case): _prefill(case, limits, slo, *lengths) for case, limits in cases}
    seconds = [_decode(case, limits, slo, *lengths) for case, limits in cases]
    first, then = (_best(halves, plan.goals, demand) for halves in ([*firsts.values()], seconds))
    for one in first:
        for other in then:
            yield _joined(model, one, other, slo, demand, plan, lengths)


def _key(case: Case) -> tuple[Any, ...]:
    """The largest batch does not matter to a pool that prefills."""
    machine = case.machine
    return (
        machine.profile.name,
        machine.stack.name,
        machine.parallelism,
        case.precision,
        case.limits.max_num_batched_tokens,
    )


def _best(halves: Sequence[Half | None], goals: Mapping[Goal, float], demand: Demand) -> list[Half]:
    """The best of each machine and layout, by the weighted goals in multiples of the least of each."""
    known = [half for half in halves if half is not None]
    least = {goal: min((half.score(goal, demand) for half in known), default=1.0) or 1.0 for goal in goals}
    by_machine: dict[tuple[str, str], Half] = {}
    for half in sorted(
        known, key=lambda half: sum(goals[goal] * half.score(goal, demand) / least[goal] for goal in goals)
    ):
        by_machine.setdefault((half.case.machine.profile.name, str(half.case.machine.parallelism)), half)
    return list(by_machine.values())[:HALVES]


def _prefill(case: Case, limits: Limits, slo: Slo, prompt: float, output: float) -> Half | None:
    """The load at which the mean wait and the prompt's own steps keep the limit of the first token."""
    seqs = min(float(case.limits.max_num_seqs), case.sheet.kv_tokens / prompt)
    tokens = float(case.limits.max_num_batched_tokens)
    replica = PrefillReplica(case.architecture, case.precision, case.machine, prompt, tokens, seqs)
    full = replica.at_rate(np.inf)
    own = float(replica.alone_s[0])
    limit = min((each for each in (slo.ttft_s, slo.e2el_s) if each is not None), default=np.inf)
    if own >= limit:
        return None
    excess = limit / own - 1.0
    load = min(2.0 * excess / (1.0 + 2.0 * excess), MOST_LOAD)
    return Half(case, limits, replica, load * float(full.rate[0]), float(full.joules[0]))


def _decode(case: Case, limits: Limits, slo: Slo, prompt: float, output: float) -> Half | None:
    """The largest batch whose step keeps the limit of a token."""
    room = case.requests_held(prompt, output)
    most = max(1.0, min(float(limits.max_num_seqs), room))
    replica = Replica(case.architecture, case.precision, case.machine, prompt, output, most, prefilled=True)
    state = replica.at_batch(np.geomspace(1.0, most, BATCHES))
    limit = min(slo.tpot_s or np.inf, (slo.e2el_s or np.inf) / max(output - 1.0, 1.0))
    kept = np.flatnonzero(state.step_s <= limit)
    if not len(kept):
        return None
    last = int(kept[-1])
    binding = "tpot" if last < BATCHES - 1 else ending(limits, room)
    figures = float(state.rate[last]), float(state.joules[last]), float(state.step_s[last])
    return Half(case, limits, replica, *figures, binding)


def _joined(
    model: str | ModelChoice, one: Half, other: Half, slo: Slo, demand: Demand, plan: Plan, lengths: tuple[float, float]
) -> Candidate | Refusal:
    """The two as one candidate, where a link joins them and both together keep the SLO at the peak."""
    prompt, output = lengths
    try:
        link = link_of(plan.link, one.case, other.case)
    except RamwiseError as error:
        return Refusal(str(error).splitlines()[0])
    if one.case.precision.kv != other.case.precision.kv:
        return Refusal("prefill and decode cache in other number formats")
    answering = ceil(demand.peak / other.rate)
    first = Side(one.case, one.replica, other.rate / one.rate)
    counts = [side.case.choice.model_copy(update={"replicas": n}) for side, n in
              ((first, first.count(answering)), (Side(other.case, other.replica), answering))]  # fmt: skip
    prefill = replace(one.case, choice=counts[0])
    pools = pools_of(
        replace(other.case, choice=counts[1], prefill=prefill, link=link), np.array([prompt]), np.array([output])
    )
    state = pools.at_rate(demand.peak)
    reached = {
        "ttft": (float(state.first_s[0]), slo.ttft_s),
        "tpot": (float(state.token_s(output)[0]), slo.tpot_s),
        "e2el": (float(state.inside_s(output)[0]), slo.e2el_s),
    }
    over = {name: seconds / limit for name, (seconds, limit) in reached.items() if limit is not None}
    worst = max(over, key=lambda name: over[name])
    if over[worst] > 1.0:
        return Refusal(f"{worst} above the SLO with prompts and answers apart", over[worst])
    if pools.holds()["link"][0] < demand.peak:
        return Refusal("the link does not hold the peak")
    sides = first, Side(other.case, other.replica)
    return Candidate(model, sides, other.limits, other.rate, float(state.token_s(output)[0]), other.binding, plan.link)
