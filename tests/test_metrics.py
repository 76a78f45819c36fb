"""Metrics against what can be worked out by hand, and against queues whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from math import nan, pi, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.records import RequestRecords, TokenGaps
from simulator.engine.traces import read_trace
from simulator.errors import ScenarioError
from simulator.metrics.latency import latency, weighted_percentiles
from simulator.metrics.slo import PRESETS, Slo, preset
from simulator.metrics.steady import batch_means, littles_law, mser5, saturation, steady_state, student_t
from simulator.metrics.throughput import goodput, throughput

TRACES = Path(__file__).parent.parent / "scenarios" / "traces"
NO_GAPS = TokenGaps(np.array([]), np.array([], dtype=np.int64))


def records(
    arrival: np.ndarray | list[float],
    first: np.ndarray | list[float],
    finish: np.ndarray | list[float],
    output_tokens: int | list[int] = 11,
) -> RequestRecords:
    count = len(arrival)
    came, began, ended = (np.asarray(column, dtype=np.float64) for column in (arrival, first, finish))
    outputs = np.broadcast_to(np.asarray(output_tokens, dtype=np.int64), (count,)).copy()
    zeros = np.zeros(count, dtype=np.int64)
    return RequestRecords(came, began, began, ended, np.full(count, 100, dtype=np.int64), outputs, zeros, zeros)


def served_in_turn(arrival: np.ndarray, service: np.ndarray | float) -> np.ndarray:
    """Departures of one server, first come first served: Lindley's recursion, unrolled."""
    service = np.broadcast_to(np.asarray(service, dtype=np.float64), arrival.shape)
    busy = np.cumsum(service)
    return np.asarray(busy + np.maximum.accumulate(arrival - (busy - service)))


def md1(load: float, requests: int, seed: int = 0) -> RequestRecords:
    """A server of one request per second under Poisson arrivals; decoding takes another 2 s."""
    arrival = np.cumsum(np.random.default_rng(seed).exponential(1 / load, requests))
    first = served_in_turn(arrival, 1.0)
    return records(arrival, first, first + 2.0)


THREE = records([0.0, 1.0, 2.0], [0.5, 2.0, 4.0], [2.5, 2.0, 9.0], [21, 1, 51])
"""ttft 0.5, 1, 2 s; tpot 0.1 s, none, 0.1 s; e2el 2.5, 1, 7 s; 73 tokens out and 300 in over 9 s."""


# Latency


def test_latencies_are_those_worked_out_by_hand() -> None:
    found = latency(THREE, TokenGaps(np.array([0.1, 0.3]), np.array([60, 10])))
    assert found["ttft_mean_ms"] == pytest.approx(3500 / 3)
    assert found["ttft_p50_ms"] == pytest.approx(1000)
    assert found["ttft_p90_ms"] == pytest.approx(1800)
    assert found["tpot_mean_ms"] == pytest.approx(100)
    assert found["tpot_p99_ms"] == pytest.approx(100)
    assert found["e2el_mean_ms"] == pytest.approx(3500)
    assert found["itl_mean_ms"] == pytest.approx((60 * 100 + 10 * 300) / 70)
    assert (found["itl_p50_ms"], found["itl_p99_ms"]) == pytest.approx((100, 300))
    assert len(found) == 16


def test_what_was_not_seen_is_none() -> None:
    found = latency(records([0.0, 1.0], [nan, nan], [nan, nan]), NO_GAPS)
    assert set(found.values()) == {None}
    single = latency(records([0.0], [1.0], [1.0], 1), NO_GAPS)
    assert (single["tpot_mean_ms"], single["itl_p99_ms"], single["ttft_p99_ms"]) == (None, None, 1000)


def test_a_request_that_did_not_finish_still_has_its_first_token() -> None:
    found = latency(records([0.0, 0.0], [1.0, 3.0], [2.0, nan]), NO_GAPS)
    assert (found["ttft_mean_ms"], found["e2el_mean_ms"]) == (2000, 2000)


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.integers(0, 40)), min_size=1, max_size=40).filter(
        lambda runs: any(count for _, count in runs)
    ),
    st.lists(st.floats(0, 100), min_size=1, max_size=5),
)
def test_weighted_percentiles_are_those_of_the_expanded_array(
    runs: list[tuple[float, int]], ranks: list[float]
) -> None:
    values, counts = np.array([value for value, _ in runs]), np.array([count for _, count in runs])
    expanded = np.percentile(np.repeat(values, counts), ranks)
    assert weighted_percentiles(values, counts, ranks).tolist() == expanded.tolist()


# Throughput and objectives


def test_throughput_counts_from_the_first_arrival_to_the_last_finish() -> None:
    later = replace(
        THREE, arrival_s=THREE.arrival_s + 5, first_token_s=THREE.first_token_s + 5, finish_s=THREE.finish_s + 5
    )
    for run in (THREE, later):
        assert throughput(run) == pytest.approx(
            {
                "makespan_s": 9.0,
                "request_throughput": 3 / 9,
                "output_throughput": 73 / 9,
                "total_token_throughput": 373 / 9,
            }
        )


def test_unfinished_requests_do_not_count() -> None:
    half = records([0.0, 1.0], [1.0, 3.0], [2.0, nan])
    assert throughput(half)["request_throughput"] == 0.5
    assert goodput(half, Slo(ttft_s=9.0)) == {"request_goodput": 0.5, "slo_attainment": 0.5}
    nothing = records([0.0], [nan], [nan])
    assert set(throughput(nothing).values()) == {None}
    assert goodput(nothing, Slo(ttft_s=9.0)) == {"request_goodput": 0.0, "slo_attainment": 0.0}


@pytest.mark.parametrize(
    ("slo", "met"),
    [
        (Slo(ttft_s=1.0), 2),
        (Slo(ttft_s=0.4), 0),
        (Slo(tpot_s=0.11), 3),  # one token keeps any tpot
        (Slo(tpot_s=0.09), 1),
        (Slo(e2el_s=3.0, ttft_s=0.9), 1),
        (Slo(), 3),
    ],
)
def test_goodput_counts_requests_that_keep_every_limit(slo: Slo, met: int) -> None:
    assert goodput(THREE, slo) == pytest.approx({"request_goodput": met / 9, "slo_attainment": met / 3})


def test_no_objective_no_goodput() -> None:
    assert goodput(THREE, None) == {"request_goodput": None, "slo_attainment": None}


def test_an_objective_is_kept_when_its_percentile_is_within_each_limit() -> None:
    arrival = np.zeros(1000)
    ttft = np.where(np.arange(1000) < 8, 5.0, 1.0)  # 0.8 % are late
    run = records(arrival, ttft, ttft + 1.0)  # tpot 0.1 s
    assert Slo(ttft_s=2.0, tpot_s=0.2).kept(run)
    assert not Slo(ttft_s=2.0, percentile=99.5).kept(run)
    assert not Slo(tpot_s=0.05).kept(run)
    assert not Slo(ttft_s=2.0).kept(records([0.0], [1.0], [nan]))


def test_presets_are_mlperfs() -> None:
    assert len(PRESETS) == 11
    chat = preset("mlperf/llama2-70b-interactive")
    assert chat.summary() == {
        "name": "mlperf/llama2-70b-interactive",
        "ttft_ms": 450.0,
        "tpot_ms": 40.0,
        "percentile": 99.0,
    }
    assert chat.source is not None
    assert "mlperf.conf" in chat.source
    with pytest.raises(
        ScenarioError, match=r"unknown SLO 'mlperf/llama2-70b'; did you mean 'mlperf/llama2-70b-server'"
    ):
        preset("mlperf/llama2-70b")


# Warm-up and intervals


def test_mser5_cuts_a_transient_where_it_ends() -> None:
    time = np.arange(5000)
    noise = np.random.default_rng(3).normal(0, 1, 5000)
    cut = mser5(10 + noise + 20 * np.exp(-time / 100))
    assert 250 <= cut.observations <= 700  # from 8 % of the transient left to 0.1 %
    assert not cut.unfinished


def test_mser5_cuts_a_step_exactly() -> None:
    assert mser5(np.repeat([9.0, 1.0], [300, 700])) == (300, False)


def test_mser5_leaves_a_settled_series_alone() -> None:
    assert mser5(np.full(1000, 0.1) + 1e-15 * np.random.default_rng(2).random(1000)) == (0, False)
    cuts = [mser5(np.random.default_rng(seed).normal(0, 1, 2000)) for seed in range(50)]
    assert np.median([cut.observations for cut in cuts]) < 100
    assert not any(cut.unfinished for cut in cuts)


def test_mser5_says_when_half_of_a_run_is_not_enough() -> None:
    assert mser5(np.arange(1000.0)).unfinished
    assert mser5(np.arange(19.0)).unfinished


def test_mser5_is_the_plain_definition() -> None:
    series = np.random.default_rng(5).exponential(1, 203).cumsum() % 7
    means = [np.mean(series[5 * i : 5 * i + 5]) for i in range(40)]
    errors = [np.var(means[cut:]) / (40 - cut) for cut in range(21)]
    assert mser5(series).observations == 5 * int(np.argmin(errors))


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (19, 2.09302),
        (30, 2.04227),
        (120, 1.97993),
    ],
)
def test_students_t_is_the_tabulated_one(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=1e-4 if freedom == 1 else 1e-5)


def test_students_t_in_closed_form() -> None:
    assert student_t(1, 0.5) == pytest.approx(1.0)  # Cauchy: tan(pi / 4)
    assert student_t(2, 0.9) == pytest.approx(0.9 * sqrt(2 / (1 - 0.81)))
    assert student_t(1, 0.99) == pytest.approx(np.tan(0.99 * pi / 2))


def test_batch_means_of_two_batches_by_hand() -> None:
    found = batch_means(np.array([99.0, 1.0, 3.0, 5.0, 7.0]), 2)  # means 2 and 6, the odd one left out
    assert found == pytest.approx((4.0, 12.7062 * sqrt(8) / sqrt(2)), rel=1e-5)
    with pytest.raises(ValueError, match="do not make 20 batches"):
        batch_means(np.ones(5))


def test_intervals_cover_the_true_mean_of_a_correlated_series() -> None:
    covered = 0
    for seed in range(400):
        noise = np.random.default_rng(seed).normal(0, 1, 4000)
        series = np.empty(4000)
        level = noise[0] / sqrt(1 - 0.8**2)
        for index, shock in enumerate(noise):
            level = 0.8 * level + shock
            series[index] = level
        mean, half = batch_means(series)
        covered += abs(mean) <= half
    assert 0.92 <= covered / 400 <= 0.975


def test_a_queue_settles_where_theory_says() -> None:
    figures, reason = steady_state(md1(0.7, 100_000))
    assert reason is None
    assert figures is not None
    wait = 0.7 / (2 * (1 - 0.7))  # Pollaczek and Khinchine, service 1 s
    assert figures["ttft_mean_ms"] is not None
    assert figures["ttft_mean_ci95_ms"] is not None
    assert abs(figures["ttft_mean_ms"] - 1e3 * (wait + 1.0)) <= figures["ttft_mean_ci95_ms"] < 150
    assert figures["tpot_mean_ms"] == pytest.approx(200)
    assert figures["e2el_mean_ms"] == pytest.approx(figures["ttft_mean_ms"] + 2000)
    assert figures["output_throughput"] is not None
    assert figures["output_throughput_ci95"] is not None
    assert abs(figures["output_throughput"] - 0.7 * 11) <= 1.5 * figures["output_throughput_ci95"]


def test_a_cold_start_is_cut_away() -> None:
    arrival = np.arange(2000.0)
    ttft = np.where(arrival < 200, 30.0, 1.0) + np.random.default_rng(1).normal(0, 0.01, 2000)
    figures, _ = steady_state(records(arrival, arrival + ttft, arrival + ttft + 1.0))
    assert figures is not None
    assert (figures["warmup_requests"], figures["warmup_s"]) == (200, 200.0)
    assert figures["ttft_mean_ms"] == pytest.approx(1000, rel=1e-3)


def test_there_is_not_always_a_steady_state() -> None:
    assert steady_state(records(np.zeros(500), np.arange(500.0), np.arange(500.0) + 1)) == (
        None,
        "all requests arrive at once",
    )
    assert steady_state(md1(0.5, 50)) == (None, "50 requests are too few; 100 are needed")
    figures, reason = steady_state(md1(2.0, 5000))
    assert figures is None
    assert reason == "ttft had not settled by half of the run; a longer run may"


def test_answers_of_one_token_have_no_steady_tpot() -> None:
    run = md1(0.5, 1000)
    run = replace(run, finish_s=run.first_token_s, output_tokens=np.ones(1000, dtype=np.int64))
    figures, _ = steady_state(run)
    assert figures is not None
    assert figures["tpot_mean_ms"] is None
    assert figures["ttft_mean_ms"] == figures["e2el_mean_ms"]


def test_littles_law_holds() -> None:
    number, product = littles_law(md1(0.9, 5000))
    assert number == pytest.approx(product, rel=1e-9)
    assert littles_law(records([0.0, 1.0], [1.0, 2.0], [2.0, 4.0])) == pytest.approx((5 / 4, 5 / 4))


# Saturation


@pytest.mark.parametrize("load", [0.5, 0.9, 0.97])
def test_a_load_below_capacity_is_never_saturated(load: float) -> None:
    assert not any(saturation(md1(load, 10_000, seed)).saturated for seed in range(20))


@pytest.mark.parametrize("load", [1.05, 1.5, 10.0])
def test_a_load_above_capacity_is_saturated_at_the_capacity(load: float) -> None:
    for seed in range(20):
        found = saturation(md1(load, 10_000, seed))
        assert found.saturated
        assert found.sustainable_rate == pytest.approx(1.0, rel=0.03)


def test_a_fluid_queue_tips_over_at_its_capacity() -> None:
    for load in (0.9, 0.99, 1.0, 1.01, 1.1, 3.0):
        arrival = np.arange(20_000) / load
        first = served_in_turn(arrival, 1.0)
        found = saturation(records(arrival, first, first))
        assert found.saturated == (load > 1.0)
        assert found.sustainable_rate == (pytest.approx(1.0, rel=1e-3) if load > 1.0 else None)


def test_many_seats_that_fill_before_they_queue() -> None:
    """256 seats of 10 s each: the first 256 requests are admitted at once, which says nothing about the rate held."""
    capacity = 25.6
    for load in (0.9, 1.3, 4.0):
        arrival = np.arange(8_000) / (capacity * load)
        begin = np.empty(8_000)
        for seat in range(256):  # equal service: a seat takes every 256th request
            begin[seat::256] = served_in_turn(arrival[seat::256], 10.0) - 10.0
        found = saturation(records(arrival, begin + 0.2, begin + 10.0))
        assert found.saturated == (load > 1.0)
        if found.saturated:
            assert found.sustainable_rate == pytest.approx(capacity, rel=0.03)


@pytest.mark.parametrize("period", [20.0, 200.0, 1000.0])
def test_bursts_that_drain_are_not_saturation(period: float) -> None:
    """Half of the time nothing comes, half of the time 1.8 times the capacity."""
    busy = np.cumsum(np.random.default_rng(2).exponential(1 / 1.8, 10_000))
    arrival = busy + np.floor(busy / period) * period
    first = served_in_turn(arrival, 1.0)
    assert not saturation(records(arrival, first, first)).saturated


@pytest.mark.parametrize("when", [0.0, 3000.0, 5900.0])
def test_one_great_burst_is_not_saturation(when: float) -> None:
    quiet = np.cumsum(np.random.default_rng(2).exponential(2.0, 3000))
    arrival = np.sort(np.concatenate([np.full(1500, when), quiet]))
    first = served_in_turn(arrival, 1.0)
    assert not saturation(records(arrival, first, first)).saturated


def test_a_long_wait_that_does_not_grow_is_not_saturation() -> None:
    """A slow machine with room for all: every first token takes five minutes, and always has."""
    arrival = np.cumsum(np.random.default_rng(1).exponential(0.2, 19_366))
    assert not saturation(records(arrival, arrival + 300.0, arrival + 400.0)).saturated


@pytest.mark.parametrize("name", ["azure-conv-2023.csv", "azure-code-2023.csv", "mooncake-conversation-2025.jsonl"])
def test_real_traces_tip_over_at_their_own_rate(name: str) -> None:
    arrival = read_trace(TRACES / name).arrival_s
    rate = (len(arrival) - 1) / arrival[-1]
    for load in (0.5, 0.8, 0.97):
        first = served_in_turn(arrival, load / rate)
        assert not saturation(records(arrival, first, first)).saturated
    for load in (1.05, 1.1, 1.5, 10.0):
        first = served_in_turn(arrival, load / rate)
        found = saturation(records(arrival, first, first))
        assert found.saturated
        assert found.sustainable_rate == pytest.approx(rate / load, rel=0.03)


def test_nothing_to_judge_is_not_saturated() -> None:
    assert saturation(records(np.zeros(9), np.arange(9.0), np.arange(9.0))) == (False, None)
    assert saturation(records([0.0, 1.0], [nan, nan], [nan, nan])) == (False, None)
    assert saturation(records([0.0], [1.0], [1.0])) == (False, None)


def test_a_run_cut_off_in_the_middle_can_be_judged() -> None:
    run = md1(2.0, 5000)
    seen = run.first_token_s < 1500.0
    cut = replace(
        run,
        arrival_s=np.where(run.arrival_s < 1500.0, run.arrival_s, nan),
        first_token_s=np.where(seen, run.first_token_s, nan),
        finish_s=np.where(seen, run.finish_s, nan),
    )
    found = saturation(cut)
    assert found.saturated
    assert found.sustainable_rate == pytest.approx(1.0, rel=0.03)
