"""One replica that serves one request at a time is a queue of the textbooks; closed loops hold what they promise."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from engine_cases import MS, EngineCase, MadeUpStep, Tariff, constant_step, engine_cases, requests
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.gaps import CLASS_WIDTH, token_gaps
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import poisson
from simulator.metrics.latency import weighted_percentiles

STEP_S = 0.01
ONE_AT_A_TIME = BatchLimits(1, 2048)
ROOMY = KvLimits(1 << 20, 16)


def waits(run: RunRecords) -> tuple[float, float]:
    """Mean wait before the first step and the half-width of its 95 % interval, from 20 batch means (Student, 19)."""
    wait = run.requests.scheduled_s - run.requests.arrival_s
    means = wait[len(wait) % 20 :].reshape(20, -1).mean(axis=1)
    return float(means.mean()), 2.093 * float(means.std(ddof=1)) / sqrt(20)


def one_server(load: float, outputs: np.ndarray, mean_output: float) -> RunRecords:
    """Poisson arrivals at one seat; a request takes one step a token of its answer."""
    arrivals = poisson(load / (mean_output * STEP_S), np.random.default_rng(11), requests=len(outputs))
    return EngineCase(requests(arrivals, 1, outputs), constant_step(STEP_S), ONE_AT_A_TIME, ROOMY).run()


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_fixed_answers_make_an_m_d_1_queue(load: float) -> None:
    """Wq = load * S / (2 (1 - load))."""
    mean, half = waits(one_server(load, np.full(40_000, 50), 50))
    wanted = load * 50 * STEP_S / (2 * (1 - load))
    assert half < 0.15 * wanted
    assert abs(mean - wanted) < half


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_geometric_answers_make_an_m_m_1_queue(load: float) -> None:
    """Wq = load * S / (1 - load) for exponential service; a geometric one has E[S^2] smaller by 1 part in 2 * mean."""
    mean_output = 200
    outputs = np.random.default_rng(12).geometric(1 / mean_output, 40_000)
    mean, half = waits(one_server(load, outputs, mean_output))
    wanted = load * mean_output * STEP_S / (1 - load) * (1 - 0.5 / mean_output)
    assert half < 0.25 * wanted
    assert abs(mean - wanted) < half


def test_the_server_is_busy_for_the_load() -> None:
    run = one_server(0.6, np.full(20_000, 50), 50)
    busy = run.steps.step_seconds().sum()
    assert busy == pytest.approx(20_000 * 50 * STEP_S, rel=1e-9)
    assert busy / run.end_s == pytest.approx(0.6, rel=0.02)


def test_littles_law_of_sampled_queues() -> None:
    """Mean number in the system, sampled, against arrival rate times mean time in it."""
    rng = np.random.default_rng(3)
    arrivals = poisson(6.0, rng, requests=6_000)
    workload = requests(arrivals, rng.integers(1, 1500, 6_000), rng.integers(1, 400, 6_000))
    run = EngineCase(workload, MadeUpStep(), BatchLimits(32, 2048), ROOMY, {"replicas": 2}).run()
    inside = run.requests.finish_s - run.requests.arrival_s
    sampled = (run.samples.waiting + run.samples.running).sum() / len(np.unique(run.samples.time_s))
    assert sampled == pytest.approx(inside.sum() / run.end_s, rel=0.03)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(engine_cases(), st.integers(1, 9))
def test_a_closed_loop_without_thought_holds_its_concurrency(case: EngineCase, users: int) -> None:
    shape = case.workload
    loop = EngineCase(
        requests(0.0, shape.input_tokens, shape.output_tokens, users), case.step, case.batch, case.kv, case.options
    )
    done = loop.run().requests
    users = min(users, len(done))
    assert np.count_nonzero(done.arrival_s == 0) >= users
    # From one event to the next: what has arrived less what has finished, until nobody is left to come.
    for moment in np.unique(np.concatenate([[0.0], done.finish_s])):
        a_tick_later = moment + 2 * SECONDS_PER_TICK
        if a_tick_later < done.arrival_s.max():
            assert np.sum(done.arrival_s <= a_tick_later) - np.sum(done.finish_s <= moment) == users


def test_a_user_thinks_between_requests() -> None:
    run = EngineCase(requests(0.0, [5] * 4, [3] * 4, 1, 2.0), MadeUpStep(), BatchLimits(4, 64), ROOMY).run()
    np.testing.assert_allclose(run.requests.arrival_s[1:], run.requests.finish_s[:-1] + 2.0, rtol=1e-12)


def test_round_robin_takes_turns_and_least_outstanding_the_idlest() -> None:
    workload = requests([0.0, 0.1, 0.2, 0.3], 5, [10_000, 2, 2, 2])
    shares = {
        router: EngineCase(workload, MadeUpStep(), BatchLimits(4, 64), ROOMY, {"replicas": 2, "router": router})
        .run()
        .requests.replica.tolist()
        for router in ("round_robin", "least_outstanding")
    }
    assert shares == {"round_robin": [0, 1, 0, 1], "least_outstanding": [0, 1, 1, 1]}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(1, 12))
def test_more_room_never_hurts_equal_requests_in_steps_of_equal_length(
    count: int, prompt: int, output: int, seats: int, rooms: int
) -> None:
    """All at once, equal, a step as long as any other, a seat only where a whole request fits. (In general it may.)"""
    workload, step = requests(np.zeros(count), prompt, output), constant_step(STEP_S)
    need = -(-(prompt + output) // 4)

    def makespan(seats: int, rooms: int) -> float:
        return EngineCase(workload, step, BatchLimits(min(seats, rooms), 4096), KvLimits(rooms * need, 4)).run().end_s

    base = makespan(seats, rooms)
    assert makespan(seats + 1, rooms) <= base
    assert makespan(seats, rooms + 1) <= base
    assert makespan(count, count) == pytest.approx((1 if count * prompt <= 4096 else 0) * output * STEP_S, rel=1e-9)


def test_classes_of_gaps_keep_means_and_percentiles() -> None:
    """Long runs keep classes of gaps: as many gaps, the same mean, percentiles within a class."""
    rng = np.random.default_rng(8)
    workload = requests(np.cumsum(rng.exponential(0.2, 300)), rng.integers(1, 900, 300), rng.integers(1, 900, 300))
    step = MadeUpStep(tariffs=(*MadeUpStep().tariffs, Tariff(3 * MS, 0, 0, MS // 900)))  # grows fast
    run = EngineCase(workload, step, BatchLimits(32, 512), KvLimits(1500, 16)).run()
    over_preemptions = int(run.gaps.count.sum() - (run.steps.decoding * run.steps.steps).sum())
    late = run.gaps.seconds[len(run.gaps.seconds) - over_preemptions :]
    assert over_preemptions > 0
    classed = token_gaps(run.steps, late, exact_steps=0)
    assert len(classed.seconds) < len(run.gaps.seconds) / 2
    assert classed.count.sum() == run.gaps.count.sum()
    assert np.dot(classed.seconds, classed.count) == pytest.approx(np.dot(run.gaps.seconds, run.gaps.count), rel=1e-12)
    ranks = (1, 25, 50, 90, 99, 100)
    exact = weighted_percentiles(run.gaps.seconds, run.gaps.count, ranks)
    np.testing.assert_allclose(weighted_percentiles(classed.seconds, classed.count, ranks), exact, rtol=2 * CLASS_WIDTH)


@pytest.mark.parametrize(("interval", "delay"), [(1, 0.0), (1, 0.6), (4, 0.0), (12, 0.0), (12, 1.5)])
def test_a_prompt_waits_for_a_look_and_until_it_is_seen(interval: int, delay: float) -> None:
    """Among long answers, steps of S: a look comes every n steps, so first token - arrival = (n/2 + delay + 1) S."""
    rng = np.random.default_rng(3)
    arrivals = np.concatenate([[0.0], 1.0 + np.sort(rng.uniform(0, 50, 4000))])
    outputs = np.concatenate([[10_000], np.full(4000, 2)])
    limits = BatchLimits(1024, 1 << 20, admission_interval=interval, admission_delay=delay)
    done = EngineCase(requests(arrivals, 1, outputs), constant_step(STEP_S), limits, ROOMY).run().requests
    wait = (done.first_token_s - done.arrival_s)[1:] / STEP_S
    assert wait.mean() == pytest.approx(interval / 2 + delay + 1, rel=0.02)
    assert wait.min() >= delay + 1 - 1e-9
    assert wait.max() <= interval + delay + 1 + 1e-9


def test_who_comes_to_an_idle_replica_waits_for_no_look() -> None:
    limits = BatchLimits(8, 512, admission_interval=50, admission_delay=3.0)
    done = EngineCase(requests([0.003, 1.0, 2.0], 10, 7), constant_step(STEP_S), limits, ROOMY).run().requests
    assert done.first_token_s - done.arrival_s == pytest.approx([STEP_S] * 3)


def test_whole_requests_are_admitted_while_the_cache_holds_them_to_their_ends() -> None:
    """Blocks for three of four equal requests at their full length: the fourth waits for the first to end."""
    cache, four = KvLimits(3 * 25, 4), requests([0.0] * 4, 40, 60)
    eager = EngineCase(four, constant_step(STEP_S), BatchLimits(8, 512), cache).run().requests
    whole = EngineCase(four, constant_step(STEP_S), BatchLimits(8, 512, whole=True), cache).run().requests
    assert eager.preemptions.sum() > 0
    assert whole.preemptions.sum() == 0
    assert whole.scheduled_s == pytest.approx([0.0, 0.0, 0.0, 60 * STEP_S])


def test_prompts_in_steps_of_their_own_hold_up_decoding() -> None:
    """Steps of S: three prompts, each alone in a step, add a step each to an answer of 20 tokens, and its gaps show it;
    two that come together share a step."""
    arrivals = [0.0, 2.5 * STEP_S, 7.5 * STEP_S, 7.5 * STEP_S]
    workload = requests(arrivals, 10, [20, 9, 5, 5])
    mixed = EngineCase(workload, constant_step(STEP_S), BatchLimits(8, 512), ROOMY).run()
    alone = EngineCase(workload, constant_step(STEP_S), BatchLimits(8, 512, chunked_prefill=False), ROOMY).run()
    assert mixed.requests.finish_s[0] == pytest.approx(20 * STEP_S)
    assert alone.requests.finish_s[0] == pytest.approx(22 * STEP_S)
    assert alone.requests.first_token_s[1:] - arrivals[1:] == pytest.approx([1.5 * STEP_S] * 3)
    long = alone.gaps.count[alone.gaps.seconds > 1.5 * STEP_S]
    assert long.sum() == 1 + 2  # of the first answer at the first pause, of the two that then run at the second
    assert alone.gaps.seconds.max() == pytest.approx(2 * STEP_S)
    assert not np.any((alone.steps.decoding > 0) & (alone.steps.prefill_tokens > 0))


def test_few_that_wait_join_no_running_batch() -> None:
    """With three asked for: two wait for the third while others run, but not once those have ended."""
    limits = BatchLimits(8, 512, admission_least=3)
    workload = requests([0.0, 1.5 * STEP_S, 2.5 * STEP_S, 5.5 * STEP_S, 6.5 * STEP_S], 10, [10, 2, 2, 2, 2])
    done = EngineCase(workload, constant_step(STEP_S), limits, ROOMY).run().requests
    assert done.scheduled_s / STEP_S == pytest.approx([0, 6, 6, 6, 10])
