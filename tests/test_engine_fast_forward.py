"""Fast-forward leaves the same bits as stepping, ends every request once, and spends few events."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from engine_cases import MS, EngineCase, MadeUpStep, Tariff, engine_cases, requests
from hypothesis import HealthCheck, example, given, settings

from simulator.engine.batching import BatchLimits
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RequestRecords, RunRecords

EVENTS = 4
"""Most events a request, whatever its length."""

ROOMY = KvLimits(1 << 20, 16)

many = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def assert_same_run(fast: RunRecords, exact: RunRecords) -> None:
    """To the bit: every time of every request, every step, every gap, every sum."""
    for name in RequestRecords.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(fast.requests, name), getattr(exact.requests, name), name, strict=True)
    np.testing.assert_array_equal(fast.steps.step_seconds(), exact.steps.step_seconds())
    first = np.cumsum(fast.steps.steps) - fast.steps.steps
    np.testing.assert_array_equal(fast.steps.swapped_blocks, exact.steps.swapped_blocks[first])
    assert fast.steps.swapped_blocks.sum() == exact.steps.swapped_blocks.sum()
    for name in ("decoding", "prefill_tokens", "outputs", "replica"):
        expanded = np.repeat(getattr(fast.steps, name), fast.steps.steps)
        np.testing.assert_array_equal(expanded, getattr(exact.steps, name), name)
    for name in ("keys", "pairs"):
        np.testing.assert_array_equal(getattr(fast.steps, name).sum(0), getattr(exact.steps, name).sum(0), name)
    np.testing.assert_array_equal(fast.gaps.seconds, exact.gaps.seconds)
    np.testing.assert_array_equal(fast.gaps.count, exact.gaps.count)
    assert (fast.kv_used_max, fast.end_s) == (exact.kv_used_max, exact.end_s)


def tight(step: MadeUpStep) -> EngineCase:
    """Six sequences in a cache for two: preemption, again and again."""
    workload = requests([0.0, 0.0, 0.01, 0.02, 0.02, 0.5], [40, 100, 7, 90, 33, 60], [80, 60, 120, 50, 1, 90])
    return EngineCase(workload, step, BatchLimits(8, 64), KvLimits(45, 4, 1), {})


def in_step() -> EngineCase:
    """Two replicas begin alike, and keep step: the user of the second asks the first at the end of one of its steps."""
    workload = requests(0.0, [10, 10, 10], [50, 5, 5], 2)
    return EngineCase(workload, MadeUpStep(), BatchLimits(8, 64), ROOMY, {"replicas": 2, "router": "round_robin"})


@many
@given(engine_cases())
@example(in_step())
@example(tight(MadeUpStep()))
@example(tight(MadeUpStep((None, 16), (Tariff(4 * MS, MS // 100), Tariff(3 * MS, 0, 0, MS // 300)))))
def test_fast_forward_is_stepping_to_the_bit(case: EngineCase) -> None:
    assert_same_run(case.run(), case.run(exact=True))


def test_the_tight_example_does_preempt() -> None:
    assert tight(MadeUpStep()).run().requests.preemptions.sum() > 3


@many
@given(engine_cases())
def test_every_request_ends_once_and_no_token_is_lost(case: EngineCase) -> None:
    records = case.run()
    done, steps = records.requests, records.steps
    assert done.completed.all()
    assert np.all(done.arrival_s <= done.scheduled_s)
    assert np.all(done.scheduled_s < done.first_token_s)
    assert np.all(done.first_token_s <= done.finish_s)
    assert np.array_equal(done.first_token_s == done.finish_s, done.output_tokens == 1)
    assert (steps.outputs * steps.steps).sum() == done.output_tokens.sum()
    found = case.workload.cached_tokens
    prefilled = (steps.prefill_tokens * steps.steps).sum()
    prompts = done.input_tokens.sum() - (0 if found is None else found.sum())
    assert prefilled >= prompts
    if not done.preemptions.any():
        assert prefilled == prompts
        assert records.gaps.count.sum() == (done.output_tokens - 1).sum()
        # Little's law of the decoders, from two sides: steps seen by sequences, and sequences seen by steps.
        in_decode = (done.finish_s - done.first_token_s).sum()
        assert np.dot(records.gaps.seconds, records.gaps.count) == pytest.approx(in_decode, rel=1e-9, abs=1e-9)
    assert 0 < records.kv_used_max <= 1
    limit = case.batch.max_num_batched_tokens
    assert np.all(steps.decoding + steps.prefill_tokens <= np.maximum(limit, steps.decoding))
    assert np.all(steps.decoding <= case.batch.max_num_seqs)
    assert np.all(np.diff(steps.replica) >= 0)
    for replica in range(records.replicas):
        mine = steps.replica == replica
        assert np.all(steps.start_s[mine][1:] >= steps.end_s[mine][:-1] * (1 - 1e-12))


@pytest.mark.parametrize("output", [2, 100, 100_000])
def test_a_lone_request_costs_the_same_few_events_whatever_its_length(output: int) -> None:
    run = EngineCase(requests(3.0, 900, output), MadeUpStep(), BatchLimits(8, 512), ROOMY).run()
    assert run.events <= EVENTS
    assert run.steps.steps.sum() == output + 1  # two chunks, then one token a step
    assert run.requests.first_token_s[0] > 3.0
    assert run.steps.end_s[-1] == pytest.approx(run.end_s, rel=1e-12)


def test_a_segment_may_last_for_hours() -> None:
    """2**63 ticks are 8,192 s: durations of segments do not overflow."""
    run = EngineCase(requests(0.0, 10, 1_000_000), MadeUpStep(), BatchLimits(8, 512), ROOMY).run()
    assert run.end_s > 8192
    assert run.steps.end_s[-1] == pytest.approx(run.end_s, rel=1e-12)
    assert np.dot(run.gaps.seconds, run.gaps.count) == pytest.approx(run.end_s, rel=1e-6)


@pytest.mark.parametrize("replicas", [1, 4])
@pytest.mark.parametrize(
    ("mean_gap_s", "prompt", "output", "seats", "tokens"),
    [
        pytest.param(30.0, 200, 300, 64, 2048, id="low load"),
        pytest.param(0.05, 200, 300, 64, 2048, id="high load"),
        pytest.param(0.001, 200, 300, 16, 2048, id="overload"),
        pytest.param(60.0, 20_000, 300, 64, 2048, id="long chunked prompts, low load"),
        pytest.param(3.0, 20_000, 300, 64, 2048, id="long chunked prompts"),
        pytest.param(0.3, 20_000, 300, 64, 2048, id="long chunked prompts, overload"),
        pytest.param(0.2, 3_000, 20_000, 256, 512, id="long answers"),
    ],
)
def test_at_most_four_events_a_request(
    mean_gap_s: float, prompt: int, output: int, seats: int, tokens: int, replicas: int
) -> None:
    rng = np.random.default_rng(5)
    count = 400
    workload = requests(
        np.cumsum(rng.exponential(mean_gap_s / replicas, count)),
        rng.integers(1, 2 * prompt, count),
        rng.integers(1, 2 * output, count),
    )
    run = EngineCase(workload, MadeUpStep(), BatchLimits(seats, tokens), ROOMY, {"replicas": replicas}).run()
    assert run.requests.completed.all()
    assert run.events <= EVENTS * count


@many
@given(engine_cases())
def test_events_are_bounded_with_preemption_and_windows_too(case: EngineCase) -> None:
    """A preempted sequence counts as one more request; each finite window fills once a sequence, and once a prompt; a
    request that is seen late takes one more event and its prompt another; one that waits for a look one."""
    run = case.run()
    joined = len(run.requests) + int(run.requests.preemptions.sum())
    bends = 2 * sum(window is not None for window in case.step.windows)
    late = (case.batch.admission_delay > 0) + (case.batch.tokenization > 0)
    later = 2 * late + (case.batch.admission_interval > 1)
    assert run.events <= (EVENTS + bends + later) * joined


@settings(max_examples=30, deadline=None, derandomize=True)
@given(engine_cases())
def test_the_same_inputs_give_the_same_bytes(case: EngineCase) -> None:
    assert pickle.dumps(case.run()) == pickle.dumps(case.run())
