"""Made-up runs for the tests of reports: four machines, two models, one of the eight runs saturated."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from simulator.engine.records import RequestRecords, RunRecords, Samples, Segment, SegmentRecords, TokenGaps
from simulator.report import Report, RunResult

MODELS = ("llama-3.1-70b", "gpt-oss-120b")
# machine, family, stack, label, tier, milliseconds a token, replicas, peak FLOP/s, B/s, kW
MACHINES = (
    ("h100-sxm-8", "hbm-gpu", "vllm-2026", "calibrated", "hbm", 21.0, 1, 7.9e15, 26.8e12, 5.9),
    ("xeon-6980p-2s", "dram-node", "ktransformers-2025", "datasheet", "ddr", 88.0, 4, 0.4e15, 1.2e12, 1.7),
    ("tpu-v5e-16", "tpu-mesh", "maxtext-2025", "calibrated", "hbm", 34.0, 1, 3.2e15, 13.1e12, 3.4),
    ("wormhole-galaxy", "spatial", "tt-metal-2025", "estimated", "gddr", 61.0, 1, 5.2e15, 12.3e12, 6.8),
)


def records(
    rng: np.random.Generator, tpot_ms: float, replicas: int, saturated: bool, requests: int = 600, span_s: float = 120.0
) -> RunRecords:
    """Requests that arrive at random and run at `tpot_ms` a token; in a saturated run each waits longer."""
    arrival = np.sort(rng.uniform(0, span_s, requests))
    inputs = rng.lognormal(6.5, 0.9, requests).astype(int) + 1
    outputs = rng.lognormal(4.8, 0.7, requests).astype(int) + 1
    wait = 1.6 * arrival if saturated else rng.exponential(0.02, requests)
    scheduled = arrival + wait
    first = scheduled + tpot_ms * 1e-3 * (1 + inputs / 900) * rng.lognormal(0, 0.2, requests)
    finish = first + (outputs - 1) * tpot_ms * 1e-3 * rng.lognormal(0, 0.15, requests)
    replica = rng.integers(0, replicas, requests)
    requests_of = RequestRecords(arrival, scheduled, first, finish, inputs, outputs, np.zeros(requests, int), replica)
    end = float(finish.max())
    moments = np.linspace(0, end, 200)
    columns = []
    for one in range(replicas):
        mine = replica == one
        arrived, started, ended = (
            np.searchsorted(np.sort(column[mine]), moments, side="right") for column in (arrival, scheduled, finish)
        )
        columns.append((moments, np.full(200, one), arrived - started, started - ended, (started - ended) / 200))
    samples = Samples(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    starts = np.sort(np.concatenate([arrival, scheduled, finish]))
    segments = tuple(
        Segment(index % replicas, float(start), float(start) + 0.05, 2, index % 40, 512 if index % 3 == 0 else 0)
        for index, start in enumerate(starts)
    )
    gaps = TokenGaps(np.array([tpot_ms / 1e3]), np.array([int(outputs.sum())]))
    steps = steps_of(segments)
    return RunRecords(requests_of, steps, gaps, samples, segments, end, 5 * requests, replicas, 1000, 0.6, (None,))


def steps_of(segments: tuple[Segment, ...]) -> SegmentRecords:
    """The columns that the engine keeps of the same segments; the reports read no more than these of them."""
    known = {"replica", "start_s", "steps", "decoding", "prefill_tokens"}
    columns = {
        field.name: np.array([getattr(segment, field.name) if field.name in known else 0 for segment in segments])
        for field in fields(SegmentRecords)
    }
    return SegmentRecords(**columns)


def result(machine: tuple[Any, ...], model: str, rng: np.random.Generator, saturated: bool = False) -> RunResult:
    name, family, stack, label, tier, tpot, replicas, peak, bandwidth, power = machine
    sparse = model == MODELS[1]
    made = records(rng, tpot * (0.5 if sparse else 1.0), replicas, saturated)
    requests = made.requests
    tokens = int(requests.output_tokens.sum())
    latencies = {
        "ttft": 1e3 * (requests.first_token_s - requests.arrival_s),
        "tpot": 1e3 * (requests.finish_s - requests.first_token_s) / np.maximum(requests.output_tokens - 1, 1),
        "e2el": 1e3 * (requests.finish_s - requests.arrival_s),
    }
    latencies["itl"] = latencies["tpot"]
    summary: dict[str, Any] = {
        "machine": name,
        "hardware": name,
        "family": family,
        "model": model,
        "stack": stack,
        "labels": {"datasheet": 3, "estimated": 1},
        "label": label,
        "replicas": replicas,
        "chips": 8,
        "layout": "tp8",
        "precision": {"weights": "bf16", "kv": "bf16"},
        "saturated": saturated,
        "sustainable_rate": 1.87 if saturated else 9.4,
        "requests": len(requests),
        "requests_completed": len(requests),
        "makespan_s": made.end_s,
    }
    for key, values in latencies.items():
        summary[f"{key}_mean_ms"] = float(values.mean())
        summary |= {f"{key}_p{rank}_ms": float(np.quantile(values, rank / 100)) for rank in (50, 90, 99)}
    joules = power * 1e3 * made.end_s
    compute = 0.3 if sparse else 0.2
    summary |= {
        "request_throughput": len(requests) / made.end_s,
        "output_throughput": tokens / made.end_s,
        "total_token_throughput": 5.0 * tokens / made.end_s,
        "request_goodput": 4.0,
        "slo_attainment": 0.97,
        "slo": {"ttft_ms": 2000.0, "tpot_ms": 100.0, "percentile": 99},
        "mfu": 0.11,
        "mbu": 0.52,
        "utilisation": 0.98 if saturated else 0.63,
        "queue_mean": 1.2,
        "queue_max": int(made.samples.waiting.max()),
        "running_mean": 21.0,
        "kv_occupancy_mean": 0.2,
        "kv_occupancy_max": made.kv_used_max,
        "preemptions": 3,
        "average_power_w": power * 1e3,
        "moved_per_output_token_b": {tier: {"ffn": 4e8, "kv": 1e8}, "sram": {"activation": 2e7}},
        "energy_j": joules,
        "energy_per_output_token_j": joules / tokens,
        "energy_by_component_j": {
            "compute": 0.18 * joules,
            tier: 0.24 * joules,
            "network": 0.04 * joules,
            "active": 0.16 * joules,
            "idle": 0.14 * joules,
            "host": 0.15 * joules,
            "cooling": 0.09 * joules,
        },
        "energy_by_phase_j": {"prefill": 0.3 * joules, "decode": 0.55 * joules, "idle": 0.15 * joules},
        "bound_by": {"compute": compute, tier: 0.55, "network": 0.05, "overhead": 0.4 - compute},
        "steady": None
        if saturated
        else {"warmup_requests": 20, "warmup_s": 4.0, "ttft_mean_ms": 61.0, "ttft_mean_ci95_ms": 2.1},
        "events": made.events,
        "roofline": {
            "peak_flops": peak,
            "bandwidth": bandwidth,
            "points": [
                {
                    "phase": "prefill",
                    "intensity_flop_per_byte": 500.0 * (0.4 if sparse else 1),
                    "flops_per_s": 0.5 * min(peak, 500.0 * (0.4 if sparse else 1) * bandwidth),
                },
                {
                    "phase": "decode",
                    "intensity_flop_per_byte": 30.0 * (0.4 if sparse else 1),
                    "flops_per_s": 0.6 * min(peak, 30.0 * (0.4 if sparse else 1) * bandwidth),
                },
            ],
        },
        "warnings": ["KV cache in bf16 although the stack was fitted on fp8"] if family == "spatial" else [],
    }
    return RunResult(summary, made)


def eight_runs() -> Report:
    rng = np.random.default_rng(7)
    runs = tuple(
        result(machine, model, rng, saturated=machine[1] == "dram-node" and model == MODELS[0])
        for model in MODELS
        for machine in MACHINES
    )
    return Report("four-machines", 7, runs)


def one_run(**changes: Any) -> Report:
    run = result(MACHINES[0], MODELS[0], np.random.default_rng(1))
    return Report("one", 1, (RunResult(run.summary | changes, run.records),))


def nothing_completed() -> Report:
    """A run that was stopped before its first request ended: every figure is None."""
    run = one_run().runs[0]
    known = ("machine", "hardware", "family", "model", "stack", "label", "replicas", "chips", "layout", "precision")
    summary: dict[str, Any] = dict.fromkeys(run.summary) | {key: run.summary[key] for key in known}
    never = np.full(3, np.nan)
    requests = RequestRecords(
        np.array([0.0, 1.0, 2.0]),
        never,
        never,
        never,
        np.full(3, 10),
        np.full(3, 5),
        np.zeros(3, int),
        np.zeros(3, int),
    )
    none = np.empty(0)
    samples = Samples(none, none, none, none, none)
    empty = RunRecords(requests, steps_of(()), TokenGaps(none, none), samples, (), math.nan, 0, 1, 1000, 0.0, (None,))
    return Report("nothing", 1, (RunResult(summary | {"saturated": False, "requests": 3}, empty),))
