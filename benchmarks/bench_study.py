"""How long studies take: closed forms, points by events, and a plan over thousands of candidates.

Run with `pytest benchmarks/bench_study.py`. Targets: 10,000 points in closed form a second and core, 200 points of ten
minutes of traffic by events a minute on two cores, 2,000 candidates for the Azure conversation traffic in two minutes.
CPU time of one process counts; nothing here fails for being slow.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.study.plan import plan
from simulator.study.sweep import sweep

pytestmark = pytest.mark.benchmark(timer=time.process_time)
CORES = 2

CHAT = """
model: llama-3.1-70b
machines: [{hardware: h100-sxm-8}, {hardware: xeon-6980p-2s}]
traffic: {request_rate: 1 /s, isl: 512, osl: 128, requests: 100}
"""
MINUTES = """
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}]
traffic: {request_rate: 2 /s, isl: {lognormal: [512, 0.8]}, osl: {lognormal: [128, 0.8]}, duration: 600 s}
"""
CONVERSATION = """
model: llama-3.1-70b
machines: [{hardware: h100-sxm-8}]
traffic: {trace: azure-conv-2023}
slo: {ttft: 2 s, tpot: 100 ms, percentile: 90}
"""


def test_closed_forms(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """20,000 steady states over the rate and the length of requests, on two machines: 2 s of one core."""
    (tmp_path / "chat.yaml").write_text(CHAT)
    axes = {
        "traffic.request_rate": {"log": ["0.01 /s", "10 /s"], "points": 100},
        "traffic.isl": {"log": [64, 4096], "points": 100},
    }
    study = {"scenario": str(tmp_path / "chat.yaml"), "evaluate": "steady", "axes": axes}
    found = benchmark.pedantic(lambda: sweep(study, tmp_path / "out"), rounds=3, warmup_rounds=1)
    assert len(found.table) == 20_000
    assert found.failed.empty
    benchmark.extra_info["points_per_s"] = 20_000 / benchmark.stats.stats.min


def test_points_by_events(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """20 points of ten minutes of chat at 1 to 20 requests a second: 12 s of one core."""
    (tmp_path / "chat.yaml").write_text(MINUTES)
    axes = {"traffic.request_rate": {"range": ["1 /s", "20 /s"], "points": 20}}
    study = {"scenario": str(tmp_path / "chat.yaml"), "axes": axes}
    rounds = iter(range(9))
    found = benchmark.pedantic(lambda: sweep(study, tmp_path / f"out{next(rounds)}"), rounds=2)
    assert found.computed == 20
    assert found.failed.empty
    benchmark.extra_info["points_per_minute_on_two_cores"] = CORES * 60 * 20 / benchmark.stats.stats.min


def test_a_plan_over_thousands(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Every machine, layout and batch limit for the Azure conversation traffic: 240 s of one core."""
    (tmp_path / "chat.yaml").write_text(CONVERSATION)
    study = {
        "scenario": str(tmp_path / "chat.yaml"),
        "precision": [{"weights": "bf16"}, {"weights": "fp8"}, {"weights": "int4"}],
        "max_num_seqs": [32, 128, 512],
    }
    found = benchmark.pedantic(lambda: plan(study, tmp_path / "out"), rounds=1)
    assert found.tried >= 2_000
    assert found.fleets
    benchmark.extra_info["candidates"] = found.tried
