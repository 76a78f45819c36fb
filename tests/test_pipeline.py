"""Pipelines as events against the closed forms of uniform stages."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simulator.cost.training.step import uniform_pipeline
from simulator.engine.pipeline import StageWork, step
from simulator.engine.schedules import check_schedule

WORK = StageWork(1.0, 2.0)


@pytest.mark.parametrize(("pp", "micro_batches"), [(1, 3), (2, 2), (4, 16), (8, 9), (16, 16)])
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_uniform_stages_take_m_plus_p_minus_one(schedule: str, pp: int, micro_batches: int) -> None:
    record = step(schedule, [WORK] * pp, micro_batches, 1, 0.0, 0.0)
    assert record.seconds == pytest.approx(3.0 * (micro_batches + pp - 1))
    assert record.bubble == pytest.approx((pp - 1) / (micro_batches + pp - 1))


@pytest.mark.parametrize(("pp", "micro_batches", "chunks"), [(4, 16, 2), (4, 16, 4), (8, 64, 3), (16, 16, 7)])
def test_interleaving_divides_the_bubble(pp: int, micro_batches: int, chunks: int) -> None:
    """Narayanan et al. 2021: bubble (p - 1)/v of a micro-batch's time."""
    record = step("interleaved", [WORK] * pp, micro_batches, chunks, 0.0, 0.0)
    assert record.seconds == pytest.approx(3.0 * (micro_batches + (pp - 1) / chunks))
    assert record.seconds == pytest.approx(uniform_pipeline(np.full(pp, 3.0), micro_batches, chunks, 0.0, 0.0))


def test_better_schedules_leave_smaller_bubbles() -> None:
    split = StageWork(1.0, 1.0, 1.0)
    ordered = step("1f1b", [WORK] * 8, 32, 1, 0.0, 0.0)
    zero = step("zero_bubble", [split] * 8, 32, 1, 0.0, 0.0)
    both = step("dualpipe", [split] * 8, 32, 1, 0.0, 0.0)
    assert both.seconds < zero.seconds < ordered.seconds
    assert sum(both.busy_s) == pytest.approx(sum(zero.busy_s)) == pytest.approx(sum(ordered.busy_s))


def test_the_slowest_stage_sets_the_pace() -> None:
    stages = [WORK, StageWork(1.5, 3.0), WORK, WORK]
    short, long = (step("1f1b", stages, count, 1, 0.0, 0.0).seconds for count in (16, 32))
    assert long - short == pytest.approx(16 * 4.5)


def test_a_message_costs_its_way_through_the_pipeline() -> None:
    plain = step("1f1b", [WORK] * 4, 4, 1, 0.0, 0.0).seconds
    assert step("1f1b", [WORK] * 4, 4, 1, 0.1, 0.0).seconds == pytest.approx(plain + 2 * 3 * 0.1, rel=0.03)


def test_every_pass_runs_once_and_no_stage_does_two_things() -> None:
    record = step("dualpipe", [StageWork(1.0, 1.2, 0.7)] * 4, 8, 1, 0.05, 0.0)
    assert len({(s.stage, s.task) for s in record.slices}) == len(record.slices) == 4 * 8 * 3
    for stage in range(4):
        own = sorted((s.start_s, s.end_s) for s in record.slices if s.stage == stage)
        assert all(end <= start for (_, end), (start, _) in pairwise(own))


@pytest.mark.parametrize("chunks", [1, 4])
def test_the_closed_form_is_close_for_unequal_stages(chunks: int) -> None:
    """A first stage with the embedding and a last one with the head, as runs have: `validate` uses the closed form."""
    stages = [WORK, *[StageWork(1.0, 1.9)] * 6, StageWork(1.06, 2.1)]
    schedule = "interleaved" if chunks > 1 else "1f1b"
    events = step(schedule, stages, 32, chunks, 0.01, 0.002)
    closed = uniform_pipeline(np.array([s.forward + s.backward for s in stages]), 32, chunks, 0.01, 0.2)
    assert events.seconds == pytest.approx(closed, rel=0.03)


def test_schedules_that_cannot_run() -> None:
    assert "no multiple of pp" in check_schedule("interleaved", 4, 6, 2)[0].what
    assert "no chunks" in check_schedule("1f1b", 4, 8, 2)[0].what
    assert "both ends" in check_schedule("dualpipe", 4, 6, 1)[0].what
    assert "no whole number" in check_schedule("1f1b", 4, 6.5, 1)[0].what
