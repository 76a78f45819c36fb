"""Messages: what chips send, what crosses the middle of them, and that no fabric carries it faster than it can."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.api import load, run, sweep
from simulator.cost.amount import add
from simulator.cost.bisection import bandwidth, crossing, sent
from simulator.cost.collective import collective
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of
from simulator.hardware.catalogue import Catalogue, packaged_folder
from simulator.model.architecture import Architecture
from simulator.model.assembly import Change, with_ffns
from simulator.model.ffn.kind import FFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.peer import Peer
from simulator.model.ffn.product_key_memory import ProductKeyMemory
from simulator.model.ffn.tree import TreeFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Collective
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks
from tests.cost_machines import machine

STUDIES = packaged_folder("scenarios") / "studies"
HIDDEN, LAYERS = 4096, 36  # of Qwen3-8B
VECTOR = HIDDEN * 2.0


def laid_out(hardware: str, parallelism: Parallelism) -> Machine:
    profile = Catalogue([STUDIES / "cases"]).load(hardware)
    return Machine(profile, Stacks([]).load(profile.default_stack), parallelism)


def changed(ffn: FFN, layers: int = LAYERS) -> Architecture:
    qwen = load_model("qwen3-8b")
    return with_ffns(qwen, [Change(ffn, tuple(range(layers)), ffn.beside)])


def of_a_step(model: Architecture, parallelism: Parallelism, tokens: float = 64.0) -> Any:
    """What all operations of a step of one token for each of so many sequences amount to on one chip."""
    chip = replace(machine("h100-sxm-8"), parallelism=parallelism)
    work = add(cost_of(o, chip) for o in model.forward(Batch(tokens, tokens), parallelism, Precision()))
    return work.of_chips(parallelism.at_work(tokens))


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16])
def test_an_all_to_all_counted_pair_by_pair(n: int) -> None:
    """Chip i hands 1/n of its buffer to each other chip; half of the chips are on each side."""
    operation, half = Collective("x", "all_to_all", 1.0, n), n // 2
    pairs = [(i, j) for i, j in product(range(n), range(n)) if i != j]
    assert sent(operation) * n == pytest.approx(len(pairs) / n)
    assert crossing(operation, n) == pytest.approx(sum(i < half <= j for i, j in pairs) / n)
    if n % 2 == 0:
        assert crossing(operation, n) == n / 4


@pytest.mark.parametrize("n", [2, 4, 8, 64])
def test_a_ring_sends_over_its_middle_what_each_chip_sends(n: int) -> None:
    """Chunks of S/n go round: n - 1 hops in a gather or scatter, twice in an all-reduce; one link leads each way."""
    for pattern, rounds in (("all_gather", 1), ("reduce_scatter", 1), ("all_reduce", 2)):
        operation = Collective("x", pattern, 3.0, n)
        links = np.zeros(n)
        for _hop in range(rounds * (n - 1)):
            links += 3.0 / n  # every chip hands one chunk to the next
        assert sent(operation) == pytest.approx(links[0])
        assert crossing(operation, n) == pytest.approx(links[n // 2 - 1])


def test_groups_beside_each_other_cross_nothing_and_woven_ones_all() -> None:
    beside = Collective("x", "all_reduce", 1.0, 8)
    assert crossing(beside, 16) == 0
    assert crossing(beside, 24) == crossing(beside, 8)  # the middle one of three
    assert crossing(replace(beside, stride=2), 16) == 2 * crossing(beside, 8)


def test_a_pipeline_carries_every_micro_batch_over_each_border_once() -> None:
    """8 stages of 2 chips; in a step 8 micro-batches of S bytes pass 7 borders, over both chips of a stage."""
    hop = Collective("stage to stage", "send_receive", 1.0, 8, repeat=7, stride=2)
    assert 7 * sent(hop) * 16 == 8 * 7 * 2
    assert 7 * crossing(hop, 16) == pytest.approx(8 * 2)


@pytest.mark.parametrize(
    ("hardware", "parallelism", "expected"),
    [
        ("h100-sxm-8", Parallelism(tp=8), 4 * 450e9),
        ("h100-sxm-8", Parallelism(tp=8, dp=4, ep=32), 2 * 8 * 50e9),  # four machines: the cards of two
        ("tpu-v5p-64", Parallelism(tp=16), 2 * 4 * 90e9),  # four rings of four, cut twice
        ("tpu-v5p-64", Parallelism(tp=64), 2 * 16 * 90e9),
        ("tpu-v6e-16", Parallelism(tp=16), 4 * 90e9),  # a mesh has no second way round
        ("xeon-6980p-2s", Parallelism(tp=2), 248e9),
        ("xeon-6980p-2s-ethernet", Parallelism(tp=16), 4 * 25e9),
        ("h100-sxm-8", Parallelism(), float("inf")),
    ],
)
def test_bandwidth_through_the_middle(hardware: str, parallelism: Parallelism, expected: float) -> None:
    assert bandwidth(laid_out(hardware, parallelism)) == pytest.approx(expected)


@pytest.mark.parametrize("pattern", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("hardware", ["h100-sxm-8", "tpu-v5p-64", "tpu-v6e-16", "xeon-6980p-2s-ethernet", "b200-sxm-8"])
def test_no_message_is_faster_than_the_middle_of_its_fabric(hardware: str, pattern: str) -> None:
    for chips, size in product((2, 4, 8, 16), (1e4, 1e6, 1e9)):
        there = laid_out(hardware, Parallelism(tp=chips))
        operation = Collective("x", pattern, size, chips)
        least = float(crossing(operation, chips)) / bandwidth(there)
        if pattern == "all_reduce" and there.profile.node.fabric.reduces:
            least /= 2 * (chips - 1) / chips  # a switch that adds up needs each byte once
        assert float(collective(operation, there).total_seconds) >= least * (1 - 1e-9)


# --- of models --------------------------------------------------------------------------------------------------------


def test_tensor_parallelism_sums_each_vector_twice_a_layer() -> None:
    for chips in (2, 4, 8):
        work = of_a_step(load_model("qwen3-8b"), Parallelism(tp=chips))
        assert set(work.sent) == {"all_reduce"}
        assert work.sent["all_reduce"] * chips / 64 == pytest.approx(2 * LAYERS * 2 * (chips - 1) * VECTOR)
        assert work.crossed / 64 == pytest.approx(2 * LAYERS * 2 * (chips - 1) / chips * VECTOR)


def test_expert_parallelism_sends_a_vector_to_each_choice_and_back() -> None:
    model = changed(MoEFFN(128, 8, 1536))
    for chips in (16, 64):
        work = of_a_step(model, Parallelism(dp=chips, ep=chips))
        assert work.sent["all_to_all"] * chips / 64 == pytest.approx(2 * LAYERS * 8 * (chips - 1) / chips * VECTOR)
        assert work.crossed / 64 == pytest.approx(2 * LAYERS * 8 / 4 * VECTOR)  # whatever the number of chips


def test_rows_of_a_shared_memory_travel_as_sums() -> None:
    rows = changed(ProductKeyMemory(keys=256, width=512, heads=4, top_m=32, shard="row"))
    columns = changed(ProductKeyMemory(keys=256, width=512, heads=4, top_m=32, shard="column"))
    by_row, by_column = (of_a_step(model, Parallelism(dp=8)) for model in (rows, columns))
    indices = LAYERS * 4 * 32 * 6.0 * 7  # to seven others
    assert by_row.sent["all_gather"] * 8 / 64 == by_column.sent["all_gather"] * 8 / 64 == pytest.approx(indices)
    assert by_row.sent["reduce_scatter"] * 8 / 64 == pytest.approx(LAYERS * 512 * 2.0 * 7)
    assert by_column.sent["all_to_all"] * 8 / 64 == pytest.approx(LAYERS * 512 * 2.0 * 7 / 8)  # an eighth: no sums
    assert set(of_a_step(columns, Parallelism(tp=8)).sent) == {"all_reduce"}  # every chip has the tokens and its slice


def test_n_grams_and_trees_send_what_they_look_up() -> None:
    tables = of_a_step(changed(NgramTable(rows=1000, width=160), 2), Parallelism(dp=8))
    assert tables.sent["all_to_all"] * 8 / 64 == pytest.approx(2 * 16 * 160 * 2.0 * 7 / 8)
    tree = of_a_step(changed(TreeFFN(depth=11)), Parallelism(dp=8))
    assert tree.sent["all_to_all"] * 8 / 64 == pytest.approx(2 * LAYERS * VECTOR * 7 / 8)
    assert tree.sent["all_reduce"] * 8 / 64 == pytest.approx(LAYERS * 12 * 4.0 * 2 * 7)


def test_single_neurons_are_summed_by_slices_or_carried_whole() -> None:
    by_column = of_a_step(changed(Peer(keys=64, heads=8, top_m=16)), Parallelism(dp=8))
    by_row = of_a_step(changed(Peer(keys=64, heads=8, top_m=16, shard="row")), Parallelism(dp=8))
    assert by_column.sent["all_to_all"] * 8 / 64 == pytest.approx(2 * LAYERS * VECTOR * 7 / 8)
    assert by_column.sent["all_reduce"] * 8 / 64 == pytest.approx(LAYERS * 128 * 4.0 * 2 * 7)
    indices = LAYERS * 128 * 6.0 * 7
    assert by_column.sent["all_gather"] * 8 / 64 == pytest.approx(indices)
    assert by_row.sent["all_gather"] * 8 / 64 == pytest.approx(LAYERS * VECTOR * 7 + indices)
    assert by_row.sent["reduce_scatter"] * 8 / 64 == pytest.approx(LAYERS * VECTOR * 7)


@pytest.mark.parametrize(
    ("ffn", "parallelism"),
    [
        (MoEFFN(128, 8, 1536), Parallelism(dp=16, ep=16)),
        (MoEFFN(128, 8, 1536), Parallelism(dp=16)),
        (MoEFFN(128, 8, 1536), Parallelism(tp=2, dp=4, ep=8)),
        (ProductKeyMemory(keys=256, width=512, shard="row"), Parallelism(dp=16)),
        (TreeFFN(depth=5), Parallelism(dp=16)),
        (Peer(keys=64), Parallelism(dp=16)),
        (Peer(keys=64, shard="row"), Parallelism(tp=2, dp=4)),
        (MoEFFN(128, 8, 1536), Parallelism(tp=2, pp=4)),
    ],
)
def test_bytes_of_a_token_do_not_depend_on_the_others(ffn: FFN, parallelism: Parallelism) -> None:
    """Not even where a batch leaves copies and stages idle."""
    model = changed(ffn)
    alone, many = (of_a_step(model, parallelism, tokens) for tokens in (1.0, 4096.0))
    assert alone.sent.keys() == many.sent.keys()
    for pattern, moved in many.sent.items():
        assert moved / 4096 == pytest.approx(alone.sent[pattern])
    assert many.crossed / 4096 == pytest.approx(alone.crossed)


def test_barriers_do_not_reach_into_other_machines() -> None:
    cores = [
        laid_out("xeon-6980p-2s-ethernet", Parallelism(tp=tp, dp=dp)).cores for tp, dp in ((2, 1), (16, 1), (1, 16))
    ]
    assert cores == [256, 256, 128]


# --- of runs ----------------------------------------------------------------------------------------------------------


def test_events_and_closed_forms_count_the_same_bytes(tmp_path: Path) -> None:
    file = tmp_path / "experts.yaml"
    file.write_text(
        "model: gpt-oss-120b\nmachines: [{hardware: h100-sxm-8, tp: 1, dp: 8, ep: 8}]\n"
        "traffic: {concurrency: 64, isl: 64, osl: 64, requests: 256}\n"
    )
    events = run(load(file)).runs[0].summary["messages"]
    steady = sweep({"scenario": str(file), "evaluate": "steady"}).table.iloc[0]
    for name in (
        "link_bytes_per_output_token",
        "bisection_bytes_per_output_token",
        "all_to_all_bytes_per_output_token",
    ):
        assert events[name] * 128 == pytest.approx(steady[name] * 127)  # a prompt's step emits the first token
    assert events["network_share"] == pytest.approx(steady["network_share"], rel=0.1)
    assert events["network_energy_per_output_token_j"] == pytest.approx(
        steady["network_energy_per_output_token_j"], rel=0.1
    )
    every = (
        sum(value for name, value in events.items() if name.endswith("_bytes_per_output_token"))
        - events["bisection_bytes_per_output_token"]
    )
    assert every == pytest.approx(2 * events["link_bytes_per_output_token"])  # the whole and its parts
    assert 0 < events["bisection_utilisation"] < events["network_share"] < 1


def test_a_pipeline_that_waits_sends_what_a_full_one_does_for_a_token(tmp_path: Path) -> None:
    file = tmp_path / "stages.yaml"
    file.write_text(
        "model: qwen3-8b\nmachines: [{hardware: h100-sxm-8, tp: 1, pp: 8}]\n"
        "traffic: {concurrency: 1, isl: 16, osl: 496, requests: 10}\n"
    )
    study = {"scenario": str(file), "evaluate": "steady", "axes": {"traffic.concurrency": [1, 4, 64, 512]}}
    table = sweep(study).table
    vectors = VECTOR * 512 / 496  # prompt and answer
    assert list(table["bisection_bytes_per_output_token"]) == pytest.approx([vectors] * 4)
    assert list(table["send_receive_bytes_per_output_token"]) == pytest.approx([7 * vectors] * 4)


def test_a_single_chip_sends_nothing(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "model: llama-3.1-8b\nmachines: [{hardware: h100-sxm-8, tp: 1}]\n"
        "traffic: {concurrency: 4, isl: 64, osl: 16, requests: 8}\n"
    )
    assert run(load(file)).runs[0].summary["messages"] is None
