"""What a run of samples or points comes to."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from simulator.cost.layer_groups import run_seconds
from simulator.engine.depth import Path as DepthPath
from simulator.engine.depth import simulate_depth
from simulator.engine.records import RunRecords
from simulator.metrics.depth import depth_usage
from simulator.metrics.steady import saturation
from simulator.metrics.usage import usage, usage_summary
from simulator.model.samples import SolverModel
from simulator.provenance import label_counts, weakest
from simulator.samples.case import Exits, SampleCase
from simulator.scenario.samples import Decode, SampleScenario

EVENT_TOKENS = 20_000
"""Tokens of a run of events: throughputs to about one per cent."""


def summary(case: SampleCase, scenario: SampleScenario, records: RunRecords) -> dict[str, Any]:
    requests, machine, replicas = records.requests, case.machine, case.choice.replicas
    queried = not isinstance(case.model, SolverModel | Decode)
    samples = int((requests.input_tokens if queried else requests.output_tokens).sum()) * case.units
    makespan = float(requests.finish_s.max() - requests.arrival_s.min())
    latency = 1e3 * (requests.finish_s - requests.arrival_s)
    spent = usage_summary(usage(records, case.cost, machine), machine, replicas, makespan, samples)
    verdict = saturation(requests) if queried and scenario.traffic.request_rate is not None else None
    steps = int(records.steps.steps.sum())
    return {
        "machine": case.choice.name or machine.profile.name,
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "model": case.title,
        "kind": case.model.kind,
        "unit": case.unit,
        "batch": case.batch,
        "stack": machine.stack.name,
        "labels": label_counts(machine.profile, machine.stack),
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label(), "estimated")),
        "replicas": replicas,
        "chips": machine.parallelism.chips * replicas,
        "nodes": ceil(machine.parallelism.chips * replicas / machine.profile.node.chips),
        "layout": str(machine.parallelism),
        "samples": samples,
        "makespan_s": makespan,
        "samples_per_s": samples / makespan,
        "step_ms": 1e3 * makespan * replicas / steps,
        "steps": steps,
        "query_p50_ms": float(np.percentile(latency, 50)) if queried else None,
        "query_p99_ms": float(np.percentile(latency, 99)) if queried else None,
        "saturated": bool(verdict and verdict.saturated),
        **_spent(spent, samples),
        "warnings": list(case.warnings),
    }


def as_events(case: SampleCase, exits: Exits, seed: int) -> dict[str, Any]:
    """What tokens of different depth make of the case's figures."""
    batch, machine, replicas = case.batch or 1, case.machine, case.choice.replicas
    found = simulate_depth(
        [DepthPath(share, way) for share, way in exits.paths.ways],
        [np.asarray(run_seconds(table, machine)).tolist() for table in exits.amounts],
        policy=exits.policy,
        sequences=exits.in_flight,
        batch=batch,
        tokens=max(EVENT_TOKENS, 20 * exits.in_flight),
        stages=exits.stages,
        seed=seed,
    )
    copies = len(exits.stages) if exits.policy == "pipeline" else 1
    rate, tokens = found.tokens_per_second * replicas, found.emitted * replicas
    spent = usage_summary(
        depth_usage(found.runs, exits.amounts, machine, replicas), machine, replicas * copies, found.elapsed_s, tokens
    )
    return {
        "chips": machine.parallelism.chips * replicas * copies,
        "samples": tokens,
        "makespan_s": found.elapsed_s,
        "samples_per_s": rate,
        "step_ms": 1e3 * batch * replicas / rate,
        "groups_busy": list(found.busy),
        "groups_batch_mean": list(found.batch),
        "stages_busy": [sum(found.busy[node] for node in stage) for stage in exits.stages],
        **_spent(spent, tokens),
    }


def _spent(spent: dict[str, Any], samples: int) -> dict[str, Any]:
    """What a run drew, and what bounds it."""
    return {
        "samples_per_joule": samples / spent["energy_j"] if spent["energy_j"] else None,
        "energy_per_sample_j": spent["energy_per_output_token_j"],
        **{key: spent[key] for key in ("mfu", "mbu", "utilisation", "average_power_w", "energy_j")},
        "energy_by_component_j": spent["energy_by_component_j"],
        "bound_by": spent["bound_by"],
    }
