"""Training against measured runs: times, peaks of memory, scaling, and what rows mean."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.training.memory import memory_sheet
from simulator.cost.training.step import step_time
from simulator.model.training.recompute import PARTS
from simulator.train.step import as_recorded, event_time, step_events
from simulator.validation import MeasurementError, aliases, validate
from simulator.validation.kinds import kind_of
from simulator.validation.rows import Reason
from simulator.validation.training.fit import LIMIT, errors, fit, questions, start
from simulator.validation.training.kind import SCALE, SHIPPED, Training, in_closed_form, simulate
from simulator.validation.training.question import TrainingInterpreter, TrainingQuestion
from simulator.validation.training.rows import TrainingRow

GIB = 2.0**30


@pytest.fixture(scope="module")
def rows() -> list[TrainingRow]:
    return [row for row in Training().rows([SHIPPED, SCALE]) if isinstance(row, TrainingRow)]


@pytest.fixture(scope="module")
def asked(rows: list[TrainingRow]) -> dict[str, TrainingQuestion]:
    interpreter = TrainingInterpreter()
    found = {row.id: interpreter.ask(row) for row in rows}
    return {name: question for name, question in found.items() if isinstance(question, TrainingQuestion)}


def off(question: TrainingQuestion) -> float:
    """simulated / measured - 1."""
    seconds = simulate(question)
    assert isinstance(seconds, float)
    return seconds / question.row.value - 1.0


def test_the_columns_tell_a_file_of_training_runs() -> None:
    assert kind_of(SHIPPED) == "training"


def test_most_steps_in_events_take_what_the_closed_form_says(asked: dict[str, TrainingQuestion]) -> None:
    """They differ where an exchange does not fit beside the passes that hide it, or meets other traffic on its link."""
    differences = []
    for question in list(asked.values())[::12]:
        events, closed = simulate(question), in_closed_form(question)
        if isinstance(events, float) and isinstance(closed, float):
            differences.append(events / closed - 1.0)
    assert len(differences) > 40
    assert np.mean(np.abs(differences) < 0.01) > 0.9
    assert max(differences) > 0.01


@pytest.mark.parametrize(
    "name",
    [
        "bloom-bench-0228-h13312-l82-a64-dp8-tp4-pp12-mbs2-g2048-bf16",
        "mbridge-25.11-h100-llama3.1-405b-fp8-n1024-g512-pt",
        "mbridge-26.04.01-b200-deepseekv3-mxfp8-n256-g4096-pt",
    ],
)
def test_a_long_step_is_two_short_ones(asked: dict[str, TrainingQuestion], name: str) -> None:
    question = asked[name]
    parts = question.architecture, question.recipe, question.layout, question.machine
    schedule = question.recipe.schedule
    cost = step_time(*parts)
    record = step_events(cost, *parts, schedule)
    whole = as_recorded(cost, record.seconds, record.pipeline_s)
    short = event_time(*parts, schedule)
    assert short.seconds == pytest.approx(whole.seconds, rel=2e-3)
    assert short.gradients == pytest.approx(whole.gradients, rel=0.02)


@pytest.mark.parametrize(
    ("prefix", "pattern", "unit"),
    [("simumax", r"peak alloc ([\d.]+) GiB", GIB), ("bloom", r"peak memory ([\d.]+)GB", 1e9)],
)
def test_peaks_of_memory(asked: dict[str, TrainingQuestion], prefix: str, pattern: str, unit: float) -> None:
    found = []
    for name, question in asked.items():
        peak = re.search(pattern, question.row.note)
        if name.startswith(prefix) and peak:
            sheet = memory_sheet(question.architecture, question.recipe, question.layout, question.machine)
            found.append(sheet.total / (float(peak[1]) * unit) - 1.0)
    assert len(found) > 15
    assert np.median(np.abs(found)) < 0.03
    assert np.max(np.abs(found)) < 0.14


def test_four_hundred_billion_parameters_from_512_to_8192_chips(asked: dict[str, TrainingQuestion]) -> None:
    """MLPerf: the same layout with more replicas loses 11 % of its rate."""
    series = [asked[f"mlperf-v5.0-llama31_405b-h100-n{chips}-nvidia-iter"] for chips in (512, 2048, 2432, 2560, 8192)]
    assert max(abs(off(question)) for question in series) < 0.04


def test_gpt3_from_256_to_10752_chips(asked: dict[str, TrainingQuestion]) -> None:
    """MLPerf: fewer micro-batches a replica, and an exchange that stays, cost a quarter of the rate. v3.1 is predicted
    by a stack fitted to other models; v4.1's has two numbers, from its two smallest runs."""
    rounds = {
        "v3.1": [f"mlperf-v3.1-gpt3-h100-n{chips}-nvidia-iter" for chips in (512, 4096, 8192, 10752)],
        "v4.1": [f"mlperf-v4.1-gpt3-h100-n{chips}-nvidia-iter" for chips in (256, 512)]
        + [f"mlperf-v4.1-gpt3-h100-n{chips}-oracle-iter" for chips in (1536, 3072)],
    }
    for name, worst in (("v3.1", 0.03), ("v4.1", 0.07)):
        assert max(abs(off(asked[run])) for run in rounds[name]) < worst
    for runs, measured, near in ((rounds["v3.1"], 0.726, 0.02), (rounds["v4.1"], 0.749, 0.06)):
        rates = []
        for question in (asked[runs[0]], asked[runs[-1]]):
            seconds = simulate(question)
            assert isinstance(seconds, float)
            rates.append(question.recipe.global_batch / seconds / question.machine.chips)
        assert rates[1] / rates[0] == pytest.approx(measured, abs=near)


def test_slices_over_a_data_centre_network(asked: dict[str, TrainingQuestion]) -> None:
    """MaxText on v5e: 1 to 32 slices of 256 chips, three sizes."""
    found = [off(q) for name, q in asked.items() if name.startswith("maxtext-v5e")]
    assert len(found) == 18
    assert np.median(np.abs(found)) < 0.03
    assert np.max(np.abs(found)) < 0.08


def test_rates_of_flops_are_undone_with_their_own_formula(asked: dict[str, TrainingQuestion]) -> None:
    """Narayanan 2021: 1,008 B on 3,072 chips at 163 TFLOP/s, 96 B s L h^2 (1 + s/6h + V/16Lh) FLOPs a step."""
    question = asked["narayanan21-t1-1008b"]
    flops = 96 * 3072 * 2048 * 128 * 25600**2 * (1 + 2048 / (6 * 25600) + 51200 / (16 * 128 * 25600))
    assert question.row.unit == "s"
    assert question.row.value == pytest.approx(flops / 3072 / 163e12, rel=1e-3)


def test_shares_of_the_peak_are_undone_with_their_own_formula(asked: dict[str, TrainingQuestion]) -> None:
    """Korthikanti 2022: 530B on 2,240 A100 at 54.2 % of 312 TFLOP/s takes 39.15 s (the paper's own time, recalled)."""
    assert asked["korth22-530b-dp8-sel"].row.value == pytest.approx(39.15, rel=0.002)
    assert asked["palm-540b-mfu"].row.unit == "s"


def test_scripts_of_runs_use_words_that_exist() -> None:
    for entry in aliases.table("training_recipes"):
        parts = {part for part in entry["recompute"].split("+") if part}
        assert parts <= PARTS.keys() or parts <= {"selective", "full"}, entry
        assert entry["graphs"] in ("none", "partial", "full"), entry
        assert {entry["once"], entry["overlap"]} <= {"", "y"}, entry
        assert entry["note"], entry


def test_the_most_telling_script_of_a_run_counts(asked: dict[str, TrainingQuestion]) -> None:
    """Megatron-Bridge: the release, chip, model and format of a row find what its script recomputes and captures."""
    found = asked["mbridge-26.06-gb200-deepseekv3-mxfp8-n256-g4096-pt"].recipe
    assert (found.recompute, found.graphs, found.predictors, found.once) == ({"mla_up_proj"}, "full", 1, True)
    older = asked["mbridge-26.04-gb200-deepseekv3-mxfp8-n256-g4096-pt"].recipe
    assert (older.graphs, older.overlap) == ("partial", False)
    assert asked["mbridge-25.11-gb200-deepseekv3-mxfp8-n256-g4096-pt"].recipe.predictors == 0  # "w/o MTP"
    assert asked["mbridge-26.04.01-gb300-nemotron-3-super-nvfp4-n64-g512-pt"].recipe.wide_layers == 14


def test_what_is_no_step_has_a_reason(rows: list[TrainingRow]) -> None:
    told = [row for row in rows if row.id in ("palm-540b-hours", "palm-540b-tps")]
    points = {point.row.id: point for point in Training().points(told)}
    assert "no time or a rate" in points["palm-540b-hours"].reason.replace("not a", "no")
    assert points["palm-540b-tps"].row.apart  # recalled


def test_a_broken_file_says_where(tmp_path: Path) -> None:
    header = "hardware,model,global_batch_seqs,micro_batch,recompute,metric,value,unit"
    path = tmp_path / "runs.csv"
    path.write_text(f"{header}\nh100-sxm-80g,GPT-175B,64,1,none,iteration_time_s,fast,s\n")
    with pytest.raises(MeasurementError, match=r"runs.csv:2: value 'fast' is no positive number"):
        validate([path])


def test_a_fit_finds_the_numbers_that_made_the_times() -> None:
    made = [q for q in questions("llm-foundry-2023") if q.machine.profile.name == "a100-sxm-40g-8"][::4]
    truth = {"matmul.bf16": 0.7, "attention": 0.25}
    seconds = errors(made, truth)  # log(time with these numbers / measured)
    made = [
        replace(question, row=replace(question.row, value=question.row.value * float(np.exp(log))))
        for question, log in zip(made, seconds, strict=True)
    ]
    found = fit(made, start(made, ["matmul", "attention"]))
    assert found.numbers["matmul.bf16"] == pytest.approx(0.7, rel=0.02)
    assert found.numbers["attention"] == pytest.approx(0.25, rel=0.15)  # a small part of these steps
    assert np.abs(found.errors).max() < 0.005
    assert np.abs(found.left_out).max() < 0.02


def test_a_pull_keeps_numbers_that_the_rows_do_not_ask_to_move() -> None:
    made = [q for q in questions("llm-foundry-2023") if q.machine.profile.name == "a100-sxm-40g-8"][::8]
    begin = {"matmul.bf16": 0.6} | start(made, ["elementwise"])
    free, held = (fit(made, begin, leave_out=False, pull=pull).numbers for pull in (0.0, 10.0))
    assert abs(held["matmul.bf16"] - 0.6) < 0.01 < abs(free["matmul.bf16"] - 0.6)


def test_numbers_that_refuse_a_row_are_no_better_for_it(asked: dict[str, TrainingQuestion]) -> None:
    some = list(asked.values())[:3]
    found = errors(some, {}, lambda q: Reason("does not fit") if q.row == some[0].row else q.row.value)
    assert found.tolist() == [LIMIT, 0.0, 0.0]
