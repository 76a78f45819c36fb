"""Steady states in closed form: Little's law, the limits of load, and the event engine beside them."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.machine import Machine
from simulator.cost.mean_step import mean_step, seconds_of
from simulator.cost.steady import Replica
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.traffic import closed_loop, fixed, open_loop
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.latency import tpot_s
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.quantity import Known
from simulator.stack.stack import Stacks
from simulator.study.evaluation import Evaluation
from simulator.study.store import Store
from simulator.study.sweep import sweep

PLACES = {"h100-sxm-8": 1, "xeon-6980p-2s": 2, "tpu-v6e-16": 4, "wormhole-t3000": 8}


def machine(name: str) -> Machine:
    profile = Catalogue().load(name)
    return Machine(profile, Stacks().load(profile.default_stack), Parallelism(tp=PLACES[name]))


def replica(name: str, most: float = 128.0) -> Replica:
    return Replica(load_model("llama-3.1-8b"), Precision(), machine(name), 512.0, 128.0, most)


@pytest.mark.parametrize("name", PLACES)
def test_a_whole_step_costs_what_the_engine_s_table_says(name: str) -> None:
    there, model = machine(name), load_model("llama-3.1-8b")
    table = StepTable(step_cost(model, Precision(), there, 1024, 16), there)
    decode = table.pieces(16, 16, [(16 * 700, 16)], None, 1)[0][1]
    mixed = table.pieces(16 + 512, 17 - 1, [(15 * 700, 15)], [(512 * 513 // 2, 0)], 1)[0][1]
    alone = seconds_of(mean_step(model, Precision(), there, 16.0, 700.0), model, there, 0.0)[0]
    assert alone == pytest.approx(decode * SECONDS_PER_TICK, rel=6e-3)
    both = seconds_of(mean_step(model, Precision(), there, 15.0, 700.0, 1.0, 512.0), model, there, 1.0)[0]
    assert both == pytest.approx(mixed * SECONDS_PER_TICK, rel=6e-3)


@pytest.mark.parametrize("name", PLACES)
def test_little_s_law_holds(name: str) -> None:
    there = replica(name)
    rates = np.array([0.01, 0.1, 1.0, 3.0])
    state = there.at_rate(rates)
    free = ~state.saturated
    assert (state.rate[free] == rates[free]).all()
    assert state.batch[free] == pytest.approx((state.rate * 128.0 * state.step_s)[free], rel=1e-6)
    again = there.at_batch(np.maximum(state.batch, 1.0))
    crowded = state.batch > 20  # where something always runs
    assert again.rate[crowded] == pytest.approx(state.rate[crowded], rel=1e-6)


def test_more_load_is_never_faster_and_never_costs_less_power() -> None:
    state = replica("h100-sxm-8").at_rate(np.geomspace(0.01, 200.0, 40))
    assert (np.diff(state.step_s) >= -1e-12).all()
    assert (np.diff(state.joules) >= -1e-9).all()
    assert (np.diff(state.rate) >= 0).all()
    assert state.saturated[-1]
    assert state.rate[-1] == pytest.approx(replica("h100-sxm-8").at_batch(1e9).rate[0])


def test_a_request_alone_waits_for_no_prompt_between_its_tokens() -> None:
    there = replica("xeon-6980p-2s")
    step = mean_step(there.architecture, Precision(), there.machine, 1.0, 512.0 + 64.0)
    alone = seconds_of(step, there.architecture, there.machine, 0.0)
    assert there.at_batch(1.0).token_s == pytest.approx(alone)
    assert there.at_rate(1e-6).token_s == pytest.approx(alone, rel=1e-3)
    assert there.at_batch(1.0).step_s > 1.02 * alone
    crowd = there.at_batch(100.0)
    assert crowd.token_s == pytest.approx(crowd.step_s, rel=0.02)


def test_tokens_take_as_long_as_in_events_where_few_requests_with_long_prompts_meet() -> None:
    """The node works for 46 % of the time; the mean step is 16 % longer than what a request sees between its tokens."""
    there = Replica(load_model("llama-3.1-8b"), Precision(), machine("xeon-6980p-2s"), 2048.0, 64.0, 16.0)
    rate = 0.1
    state = there.at_rate(rate)
    gaps = np.random.default_rng(7).exponential(1 / rate, 1500)
    table = StepTable(step_cost(there.architecture, Precision(), there.machine, 4096, 16), there.machine)
    arrivals = open_loop(np.cumsum(gaps), fixed(2048, 1500), fixed(64, 1500))
    requests = simulate(arrivals, table, BatchLimits(16, 4096), KvLimits(100_000, 16)).requests
    between = (requests.finish_s - requests.first_token_s) / 63
    assert state.token_s[0] == pytest.approx(between.mean(), rel=0.03)
    assert state.step_s[0] > 1.1 * between.mean()


def test_stages_that_wait_for_their_turn_draw_no_more_than_idle_power() -> None:
    """A token of one of few sequences passes eight stages as it passes one chip with all layers: at the joules of that
    chip, not of eight. Only what is sent between the stages comes beside it."""
    whole, cut = (
        Replica(
            load_model("llama-3.1-8b"),
            Precision(),
            replace(machine("h100-sxm-8"), parallelism=Parallelism(pp=pp)),
            1.0,
            1e4,
            128.0,
        )
        for pp in (1, 8)
    )
    one, few = whole.at_batch(1.0), cut.at_batch([1.0, 4.0, 64.0])
    worked = sum(few.of_all.flops.values()) / sum(few.step.flops.values())
    assert worked == pytest.approx([1 / 8, 1 / 2, 1.0], rel=1e-3)
    assert 8 * few.joules[:2] / few.rate[:2] == pytest.approx(one.joules[0] / one.rate[0], rel=0.03)


def test_a_mean_step_is_that_of_steps_with_and_without_a_prompt() -> None:
    """32 sequences of 128 output tokens meet a quarter of a prompt in a step."""
    there = replica("h100-sxm-8")
    alone, mixed = (
        seconds_of(
            mean_step(there.architecture, Precision(), there.machine, 32.0, 512.0 + 64.0, prompts, 512.0),
            there.architecture,
            there.machine,
            prompts,
        )[0]
        for prompts in (0.0, 1.0)
    )
    assert there.at_batch(32.0).step_s[0] == pytest.approx(0.75 * alone + 0.25 * mixed, rel=1e-12)


def test_an_idle_machine_answers_as_if_alone() -> None:
    there = replica("h100-sxm-8")
    state = there.at_rate(1e-6)
    step = mean_step(there.architecture, Precision(), there.machine, 0.0, 0.0, 1.0, 512.0)
    alone = seconds_of(step, there.architecture, there.machine, 1.0)
    assert state.first_s[0] == pytest.approx(alone[0], rel=1e-3)
    assert state.busy[0] < 1e-3


def test_a_study_in_closed_form_is_close_to_one_by_events(tmp_path: Path) -> None:
    """Equal lengths, Poisson arrivals, 2,000 requests: throughput within 3 %, tokens' times within 6 %."""
    (tmp_path / "chat.yaml").write_text(
        "model: [llama-3.1-8b, gpt-oss-20b]\nmachines: [{hardware: h100-sxm-8, tp: 1}]\nseed: 3\n"
        "traffic: {request_rate: 2 /s, isl: 512, osl: 64, requests: 2000}\n"
    )
    text = "study: sweep\nscenario: chat.yaml\naxes: {traffic.request_rate: [2 /s, 20 /s]}\n"
    text += "metrics: [output_throughput, tpot_mean_ms, energy_per_output_token_j, cost_per_mtok_usd]\n"
    tables = []
    for how in ("events", "steady"):
        (tmp_path / f"{how}.yaml").write_text(f"{text}evaluate: {how}\n")
        tables.append(sweep(tmp_path / f"{how}.yaml", tmp_path / how).table)
    events, steady = tables
    assert steady["output_throughput"].to_numpy() == pytest.approx(events["output_throughput"].to_numpy(), rel=0.03)
    assert steady["tpot_mean_ms"].to_numpy() == pytest.approx(events["tpot_mean_ms"].to_numpy(), rel=0.06)
    for column in ("energy_per_output_token_j", "cost_per_mtok_usd"):
        assert steady[column].to_numpy() == pytest.approx(events[column].to_numpy(), rel=0.08)


def test_requests_too_long_for_the_model_are_refused_among_shorter_ones(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(
        "model: gpt3-175b\nmachines: [{hardware: h200-sxm-8}]\n"
        "traffic: {concurrency: 4, isl: 512, osl: 2000, requests: 5}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "scenario: chat.yaml\nevaluate: steady\naxes: {traffic.osl: [2000, 256, 1536]}\n"
    )
    table = sweep(tmp_path / "study.yaml", tmp_path / "out").table
    assert list(table["error"].isna()) == [False, True, True]
    assert "2,048 tokens" in table["error"].iloc[0]


def test_points_with_drawn_lengths_are_computed_together_as_each_alone(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(
        "model: llama-3.1-8b\nmachines: [{hardware: h100-sxm-8, tp: 1}]\n"
        "traffic: {request_rate: 1 /s, requests: 40, isl: {lognormal: [300, 1], max: 4000}, osl: {uniform: [1, 99]}}\n"
    )
    study = {"scenario": str(tmp_path / "chat.yaml"), "evaluate": "steady"}
    axes = {"traffic.request_rate": ["1 /s", "9 /s"], "seed": [3, 4]}
    together = sweep({**study, "axes": axes}, tmp_path / "a").table
    for _, row in together.iterrows():
        one = {"traffic.request_rate": [f"{row['traffic.request_rate']} /s"], "seed": [row["seed"]]}
        (alone,) = sweep({**study, "axes": one}, tmp_path / "b").table.to_dict(orient="records")
        assert alone["tpot_mean_ms"] == pytest.approx(row["tpot_mean_ms"], rel=1e-8)
        assert alone["ttft_mean_ms"] == pytest.approx(row["ttft_mean_ms"], rel=1e-8)
    assert together["tpot_mean_ms"].nunique() == 4


def test_prompts_in_steps_of_their_own_come_on_top_of_the_steps_of_decoding() -> None:
    """64 sequences of 128 tokens, a look every 8 steps: four prompts at a time, for each 8 steps of decoding."""
    there, model = machine("h100-sxm-8"), load_model("llama-3.1-8b")
    stack = there.stack.model_copy(update={"chunked_prefill": False, "admission_interval": Known(8.0)})
    alone = Machine(there.profile, stack, there.parallelism)
    state = Replica(model, Precision(), alone, 512.0, 128.0, 128.0).at_batch(64.0)
    decode = seconds_of(mean_step(model, Precision(), alone, 64.0, 512.0 + 64.0), model, alone, 0.0)[0]
    prompts = seconds_of(mean_step(model, Precision(), alone, 0.0, 0.0, 4.0, 512.0), model, alone, 1.0)[0]
    assert state.step_s[0] == pytest.approx(decode + prompts / 8)
    assert state.first_s[0] == pytest.approx(4 * state.step_s[0] + prompts)


@pytest.mark.parametrize("rate", [0.2, 3.0, 15.0])
def test_prompts_in_steps_of_their_own_hold_up_tokens_as_in_the_engine(rate: float) -> None:
    there, count = machine("h100-sxm-8"), 1500
    alone = replace(there, stack=there.stack.model_copy(update={"chunked_prefill": False}))
    steady = replace(replica("h100-sxm-8"), machine=alone)
    table = StepTable(step_cost(steady.architecture, Precision(), alone, 8192, 128), alone)
    arrivals = np.cumsum(np.random.default_rng(1).exponential(1.0 / rate, count))
    arrivals *= count / rate / arrivals[-1]
    workload = open_loop(arrivals, fixed(512, count), fixed(128, count))
    limits = BatchLimits(128, 8192, chunked_prefill=False)
    seconds = tpot_s(simulate(workload, table, limits, KvLimits(1 << 16, 16)).requests)
    assert steady.at_rate(rate).token_s[0] == pytest.approx(seconds.mean(), rel=0.02)


def test_a_request_that_comes_when_the_last_is_answered_waits_for_no_step() -> None:
    steady = replica("h100-sxm-8")
    table = StepTable(step_cost(steady.architecture, Precision(), steady.machine, 8192, 128), steady.machine)
    workload = closed_loop(1, fixed(512, 20), fixed(128, 20))
    run = simulate(workload, table, BatchLimits(128, 8192, admission_least=8), KvLimits(1 << 16, 16)).requests
    patient = replace(steady.machine, stack=steady.machine.stack.model_copy(update={"admission_least": Known(8.0)}))
    state = replace(steady, machine=patient).at_batch(1.0)
    assert state.first_s[0] == pytest.approx(float(np.mean(run.first_token_s - run.arrival_s)), rel=0.01)


def test_no_more_prompts_run_together_than_there_are_requests() -> None:
    there = machine("h100-sxm-8")
    own = {"chunked_prefill": False}
    eager, patient = (
        replace(replica("h100-sxm-8"), machine=replace(there, stack=there.stack.model_copy(update=update)))
        for update in (own, own | {"admission_least": Known(8.0), "admission_interval": Known(400.0)})
    )
    assert patient.at_batch(1.0).rate == pytest.approx(eager.at_batch(1.0).rate)
    assert patient.at_batch(4.0).rate[0] > eager.at_batch(4.0).rate[0]


def test_the_collector_waits_for_steady_states_alone_and_comes_back(tmp_path: Path) -> None:
    steady, events = Evaluation(), Evaluation(Store(tmp_path / "store"))
    with events.without_collector():
        assert gc.isenabled()
    with pytest.raises(ValueError, match="a study that is wrong"), steady.without_collector():
        assert not gc.isenabled()
        raise ValueError("a study that is wrong")
    assert gc.isenabled()
