"""Prefill and decode in pools of their own: the same bits as stepping, limits that are known, laws that hold."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from engine_cases import MS, EngineCase, MadeUpStep, Tariff, constant_step, engine_cases, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine_fast_forward import assert_same_run

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.disaggregated import Pool, simulate_pools
from simulator.engine.gaps import token_gaps
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import LinkLimits
from simulator.engine.records import RunRecords, TransferRecords
from simulator.engine.traffic import Workload
from simulator.metrics.steady import littles_law

EVENTS = 14
"""Most events a request: four in either pool, those of two transfers and their latencies, two for the ways between."""

STEP_S = 0.01

FAST = LinkLimits(1e30, 1e30, 0.0, 1.0)
ROOMY = KvLimits(1 << 20, 16)

many = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class PoolCase:
    """Arguments of one run."""

    workload: Workload
    prefill: Pool
    decode: Pool
    link: LinkLimits = FAST
    router: str = "least_outstanding"

    def run(self, **more: Any) -> RunRecords:
        """Simulate it."""
        return simulate_pools(self.workload, self.prefill, self.decode, self.link, router=self.router, **more)


def transfers(run: RunRecords) -> TransferRecords:
    """They are there."""
    assert run.transfers is not None
    return run.transfers


@st.composite
def pool_cases(draw: st.DrawFn) -> PoolCase:
    """Small traces over two pools: tiny caches on either side, links from very slow to very fast, closed loops."""
    first = draw(engine_cases())
    longest = int((first.workload.input_tokens + first.workload.output_tokens).max())
    size = draw(st.sampled_from([1, 4, 16]))
    need = -(-longest // size) + 1
    room = need + draw(st.integers(0, need) | st.integers(0, 8 * need))
    rate = draw(st.sampled_from([1e2, 1e4, 1e30]))
    return PoolCase(
        first.workload,
        Pool(first.step, first.batch, first.kv, draw(st.integers(1, 3))),
        Pool(
            replace(first.step, tariffs=draw(st.sampled_from([MadeUpStep().tariffs, first.step.tariffs]))),
            BatchLimits(
                draw(st.sampled_from([1, 3, 16])),
                draw(st.sampled_from([16, 64, 512])),
                draw(st.booleans()),
                draw(st.sampled_from([1, 1, 3])),
                draw(st.sampled_from([1, 2])),
                draw(st.sampled_from([0.0, 0.0, 0.7])),
                draw(st.booleans()),
            ),
            KvLimits(room, size, 1, draw(st.sampled_from([0, need, 9 * need]))),
            draw(st.integers(1, 3)),
        ),
        LinkLimits(
            rate,
            draw(st.sampled_from([1e3, 1e30])),
            draw(st.sampled_from([0.0, 0.003])),
            1.0,
            5.0,
            draw(st.sampled_from([0, 1, 4])),
        ),
        draw(st.sampled_from(["round_robin", "least_outstanding"])),
    )


@many
@given(pool_cases())
def test_fast_forward_is_stepping_to_the_bit(case: PoolCase) -> None:
    fast, exact = case.run(), case.run(exact=True)
    assert_same_run(fast, exact)
    for name in TransferRecords.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(fast.transfers, name), getattr(exact.transfers, name), name)


@many
@given(pool_cases())
def test_every_request_ends_once_and_no_token_or_byte_is_lost(case: PoolCase) -> None:
    run = case.run()
    done, moved, steps = run.requests, transfers(run), run.steps
    several = done.output_tokens > 1
    assert done.completed.all()
    assert np.all(done.arrival_s <= done.scheduled_s)
    assert np.all(done.scheduled_s < moved.prefilled_s)
    if case.link.layers:
        assert np.array_equal(moved.sent_s[several], done.scheduled_s[several])
    else:
        assert np.all(moved.prefilled_s[several] <= moved.sent_s[several])
    # A tick may be lost in seconds.
    assert np.all(np.maximum(moved.prefilled_s, moved.sent_s)[several] <= moved.arrived_s[several])
    assert np.array_equal(done.first_token_s, np.where(several, moved.arrived_s, moved.prefilled_s))
    assert np.array_equal(done.first_token_s == done.finish_s, ~several)
    assert (steps.outputs * steps.steps).sum() == done.output_tokens.sum()
    first = steps.replica < moved.replicas
    found = case.workload.cached_tokens
    prompts = done.input_tokens.sum() - (0 if found is None else found.sum())
    assert (steps.prefill_tokens * steps.steps)[first].sum() == prompts
    assert not steps.decoding[first].any()
    assert np.all(done.replica[several] >= moved.replicas)
    number, rate_times_stay = littles_law(done) if run.end_s > done.arrival_s.min() else (0.0, 0.0)
    assert number == pytest.approx(rate_times_stay, rel=1e-9)
    if not done.preemptions.any():
        assert not steps.prefill_tokens[~first].any()
        assert run.gaps.count.sum() == (done.output_tokens - 1).sum()
        # Time in decode from two sides: what steps saw of sequences, and what these saw of steps and of waiting.
        in_decode = (done.finish_s - done.first_token_s).sum()
        assert np.dot(run.gaps.seconds, run.gaps.count) == pytest.approx(in_decode, rel=1e-9, abs=1e-9)
    bends = 2 * sum(window is not None for window in case.decode.step.windows)
    shared = 4 * int(several.sum()) ** 2  # each that begins or ends anew times those beside it
    assert run.events <= (EVENTS + bends) * (len(done) + int(done.preemptions.sum())) + shared


@settings(max_examples=50, deadline=None, derandomize=True)
@given(engine_cases(), st.integers(1, 3000), st.integers(2, 300))
def test_a_lone_request_with_an_instant_link_is_served_as_by_one_machine(
    case: EngineCase, prompt: int, output: int
) -> None:
    workload, batch = requests(0.25, prompt, output), replace(case.batch, tokenization=0.0)  # of one machine alone
    one = EngineCase(workload, case.step, batch, ROOMY).run().requests
    two = PoolCase(workload, Pool(case.step, batch, ROOMY), Pool(case.step, batch, ROOMY)).run().requests
    tick = 2 * SECONDS_PER_TICK
    assert two.first_token_s[0] - one.first_token_s[0] == pytest.approx(tick, abs=tick)
    assert two.finish_s[0] - one.finish_s[0] == pytest.approx(tick, abs=tick)


def test_a_lone_cache_takes_its_bytes_and_the_latency() -> None:
    link = LinkLimits(2e6, 1e6, 0.25, 1e3, 5e5)
    pool = Pool(constant_step(STEP_S), BatchLimits(8, 512), ROOMY)
    run = PoolCase(requests(1.0, 500, 11), pool, pool, link).run()
    moved = transfers(run)
    assert moved.arrived_s[0] - moved.sent_s[0] == pytest.approx(0.25 + (5e5 + 500 * 1e3) / 1e6)
    assert moved.arrived_s[0] - moved.sent_s[0] == pytest.approx(link.seconds(500))
    assert run.requests.first_token_s[0] == moved.arrived_s[0]
    assert run.requests.finish_s[0] - moved.arrived_s[0] == pytest.approx(10 * STEP_S)


@pytest.mark.parametrize(
    ("send", "receive", "senders", "receivers", "wanted"),
    [
        pytest.param(1e30, 1e6, 2, 1, 2.0, id="two into one"),
        pytest.param(1e6, 1e30, 1, 2, 2.0, id="one into two"),
        pytest.param(1e6, 1e6, 2, 2, 1.0, id="each its own way"),
    ],
)
def test_ends_share_their_rate(send: float, receive: float, senders: int, receivers: int, wanted: float) -> None:
    """Two caches of a megabyte at once, at a megabyte a second."""
    pool = Pool(constant_step(STEP_S), BatchLimits(8, 4096), ROOMY)
    case = PoolCase(
        requests([0.0, 0.0], 1000, 5),
        replace(pool, replicas=senders),
        replace(pool, replicas=receivers),
        LinkLimits(send, receive, 0.0, 1e3),
        "round_robin",
    )
    moved = transfers(case.run())
    np.testing.assert_allclose(moved.arrived_s - moved.sent_s, wanted, rtol=1e-9)


def test_tokens_found_in_the_cache_of_a_prefill_replica_are_moved_and_not_computed() -> None:
    pool = Pool(constant_step(STEP_S), BatchLimits(8, 100), ROOMY)
    run = PoolCase(requests(0.0, [500], 11, cached=np.array([350])), pool, pool, LinkLimits(1e3, 1e3, 0.0, 1.0)).run()
    moved = transfers(run)
    assert moved.prefilled_s[0] == pytest.approx(2 * STEP_S)
    assert moved.arrived_s[0] - moved.sent_s[0] == pytest.approx(0.5)


def test_a_prompt_waits_for_the_blocks_of_one_that_is_not_fetched_yet() -> None:
    """The prefill cache holds one prompt, the link takes a second: the next prompt begins then."""
    one_prompt = KvLimits(10, 10)
    case = PoolCase(
        requests([0.0, 0.0, 0.0], 100, 2),
        Pool(constant_step(STEP_S), BatchLimits(8, 512), one_prompt),
        Pool(constant_step(STEP_S), BatchLimits(8, 512), ROOMY),
        LinkLimits(100.0, 100.0, 0.0, 1.0),
    )
    run = case.run()
    np.testing.assert_allclose(run.requests.scheduled_s, [0.0, 1.0 + STEP_S, 2 * (1.0 + STEP_S)], rtol=1e-9)


def test_a_cache_moves_when_the_decode_replica_has_blocks_for_it() -> None:
    """Room for one request: the second is fetched when the first is done."""
    case = PoolCase(
        requests([0.0, 0.0], 100, 21),
        Pool(constant_step(STEP_S), BatchLimits(8, 512), ROOMY),
        Pool(constant_step(STEP_S), BatchLimits(8, 512), KvLimits(15, 10)),
    )
    run = case.run()
    np.testing.assert_allclose(transfers(run).sent_s, [STEP_S, STEP_S + 20 * STEP_S], rtol=1e-9)
    assert not run.requests.preemptions.any()


def test_a_saturated_link_carries_what_it_can() -> None:
    """A hundred caches of a second each, at once, to one end: the last is there after a hundred seconds."""
    pool = Pool(constant_step(1e-3), BatchLimits(256, 100_000), ROOMY)
    run = PoolCase(requests(np.zeros(100), 100, 2), pool, pool, LinkLimits(100.0, 1e30, 0.0, 1.0)).run()
    moved = transfers(run)
    assert moved.arrived_s.max() - moved.sent_s.min() == pytest.approx(100.0, rel=1e-9)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(pool_cases())
def test_the_same_inputs_give_the_same_bytes(case: PoolCase) -> None:
    assert pickle.dumps(case.run()) == pickle.dumps(case.run())


def test_long_runs_keep_classes_of_gaps_without_those_of_moved_caches() -> None:
    rng = np.random.default_rng(4)
    pool = Pool(MadeUpStep(tariffs=(Tariff(MS, 0, 0, MS // 900),)), BatchLimits(32, 512), KvLimits(20_000, 16))
    workload = requests(np.cumsum(rng.exponential(0.1, 200)), rng.integers(1, 300, 200), rng.integers(1, 300, 200))
    run = PoolCase(workload, pool, pool, LinkLimits(1e5, 1e5, 0.0, 1.0)).run()
    late = run.gaps.seconds[len(run.gaps.seconds) - int((workload.output_tokens > 1).sum()) :]
    classed = token_gaps(run.steps, late, exact_steps=0)
    assert classed.count.sum() == run.gaps.count.sum()
    assert np.dot(classed.seconds, classed.count) == pytest.approx(np.dot(run.gaps.seconds, run.gaps.count), rel=1e-12)


def test_layers_move_while_the_next_are_computed() -> None:
    """Ten layers of a second each in all: nine go beside a prompt of 20 seconds, the last one after it."""
    prompt = Pool(constant_step(1.0), BatchLimits(8, 5), ROOMY)  # 100 tokens in steps of 5
    decode = Pool(constant_step(STEP_S), BatchLimits(8, 512), ROOMY)
    link = LinkLimits(10.0, 10.0, 0.25, 1.0, layers=10)
    beside = PoolCase(requests(0.0, 100, 5), prompt, decode, link).run()
    assert transfers(beside).arrived_s[0] == pytest.approx(20.0 + 0.25 + 1.0)
    assert transfers(beside).arrived_s[0] - transfers(beside).prefilled_s[0] == pytest.approx(link.seconds(100))
    after = PoolCase(requests(0.0, 100, 5), prompt, decode, replace(link, layers=0)).run()
    assert transfers(after).arrived_s[0] == pytest.approx(20.0 + 0.25 + 10.0)
    slow = PoolCase(requests(0.0, 100, 5), prompt, decode, replace(link, send=2.0)).run()
    assert transfers(slow).arrived_s[0] == pytest.approx(45.0 + 0.25 + 5.0 + 0.25)  # the link holds the prompt up


def test_room_is_kept_from_before_a_prompt_whose_layers_move_meanwhile() -> None:
    """The decode cache holds one request: the second prompt begins when the first answer has ended."""
    prompt = Pool(constant_step(STEP_S), BatchLimits(8, 512), ROOMY)
    decode = replace(prompt, kv=KvLimits(15, 10))
    run = PoolCase(requests([0.0, 0.0], 100, 21), prompt, decode, replace(FAST, layers=4)).run()
    np.testing.assert_allclose(run.requests.scheduled_s, [0.0, run.requests.finish_s[0]], rtol=1e-9, atol=1e-12)
