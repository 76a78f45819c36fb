"""How long training runs take: a step in events, the search of a layout, a long run with its failures.

Run with `pytest benchmarks`; plain `pytest` leaves it out. Look at the median of CPU time on a quiet machine. Targets:
0.2 s for one step of 16,384 chips, 30 s for the best of all layouts of 1,024 chips, 1 s for 54 days with 400 failures.
Nothing here fails for being slow; it fails when a step takes more passes, or the search looks at other layouts.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.api import load
from simulator.cost.training.step import step_time
from simulator.engine.failures import FailureKind, LongRunPlan, long_run
from simulator.scenario import TrainingScenario
from simulator.train import prepare
from simulator.train.case import TrainingCase
from simulator.train.step import step_events

pytestmark = pytest.mark.benchmark(timer=time.process_time, min_rounds=5, warmup=True, warmup_iterations=1)

SCENARIOS = Path(__file__).parent.parent / "scenarios"
DAY = 86_400.0
SEARCHED = """\
task: train
model: gpt3-175b
machines: [{hardware: h100-sxm-8, chips: 1024}]
batch: {global_batch: 1536, sequence_length: 2048}
tokens: 3e11
"""


def cases(path: Path) -> list[TrainingCase]:
    loaded = load(path)
    assert isinstance(loaded.scenario, TrainingScenario)
    return prepare(loaded.scenario, loaded.source)


def test_one_step_of_16384_chips(benchmark: BenchmarkFixture) -> None:
    """Llama-3 405B, tp 8, pp 16 in 8 chunks, 128 replicas, costs and events: 0.2 s."""
    (case,) = cases(SCENARIOS / "llama3-405b-16k.yaml")
    parts = case.architecture, case.recipe, case.layout, case.machine
    record = benchmark(lambda: step_events(step_time(*parts), *parts, case.schedule))
    assert case.machine.chips == 16_384
    assert len(record.slices) == 16 * 8 * 16 * 2


def test_the_best_layout_of_1024_chips(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """GPT-3 175B on H100, micro-batches and recomputation free too: 30 s."""
    path = tmp_path / "auto.yaml"
    path.write_text(SEARCHED)
    (case,) = benchmark.pedantic(lambda: cases(path), rounds=1)
    assert case.tried > 200


def test_54_days_with_400_failures(benchmark: BenchmarkFixture) -> None:
    """One history; a scenario draws 32: 1 s."""
    kinds = {"any": FailureKind(54 * DAY / 419)}
    plan = LongRunPlan(50 * DAY, 1800.0, 5.0, 4.0, kinds, detection=180.0, restart=420.0)
    history = benchmark(lambda: long_run(plan, seed=7))
    assert 300 < sum(history.interruptions.values()) < 500
