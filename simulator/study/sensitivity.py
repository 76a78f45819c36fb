"""How a plan's answer moves with its inputs: each 20 % larger, all else equal, by the closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np

from simulator.cost.money import HourlyCost
from simulator.metrics.slo import Slo
from simulator.study.candidate import Candidate, Refusal, Side
from simulator.study.fleet import Demand, Fleet, Part, fleet
from simulator.study.judge import judged
from simulator.study.objective import Objective
from simulator.study.study import Plan

MORE = 1.2


def sensitivity(
    best: Fleet, objective: Objective, slo: Slo, demand: Demand, plan: Plan, headroom: float = 1.0
) -> list[dict[str, Any]]:
    """A record for each input: the objective of the same machines when it is 20 % larger, the change, and the nodes.

    Where a replica then holds more or less, there are fewer or more of them in proportion, more only as far as the
    `headroom` (the factor on the traffic that the fleet holds) does not do; None where it holds nothing.
    Limits and lengths are left out where prompts are computed apart: what each side then holds is not judged alone.
    """
    now = objective.of(best)
    hours = tuple(hour * MORE for hour in demand.hours)
    busier = replace(demand, mean=demand.mean * MORE, peak=demand.peak * MORE, hours=hours)
    wordier = replace(demand, output_tokens=demand.output_tokens * MORE)
    names = ("ttft_s", "tpot_s", "e2el_s")
    looser = replace(slo, **{name: _times(getattr(slo, name)) for name in names})  # type: ignore[arg-type]

    def priced(of_machines: float, of_electricity: float) -> Fleet | None:
        change = _priced(of_machines, of_electricity)
        parts = [replace(part, candidate=_with_prices(part.candidate, change)) for part in best.parts]
        return fleet(parts, demand, plan)

    def anew(by: Slo, under: Demand, prompts: float = 1.0, answers: float = 1.0) -> Fleet | None:
        parts = [_judged_anew(part, by, prompts, answers, headroom) for part in best.parts]
        known = [part for part in parts if part is not None]
        return fleet(known, under, plan) if len(known) == len(parts) else None

    more = [Part(p.candidate, _replicas(p.replicas, MORE, headroom), p.floor * MORE, p.rate * MORE) for p in best.parts]
    changed = {
        "price of the machines": priced(MORE, 1.0),
        "price of electricity": priced(1.0, MORE),
        "traffic, and replicas": fleet(more, busier, plan),
    }
    if all(part.candidate.prefill is None for part in best.parts):
        changed |= {
            "limits of the SLO": anew(looser, demand),
            "tokens of a prompt": anew(slo, demand, prompts=MORE),
            "tokens of an answer": anew(slo, wordier, answers=MORE),
        }
    return [
        {
            "20 % more": name,
            objective.name: objective.of(each) if each else None,
            "change": objective.of(each) / now - 1 if each else None,
            "nodes": each.nodes + each.spares if each else None,
        }
        for name, each in changed.items()
    ]


def _times(limit: float | None) -> float | None:
    return None if limit is None else limit * MORE


def _replicas(now: int, ratio: float, headroom: float) -> int:
    """Replicas where `ratio` times as many would be needed were all of them busy.

    >>> _replicas(5, 1.2, 1.0), _replicas(5, 1.2, 1.5), _replicas(5, 0.5, 1.5)
    (6, 5, 3)
    """
    return ceil(now * (ratio if ratio < 1.0 else max(1.0, ratio / headroom)) - 1e-9)


def _judged_anew(part: Part, slo: Slo, prompts: float, answers: float, headroom: float) -> Part | None:
    """The part with as many replicas as it needs where each holds what it would hold then."""
    old = part.candidate
    requests = old.case.requests
    prompt, output = float(np.mean(requests.input_tokens)), float(np.mean(requests.output_tokens))
    new = judged(old.model, old.case, old.limits, slo, prompt * prompts, output * answers)
    if isinstance(new, Refusal):
        return None
    return replace(part, candidate=new, replicas=_replicas(part.replicas, old.rate / new.rate, headroom))


def _priced(of_machines: float, of_electricity: float) -> Callable[[HourlyCost], HourlyCost]:
    def change(hourly: HourlyCost) -> HourlyCost:
        parts = {name: value * of_machines for name, value in hourly.parts.items()}
        return replace(hourly, parts=parts, electricity=hourly.electricity * of_electricity)

    return change


def _with_prices(candidate: Candidate, change: Callable[[HourlyCost], HourlyCost]) -> Candidate:
    def priced(side: Side) -> Side:
        hourly = side.case.hourly
        return side if hourly is None else replace(side, case=replace(side.case, hourly=change(hourly)))

    return replace(candidate, sides=tuple(priced(side) for side in candidate.sides))
