"""How long a run takes, from the trace file to its figures.

Run with `pytest benchmarks`; plain `pytest` leaves it out. Look at the median of CPU time on a quiet machine. Targets:
2 s for each hour of a trace, 0.5 s for ten thousand requests, 45 s and 1 GB for a million, 0.3 s for `--help`. Nothing
here fails for being slow, since that depends on what else the machine does; it fails when a request costs more events.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import h100, run
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.engine.records import RunRecords
from simulator.engine.traces import from_trace
from simulator.engine.traffic import fixed, open_loop, poisson

TRACES = Path(__file__).parent.parent / "scenarios" / "traces"
SEED = 0
HELP = "import sys; sys.argv = ['ramwise', '--help']; from simulator.cli import main; main()"

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=5, warmup=True, warmup_iterations=1)


def check(records: RunRecords, requests: int) -> None:
    """Everything ran, within the budget of events."""
    assert len(records.requests) == requests
    assert records.requests.completed.all()
    assert records.events <= 4 * requests


def test_azure_conversation_hour(benchmark: BenchmarkFixture) -> None:
    """19,366 requests on one 8 x H100 replica: 2 s."""
    node = h100("llama-3.1-70b", 8)
    records, _ = benchmark(lambda: run(from_trace(TRACES / "azure-conv-2023.csv"), node))
    check(records, 19_366)


def test_mooncake_conversation_hour(benchmark: BenchmarkFixture) -> None:
    """12,031 requests of long prompts on one 8 x H100 replica: 2 s."""
    node = h100("llama-3.1-70b", 8)
    records, _ = benchmark(lambda: run(from_trace(TRACES / "mooncake-conversation-2025.jsonl"), node))
    check(records, 12_031)


def test_ten_thousand_requests(benchmark: BenchmarkFixture) -> None:
    """8 per second, 512 tokens in, 256 out, Llama-2-70B TP4 on 4 replicas: 0.5 s."""
    count, node = 10_000, h100("llama-2-70b", 4)
    workload = open_loop(
        poisson(8.0, np.random.default_rng(SEED), requests=count), fixed(512, count), fixed(256, count)
    )
    records, _ = benchmark(lambda: run(workload, node, replicas=4))
    check(records, count)


def test_a_million_requests(benchmark: BenchmarkFixture) -> None:
    """40 per second, 512 tokens in, 200 out, on 8 replicas: 45 s and 1 GB."""
    count, node = 1_000_000, h100("llama-2-70b", 4)
    workload = open_loop(
        poisson(40.0, np.random.default_rng(SEED), requests=count), fixed(512, count), fixed(200, count)
    )
    records, _ = benchmark.pedantic(lambda: run(workload, node, replicas=8), rounds=1)
    check(records, count)
    benchmark.extra_info["peak_rss_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


@pytest.mark.benchmark(timer=time.perf_counter)
def test_help(benchmark: BenchmarkFixture) -> None:
    """`ramwise --help`: 0.3 s."""
    done = benchmark(lambda: subprocess.run([sys.executable, "-c", HELP], check=False, capture_output=True))
    assert done.returncode == 0
