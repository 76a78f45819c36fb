"""Rows under load: what they say of their requests, and the engine's answers against what must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_validate import made

from simulator.cost.machine import Machine
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.slo import preset
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks
from simulator.validation import demand, validate
from simulator.validation.load import Arrivals, Bench, Lengths, Limits, Load, figures, requests_held
from simulator.validation.question import Interpreter, Question
from simulator.validation.report import plain_text
from simulator.validation.rows import read_rows
from simulator.validation.search import largest

LIMITS = Limits(max_num_seqs=64, max_num_batched_tokens=2048, memory=0.9)


def load(arrivals: Arrivals, replicas: int = 1, limits: Limits = LIMITS, outputs: float = 64.0) -> Load:
    machine = Machine(Catalogue().load("h100-sxm-8"), Stacks().load("vllm-2025"), Parallelism())
    model = load_model("llama-3.1-8b")
    return Load(model, Precision(), machine, replicas, arrivals, Lengths(256.0), Lengths(outputs), limits)


def run(of: Load) -> dict[str, float]:
    ((_, found),) = figures([of])
    assert isinstance(found, dict)
    return found


def test_requests_at_once_are_answered_at_the_rate_of_the_fixed_point() -> None:
    whole = load(Arrivals(requests=1000), outputs=1024)
    assert run(whole)["request_rate"] == pytest.approx(requests_held(whole), rel=0.05)


def test_where_there_is_room_requests_leave_at_the_rate_at_which_they_come() -> None:
    held = requests_held(load(Arrivals()))
    at_half = run(load(Arrivals(rate=held / 2, requests=3000)))
    assert at_half["output_rate"] == pytest.approx(64 * held / 2, rel=0.05)
    too_many = run(load(Arrivals(rate=2 * held, requests=3000)))
    assert too_many["request_rate"] == pytest.approx(held, rel=0.15)
    assert too_many["ttft_p50"] > 20 * at_half["ttft_p50"]  # the queue grows for as long as the run lasts


def test_few_requests_come_at_the_stated_rate_too() -> None:
    """Chance makes 20 requests come a fifth too fast or too slowly; a measured run is known by its rate."""
    for count in (20, 100):
        found = run(load(Arrivals(rate=0.1, requests=count)))  # each is over before the next
        assert found["request_rate"] == pytest.approx(0.1, rel=1.5 / count)


def test_a_rate_at_which_hardly_any_come_in_the_time_of_a_run_is_known_all_the_same() -> None:
    assert run(load(Arrivals(rate=0.001, seconds=600.0)))["request_rate"] == pytest.approx(0.001, rel=0.3)


def test_a_run_that_ends_before_its_first_answer_has_latencies_but_no_rates() -> None:
    found = Bench(replace(load(Arrivals(rate=5.0, seconds=30.0), outputs=20_000.0), metered=True)).figures()
    assert found["tpot_mean"] > 0.0
    assert found["wall_watts"] > 0.0
    assert not {"output_rate", "total_rate", "request_rate", "wall_joules"} & set(found)


def test_a_part_of_the_replicas_stands_for_all() -> None:
    rate = requests_held(load(Arrivals())) * 0.7
    one, many = (
        run(load(Arrivals(rate=rate, requests=6000))),
        run(load(Arrivals(rate=100 * rate, requests=600_000), 100)),
    )
    assert many["output_rate"] == pytest.approx(100 * one["output_rate"], rel=0.05)
    assert many["tpot_mean"] == pytest.approx(one["tpot_mean"], rel=0.05)


def test_the_largest_rate_keeps_the_limits_and_a_larger_one_does_not() -> None:
    slo = preset("mlperf/llama3.1-8b-interactive")
    searched = load(Arrivals(slo=slo, seconds=60.0))
    rate = run(searched)["request_rate"]
    for factor, kept in ((0.97, True), (1.1, False)):
        latencies = run(load(Arrivals(rate=factor * rate, requests=6000)))
        assert slo.ttft_s and slo.tpot_s
        assert (latencies["ttft_p99"] <= slo.ttft_s and latencies["tpot_p99"] <= slo.tpot_s) is kept


def test_a_request_that_waits_for_its_last_token_is_never_preempted() -> None:
    small = replace(LIMITS, memory=0.03, of_free=True)  # room for a few dozen requests
    bench = Bench(load(Arrivals(requests=300), limits=replace(small, whole=True), outputs=1024))
    records, _ = bench.run(Arrivals(requests=300), 300)
    assert not records.requests.preemptions.any()
    eager, _ = Bench(load(Arrivals(requests=300), limits=small, outputs=1024)).run(Arrivals(requests=300), 300)
    assert eager.requests.preemptions.any()


def test_lengths_have_their_mean_and_their_end() -> None:
    drawn = Lengths(300.0, 0.8).draw(20_000, np.random.default_rng(0), 10**6)
    assert drawn.mean() == pytest.approx(300.0, rel=0.03)
    assert Lengths(300.0, 0.8, 1024).draw(20_000, np.random.default_rng(0), 512).max() == 512
    assert set(Lengths(300.0).draw(10, np.random.default_rng(0), 10**6)) == {300}


@pytest.mark.parametrize(
    ("change", "arrivals"),
    [
        (
            {"request_rate": "Poisson, target 364 qps", "note": "MLPerf v5.1"},
            Arrivals(rate=364.0, seconds=600.0, least=13368),
        ),
        ({"request_rate": "4 qps", "note": "online serving, 500 requests"}, Arrivals(rate=4.0, requests=500)),
        ({"request_rate": "inf", "note": "3000 requests all at once"}, Arrivals(requests=3000)),
        ({"request_rate": "offline (all at once)"}, Arrivals(seconds=600.0)),
        ({"metric": "tpot_ms_p99", "unit": "ms", "concurrency_or_batch": "8"}, Arrivals(concurrency=8, requests=80)),
        ({"metric": "ttft_ms_p50", "unit": "ms", "concurrency_or_batch": "8"}, Arrivals(concurrency=8, requests=80)),
        # 64 prompts of 32,000 tokens do not fit at once
        ({"concurrency_or_batch": "64", "input_len": "32000"}, Arrivals(requests=64)),
    ],
)
def test_words_become_arrivals(tmp_path: Path, change: dict[str, str], arrivals: Arrivals) -> None:
    (row,) = read_rows(made(tmp_path, change))
    question = Interpreter().ask(row)
    assert isinstance(question, Question)
    assert question.load is not None
    assert question.load.arrivals == arrivals


def mlperf(chip: str, model: str, scenario: str, dtype: str = "fp4", chips: str = "8") -> dict[str, str]:
    return {
        "request_rate": "offline (all at once)", "hardware": chip, "n_chips": chips, "tp": "", "dtype_weights": dtype,
        "model": model, "engine": "tensorrt-llm", "input_len": "", "output_len": "", "concurrency_or_batch": "",
        "metric": "output_tokens_per_s_total", "unit": "tok/s", "value": "1000",
        "note": f"MLPerf Inference v5.1 closed datacenter, {scenario}, submitter X",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "layout", "limits", "arrivals"),
    [
        (
            mlperf("b200-sxm", "llama2-70b", "Interactive"),
            Parallelism(),
            Limits(768, 768, 0.95, of_free=True),
            Arrivals(seconds=1200.0, least=24576, to_the_end=True),
        ),
        # of each stage, and no more sequences than a step has tokens for
        (
            mlperf("gb200-nvl72", "llama3.1-405b", "Offline"),
            Parallelism(tp=2, pp=2),
            Limits(2 * 1536, 2 * 1536, 0.95, of_free=True),
            Arrivals(seconds=600.0, least=8313, to_the_end=True),
        ),
        # of each rank of the attention, among which prompts are held back; so many queries a chip
        (
            mlperf("b200-sxm", "deepseek-r1", "Server", chips="16"),
            Parallelism(dp=8, ep=8),
            Limits(8 * 512, 8 * 3456, 0.9, of_free=True, held=9.0),
            Arrivals(seconds=600.0, least=16 * 3291, to_the_end=True),
        ),
    ],
)
def test_a_system_is_set_up_as_its_submission_published_it(
    tmp_path: Path, row: dict[str, str], layout: Parallelism, limits: Limits, arrivals: Arrivals
) -> None:
    question = Interpreter().ask(read_rows(made(tmp_path, row))[0])
    assert isinstance(question, Question) and question.load
    assert question.load.machine.parallelism == layout
    assert question.load.limits == limits
    assert question.load.arrivals == arrivals


def test_a_batch_is_full_where_prompts_and_answers_take_all_tokens_of_a_step() -> None:
    """The engine's own batch, and its rate, where many sequences would fit."""
    narrow = Limits(max_num_seqs=512, max_num_batched_tokens=512, memory=0.9)
    whole = load(Arrivals(requests=3000), limits=narrow, outputs=256.0)
    assert Bench(whole).seats == 256  # 512 tokens: for each decoded one a token of a prompt
    assert run(whole)["request_rate"] == pytest.approx(requests_held(whole), rel=0.1)


def test_of_a_router_each_replica_sees_requests_come_more_regularly_than_at_random() -> None:
    rate = 0.9 * requests_held(load(Arrivals()))
    waits = [
        run(load(Arrivals(rate=replicas * rate, requests=replicas * 12_000), replicas))["ttft_p99"]
        for replicas in (1, 16)
    ]
    assert waits[1] < 0.8 * waits[0]


def test_a_prompt_that_is_held_back_starts_so_many_steps_later() -> None:
    quiet = Arrivals(rate=0.3 * requests_held(load(Arrivals())), requests=2000)
    plain, held = (run(load(quiet, limits=replace(LIMITS, held=steps))) for steps in (0.0, 5.0))
    assert held["ttft_mean"] - plain["ttft_mean"] == pytest.approx(5 * plain["tpot_mean"], rel=0.3)
    assert held["tpot_mean"] == pytest.approx(plain["tpot_mean"], rel=0.1)


def test_a_system_takes_the_layout_that_holds_most_and_says_so(tmp_path: Path) -> None:
    row = {
        "request_rate": "offline (all at once)", "note": "MLPerf v3.1", "hardware": "h200-sxm", "n_chips": "8",
        "tp": "", "model": "llama2-70b", "dtype_weights": "fp8", "engine": "tensorrt-llm",
        "metric": "output_tokens_per_s_total", "unit": "tok/s", "value": "30000",
    }  # fmt: skip
    path = made(tmp_path, row)
    question = Interpreter().ask(read_rows(path)[0])
    assert isinstance(question, Question)
    assert question.load is not None
    assert question.load.replicas * question.load.machine.parallelism.chips == 8
    other = replace(question.load, machine=replace(question.load.machine, parallelism=Parallelism(tp=8)), replicas=1)
    assert requests_held(question.load) >= requests_held(other)
    assert any("layout not stated" in words for words in validate([path]).assumed)


def test_metrics_are_named_by_latency_and_statistic() -> None:
    names = ("ttft_ms", "ttft_ms_p50", "tpot_ms_p99", "tpot_ms_mean", "requests_per_s", "prefill_tokens_per_s")
    assert [demand.figure(n) for n in names] == ["ttft_mean", "ttft_p50", "tpot_p99", "tpot_mean", "request_rate", None]


@pytest.mark.parametrize("power", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("start", [0.01, 4.0, 99.0])
def test_the_largest_rate_is_found_in_few_runs_whatever_the_shape(power: float, start: float) -> None:
    tried = []

    def excess(rate: float) -> float:
        tried.append(rate)
        return power * np.log(rate / 7.0)

    found = largest(excess, start, 100.0, runs=30)
    assert found == pytest.approx(7.0, rel=0.012)
    assert found <= 7.0
    assert len(tried) <= 17
    assert largest(lambda rate: 1.0, start, 100.0) is None


def test_what_a_server_draws_lies_between_idle_and_its_limits_and_follows_the_rate() -> None:
    """The steady state in closed form draws as much: chips, their share of the node, no cooling."""
    held = requests_held(load(Arrivals()))
    power = Catalogue().load("h100-sxm-8").chip.power
    base = float(Catalogue().load("h100-sxm-8").node.power.base) / 8
    quiet, busy = (
        run(replace(load(Arrivals(rate=share * held, requests=2000)), metered=True)) for share in (0.05, 0.9)
    )
    for found in (quiet, busy):
        assert float(power.idle) + base < found["wall_watts"] < float(power.cap) + base
        assert found["wall_joules"] == pytest.approx(found["wall_watts"] / found["output_rate"])
    assert quiet["wall_watts"] < busy["wall_watts"]
    assert quiet["wall_joules"] > 2 * busy["wall_joules"]
    assert "wall_watts" not in run(load(Arrivals(rate=held / 2, requests=100)))


def test_a_part_of_the_replicas_draws_its_part() -> None:
    one = run(replace(load(Arrivals(requests=300)), metered=True))
    many = run(replace(load(Arrivals(requests=300 * 100), 100), metered=True))
    assert many["wall_watts"] == pytest.approx(100 * one["wall_watts"], rel=0.05)


def test_power_at_the_wall_of_a_row_and_joules_derived_from_it_are_of_one_run(tmp_path: Path) -> None:
    """MLPerf's whole server; "derived (ours)" before the words of the run does not make it another."""
    row = {
        "request_rate": "offline (all at once)", "hardware": "b200-sxm", "n_chips": "8", "tp": "",
        "dtype_weights": "fp4", "model": "llama3.1-8b", "engine": "tensorrt-llm", "input_len": "", "output_len": "",
        "concurrency_or_batch": "",
    }  # fmt: skip
    note = "MLPerf v5.1 closed Offline, one system; mean wall (AC) power of the whole server"
    watts = row | {"metric": "system_power_w", "unit": "W", "value": "9436.1", "note": note}
    joules = row | {"metric": "j_per_token", "unit": "J/tok", "value": "0.0642", "note": f"derived (ours): a. {note}"}
    questions = [Interpreter().ask(read_rows(made(tmp_path, change))[0]) for change in (watts, joules)]
    loads = [question.load for question in questions if isinstance(question, Question)]
    assert len(loads) == 2 and loads[0] and loads[1]
    assert loads[0].metered and loads[0].key == loads[1].key


def test_a_latency_at_the_edge_of_what_is_held_is_said_to_be_ill_conditioned_and_counts(tmp_path: Path) -> None:
    row = {"request_rate": "2 qps", "note": "online serving, 300 requests", "metric": "ttft_ms_p50", "unit": "ms"}
    (question,) = map(Interpreter().ask, read_rows(made(tmp_path, row)))
    assert isinstance(question, Question)
    assert question.load is not None
    held = requests_held(question.load)
    for share, ill in ((0.5, False), (0.97, True), (1.5, True)):
        result = validate([made(tmp_path, row | {"request_rate": f"{share * held:.6f} qps"})])
        (point,) = result.points
        assert point.load == pytest.approx(share, rel=1e-3)
        assert point.ill_conditioned is ill
        assert result.overall.simulated == 1
        assert ("ill-conditioned" in plain_text(result)) is ill
        assert ("ill_conditioned" in point.document()) is ill
    assert point.document()["ill_conditioned"]["amplification"] is None  # the queue grows without end
