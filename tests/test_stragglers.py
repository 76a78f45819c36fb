"""Chips of different speed: drawn machines against closed forms, and the events of the slowest replica."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.api import load, run
from simulator.engine.pipeline import StageWork, step
from simulator.engine.stragglers import Speeds, expected_slowest, stragglers
from simulator.errors import ScenarioError

SCENARIO = """\
task: train
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, chips: 64, stack: megatron-2024, parallelism: {tp: 2, pp: 4}}]
batch: {global_batch: 128, micro_batch: 1, sequence_length: 4096}
recompute: none
steps: 1000
"""


def longest(times: np.ndarray) -> np.ndarray:
    return np.asarray(times.max(axis=-1))


@pytest.mark.parametrize("chips", [8, 512, 8192])
def test_drawn_machines_have_the_expected_slowest_chip(chips: int) -> None:
    """A pipeline as slow as its slowest stage, however the chips are laid out: the largest of n normal times."""
    for shape in ((chips, 1, 1), (chips // 8, 2, 4)):
        found = stragglers(Speeds(0.02), *shape, longest, seed=1, draws=400)
        assert found.slowdown - 1.0 == pytest.approx(expected_slowest(0.02, chips) - 1.0, rel=0.03)
        assert found.middle[0] < found.slowdown < found.middle[1]
        assert found.middle[0] <= found.ratio <= found.middle[1]


def test_one_slow_chip_in_many_is_in_a_machine_with_the_chance_of_any() -> None:
    """1 - (1 - q)^n of all machines have one."""
    found = stragglers(Speeds(0.0, 0.002, 1.1), 64, 4, 2, longest, seed=3, draws=2000)
    assert found.slowdown - 1.0 == pytest.approx(0.1 * (1.0 - (1.0 - 0.002) ** 512), rel=0.05)
    assert max(found.stages) == pytest.approx(1.1)


def test_events_of_the_slowest_replica_agree_with_the_draws() -> None:
    """Many micro-batches go at the pace of the slowest stage, wherever in the pipeline it is."""
    work = StageWork(1.0, 2.0)

    def seconds(times: np.ndarray) -> np.ndarray:
        return np.asarray(64 * 3.0 * times.max(axis=-1) + 3.0 * (times.sum(axis=-1) - times.max(axis=-1)))

    found = stragglers(Speeds(0.03), 16, 4, 8, seconds, seed=5)
    slow = [replace(work, forward=t * work.forward, backward=t * work.backward) for t in found.stages]
    plain = step("1f1b", [work] * 4, 64, 1, 0.0, 0.0)
    events = step("1f1b", slow, 64, 1, 0.0, 0.0)
    assert events.seconds / plain.seconds == pytest.approx(found.ratio, rel=2e-3)
    assert found.ratio == pytest.approx(found.slowdown, rel=0.01)


@given(st.floats(0.0, 0.1), st.integers(1, 64), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_more_chips_and_more_spread_are_never_faster(deviation: float, replicas: int, pp: int) -> None:
    here = stragglers(Speeds(deviation), replicas, pp, 4, longest, seed=0, draws=8)
    wider = stragglers(Speeds(2 * deviation), replicas, pp, 4, longest, seed=0, draws=8)
    assert wider.slowdown >= here.slowdown - 1e-12
    assert expected_slowest(deviation, 8 * replicas) >= expected_slowest(deviation, replicas)


def test_a_run_waits_for_its_slowest_replica(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SCENARIO)
    alike, normal, few = (
        run(load(path, *changes)).runs[0].summary
        for changes in (
            (),
            ("stragglers=0.02",),
            ("stragglers={deviation: 0.001, slow: 0.05, slowdown: 1.2}",),
        )
    )
    assert alike["stragglers"] is None
    for slow, expected in ((normal, expected_slowest(0.02, 64)), (few, 1.2)):
        longer = slow["step_s"] / alike["step_s"]  # the pipeline; its bubble grows less, and stages were not equal
        assert 1.0 + 0.7 * (expected - 1.0) < longer < expected
        low, high = slow["stragglers"]["slowdown_p5_p95"]
        assert 0.99 * low < longer < 1.01 * high
        assert low < slow["stragglers"]["slowdown"] < high
        assert sum(slow["step_by_part_s"].values()) == pytest.approx(slow["step_s"])
        assert slow["step_by_part_s"]["stragglers"] > 0.0
    curve, plain = ([point["step_s"] for point in summary["scaling"]] for summary in (normal, alike))
    losses = [slow / fast for slow, fast in zip(curve, plain, strict=True)]
    assert 1.0 < losses[0] < losses[-1]  # more chips wait for a slower one


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{slow: 0.01}", "write {slow: 0.005, slowdown: 1.1}"),
        ("{slow: 0.01, slowdown: 0.9}", "a slowdown of 0.9 is faster"),
        ("{deviaton: 0.01}", "deviation"),
        ("-0.1", "stragglers"),
    ],
)
def test_mistakes(tmp_path: Path, value: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SCENARIO)
    with pytest.raises(ScenarioError, match=message):
        load(path, f"stragglers={value}")
