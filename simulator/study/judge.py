"""What a candidate of one machine holds in steady state within an SLO."""

from __future__ import annotations

import numpy as np

from simulator.cost.steady import Replica
from simulator.metrics.slo import Slo
from simulator.scenario import Limits
from simulator.scenario.model import ModelChoice
from simulator.serve import Case
from simulator.study.candidate import Candidate, Refusal, Side

BATCHES = 48
"""Batches between one and the largest at which a replica is looked at, at even ratios."""


def ending(limits: Limits, room: float) -> str:
    """What ends the largest batch: seats, or a cache with `room` for so many requests."""
    return "max_num_seqs" if limits.max_num_seqs <= room else "KV cache"


def judged(
    model: str | ModelChoice, case: Case, limits: Limits, slo: Slo, prompt: float, output: float
) -> Candidate | Refusal:
    """The largest batch at which the means keep the SLO, for requests of so many tokens on average."""
    room = case.requests_held(prompt, output)
    if room < 1.0:
        return Refusal("the KV cache does not hold a request")
    most = min(float(limits.max_num_seqs), room)
    replica = Replica(case.architecture, case.precision, case.machine, prompt, output, most)
    batches = np.geomspace(1.0, most, BATCHES)
    state = replica.at_batch(batches)
    limits_s = {"ttft": slo.ttft_s, "tpot": slo.tpot_s, "e2el": slo.e2el_s}
    reached = {
        "ttft": state.first_s,
        "tpot": state.token_s,
        "e2el": state.first_s + (output - 1) * state.token_s,
    }
    over = {name: reached[name] / limit for name, limit in limits_s.items() if limit is not None}
    kept = np.all([ratio <= 1.0 for ratio in over.values()], axis=0)
    if not kept[0]:
        worst = max(over, key=lambda name: float(over[name].min()))
        return Refusal(f"{worst} above the SLO in the smallest batch", float(over[worst].min()))
    last = int(np.argmin(kept)) - 1 if not kept.all() else BATCHES - 1
    ends = last == BATCHES - 1
    binding = ending(limits, room) if ends else max(over, key=lambda name: float(over[name][last + 1]))
    chosen = replica.at_batch(batches[last])
    side = Side(case, replica)
    return Candidate(model, (side,), limits, float(chosen.rate[0]), float(chosen.step_s[0]), binding)
