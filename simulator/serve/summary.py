"""What a run comes to: the keys of its summary, with their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import Any

from simulator.cost.money import no_price
from simulator.cost.step import StepCost
from simulator.engine.records import RunRecords, SegmentRecords
from simulator.metrics.latency import latency
from simulator.metrics.money import money_summary
from simulator.metrics.pools import together, transfer_summary
from simulator.metrics.slo import Slo
from simulator.metrics.steady import saturation, steady_state
from simulator.metrics.throughput import goodput, most_waiting, throughput
from simulator.metrics.usage import moved_summary, usage, usage_summary
from simulator.model.number_format import tensor_class
from simulator.model.quality import quality
from simulator.provenance import label_counts, weakest
from simulator.scenario import Scenario
from simulator.scenario.placement import Places
from simulator.serve.case import Case


def summary_of(
    case: Case, scenario: Scenario, objective: Slo | None, records: RunRecords, costs: Sequence[StepCost]
) -> dict[str, Any]:
    """The figures of one run; `costs` of a step in each of its pools."""
    requests = records.requests
    expected = quality(case.architecture, case.precision, float(scenario.training_tokens))
    rates = throughput(requests)
    makespan = rates["makespan_s"] or 0.0
    verdict = saturation(requests) if scenario.traffic.concurrency is None else None
    saturated = bool(verdict and verdict.saturated)
    steady, reason = (None, "saturated") if saturated else steady_state(requests)
    waited = float((requests.scheduled_s - requests.arrival_s).sum())
    inside = float((requests.finish_s - requests.scheduled_s).sum())
    tokens = int(requests.output_tokens[requests.completed].sum())
    steps = _by_pool(case, records)
    pools = [
        _pool_summary(pool, replace(records, steps=own), cost, makespan, tokens)
        for pool, own, cost in zip(case.pools, steps, costs, strict=True)
    ]
    decoded = int(steps[-1].steps.sum())
    cached = int(steps[-1].keys[:, 0].sum()) / max(1, decoded) / max(1, records.kv_blocks * case.sheet.block_size)
    found = {
        "machine": case.name,
        **(pools[0] if len(pools) == 1 else together(pools)),
        "model": case.architecture.name,
        "precision": {name: value for name, value in vars(case.precision).items() if value},
        "limits": scenario.limits.model_dump(),
        "traffic": case.requests.note,
        "saturated": saturated,
        "sustainable_rate": verdict.sustainable_rate if verdict else None,
        "requests": len(requests),
        "requests_completed": int(requests.completed.sum()),
        **rates,
        **latency(requests, records.gaps),
        **goodput(requests, objective),
        "slo": objective.summary() if objective else None,
        "queue_mean": waited / makespan,
        "queue_max": most_waiting(requests),
        "running_mean": inside / makespan,
        **({"held_by_tier_b": case.sheet.held_by_tier} if len(case.sheet.tiers) > 1 else {}),
        "kv_occupancy_mean": cached,
        "kv_occupancy_max": records.kv_used_max,
        "preemptions": int(requests.preemptions.sum()),
        "steps": int(records.steps.steps.sum()),
        "quality": expected.summary(),
        "warnings": [*_warnings(case, scenario), *expected.warnings],
        "steady": steady if steady is not None else {"reason": reason},
        "events": records.events,
    }
    if records.transfers is not None and case.link is not None:
        found["transfer"] = transfer_summary(requests, records.transfers, case.link)
    return found


def _by_pool(case: Case, records: RunRecords) -> list[SegmentRecords]:
    """The steps of each pool: the first replicas prefill."""
    if case.prefill is None:
        return [records.steps]
    first = records.steps.replica < case.prefill.choice.replicas
    return [records.steps.where(first), records.steps.where(~first)]


def _pool_summary(case: Case, records: RunRecords, cost: StepCost, makespan: float, tokens: int) -> dict[str, Any]:
    """What one pool is, draws and costs."""
    machine, replicas = case.machine, case.choice.replicas
    spent = usage(records, cost, machine)
    used = usage_summary(spent, machine, replicas, makespan, tokens)
    nodes = machine.parallelism.chips * replicas / machine.profile.node.chips
    return {
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "stack": machine.stack.name,
        "labels": label_counts(machine.profile, machine.stack),
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label())),
        "replicas": replicas,
        "chips": machine.parallelism.chips * replicas,
        "nodes": ceil(nodes),
        "layout": str(machine.parallelism),
        **used,
        "moved_per_output_token_b": moved_summary(
            spent, records, case.architecture, case.precision, machine, cost.swap
        ),
        **money_summary(
            case.hourly, case.terms, seconds=makespan, nodes=nodes, joules=used["energy_j"], output_tokens=tokens
        ),
        "kv_tokens": case.sheet.kv_tokens * replicas,
    }


def _warnings(case: Case, scenario: Scenario) -> list[str]:
    """What the figures leave out although the scenario asks for it, and what it asks for in vain."""
    found = []
    for pool in case.pools:
        if scenario.money and pool.hourly is None:
            found.append(no_price(pool.machine.profile, pool.terms.basis))
        placed = pool.choice.placement
        if isinstance(placed, Places):
            counts = pool.architecture.parameters_by_class()
            held = {tensor_class(name) for name, count in counts.items() if count} | {"kv", "activation"}
            for name in sorted(placed.chosen.keys() - held):
                found.append(f"placement of '{name}' changes nothing: {pool.architecture.name} has no such tensors")
    return found
