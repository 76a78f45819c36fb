"""Copies of busy experts: who is copied, where copies lie, what they weigh, and how far they even out the ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.api import load, run
from simulator.cost.collective import collective
from simulator.cost.matmul import matmul
from simulator.cost.step import cost_of
from simulator.errors import InputError
from simulator.model.architecture import Architecture
from simulator.model.assembly import with_popularity
from simulator.model.ffn.moe import MoEFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Collective, Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.popularity import Uniform, Zipf
from simulator.model.replication import balanced, busiest, copies, in_slots
from simulator.model.routing import inclusion
from simulator.model.zoo import load_model
from simulator.quantity import Known
from tests.cost_machines import machine

SKEWED = Zipf(zipf=Known(0.7))
EP144 = Parallelism(dp=144, ep=144, redundant_experts=32)
EP128 = Parallelism(dp=128, ep=128)

SCENARIO = """\
model: {base: deepseek-v3, popularity: {zipf: 0.7}}
machines:
  - {hardware: b200-sxm-8, tp: 1, dp: 144, ep: 144, redundant_experts: 32}
traffic: {concurrency: 288, isl: 100, osl: 20, requests: 288}
"""


def deepseek(popularity: Uniform | Zipf = SKEWED) -> Architecture:
    return with_popularity(load_model("deepseek-v3"), popularity)


def experts(layout: Parallelism, tokens: float = 4096.0) -> Matmul:
    operations = deepseek().forward(Batch(tokens), layout, Precision())
    return next(o for o in operations if isinstance(o, Matmul) and o.name == "experts up")


def test_the_busiest_copy_is_copied_again() -> None:
    chances = np.array([0.6, 0.3, 0.1])
    assert copies(chances, 2).tolist() == [3, 1, 1]  # 0.6 -> 0.3, 0.3 beside 0.3: the first of the busiest
    assert in_slots(chances, 2).tolist() == pytest.approx([0.2, 0.2, 0.2, 0.3, 0.1])
    assert balanced(np.array([0.2, 0.2, 0.2, 0.3, 0.1, 0.0]), 3).tolist() == pytest.approx([0.3, 0.4, 0.3])


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.7, 1.2])
def test_fast_and_slow_balancing_agree(exponent: float) -> None:
    """The same greedy rules written as sentences: whole arrays are searched for each slot."""
    chances = inclusion(256, 8, exponent)
    counts = np.ones(256, dtype=int)
    for _ in range(32):
        counts[np.argmax(chances / counts)] += 1
    slots = np.sort(np.repeat(chances / counts, counts))[::-1]
    loads, held = np.zeros(144), np.zeros(144, dtype=int)
    for slot in slots:
        rank = int(np.argmin(np.where(held < 2, loads, np.inf)))
        loads[rank] += slot
        held[rank] += 1
    assert (copies(chances, 32) == counts).all()
    assert busiest(chances, 144, 32) == pytest.approx(144 * loads.max() / 8)
    assert loads.sum() == pytest.approx(8)  # every token meets its eight experts, whoever holds them


def test_without_skew_144_chips_lose_what_the_copies_make_uneven() -> None:
    """32 of 256 experts are two halves; a chip with two whole ones has 2 * 8/256 of 8/144."""
    assert busiest(inclusion(256, 8, 0.0), 144, 32) == pytest.approx(2 * 144 / 256)
    assert busiest(inclusion(256, 8, 0.0), 128) == pytest.approx(1)


def test_copies_even_out_what_popularity_skews() -> None:
    chances = inclusion(256, 8, 0.7)
    alone = busiest(chances, 128)
    assert 128 * chances[0] / 8 < alone < 128 * (chances[0] + chances[1]) / 8  # the most popular has a chip to itself
    assert busiest(chances, 144, 32) < alone / 5
    evened = [busiest(chances, 128, redundant) for redundant in (128, 256, 512)]
    assert evened == sorted(evened, reverse=True) and evened[-1] < 1.01


def test_a_chip_of_ep144_holds_two_experts_and_a_chip_of_ep128_too() -> None:
    model = deepseek()
    wide, narrow = (model.weight_bytes_per_chip(Precision(), layout)["expert"] for layout in (EP144, EP128))
    assert wide == pytest.approx(narrow)
    assert wide * 144 == pytest.approx(model.weight_bytes(Precision())["expert"] * 288 / 256)
    fewest = replace(EP144, redundant_experts=None)
    assert model.weight_bytes_per_chip(Precision(), fewest)["expert"] == wide  # 32 is the fewest, as DeepSeek has it
    for name, count in (("kimi-k2", 48), ("gpt-oss-120b", 16), ("llama-4-maverick", 16)):
        assert (
            fewest.redundant(next(x.ffn for x in load_model(name).layers if isinstance(x.ffn, MoEFFN)).experts) == count
        )
        assert not fewest.check(load_model(name))


def test_copies_move_work_and_make_none() -> None:
    wide, narrow = experts(EP144), experts(EP128)
    assert wide.m * 144 == pytest.approx(narrow.m * 128) == pytest.approx(4096 * 8)
    assert wide.groups == pytest.approx(2, rel=1e-6)  # all are touched
    few = experts(EP144, 16.0)
    slots = in_slots(inclusion(256, 8, 0.7), 32)
    assert few.groups * 144 == pytest.approx((1 - (1 - slots) ** 16).sum())
    assert wide.load == busiest(inclusion(256, 8, 0.7), 144, 32) < narrow.load


def test_the_busiest_rank_computes_more_reads_no_more_and_sends_no_more_in_all() -> None:
    chip = machine("b200-sxm-8")
    even = Matmul("experts", 1e6, 4096, 4096, "bf16", "expert")
    busy = replace(even, load=1.5)
    assert matmul(busy, chip).total_seconds == pytest.approx(1.5 * float(matmul(even, chip).total_seconds), rel=1e-3)
    assert matmul(busy, chip).flops == matmul(even, chip).flops
    alone = replace(even, m=1.0)
    assert float(matmul(replace(alone, load=1.5), chip).total_seconds) == pytest.approx(
        float(matmul(alone, chip).total_seconds), rel=1e-3
    )  # bound by the matrix, which is read once
    wide = replace(chip, parallelism=EP128)
    message = Collective("experts dispatch", "all_to_all", 1e9, 128)
    more = collective(replace(message, load=2.0), wide)
    assert more.total_seconds == pytest.approx(float(collective(message, wide).total_seconds) * 2, rel=0.01)
    assert more.sent == collective(message, wide).sent


def test_ranks_are_even_unless_a_popularity_is_given() -> None:
    assert MoEFFN(256, 8, 2048).load(EP128) == 1.0
    assert MoEFFN(256, 8, 2048, popularity=Uniform()).load(EP128) == 1.0
    assert MoEFFN(256, 8, 2048, popularity=SKEWED).load(Parallelism(dp=128)) == 1.0
    assert MoEFFN(256, 8, 2048, popularity=SKEWED).load(EP128) > 5


def test_a_step_on_144_chips_with_copies_is_faster_than_on_128_without() -> None:
    def seconds(layout: Parallelism) -> float:
        chips = machine("b200-sxm-8")
        chips = replace(chips, parallelism=layout)
        operations = deepseek().forward(Batch(16384.0, 16384.0), layout, Precision(weights="fp8"))
        return sum(float(cost_of(operation, chips).total_seconds) for operation in operations)

    assert seconds(EP144) < 0.6 * seconds(EP128)
    assert seconds(replace(EP128, redundant_experts=128)) < seconds(EP144)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("redundant_experts: 32", "redundant_experts: 30", "nearest redundant_experts: 32"),
        ("redundant_experts: 32", "redundant_experts: 40000", "nearest redundant_experts: 36608"),
        (", redundant_experts: 32", "", "ep 144 does not divide the 256 experts; nearest ep: 128 or 256, or redundant"),
        ("dp: 144, ep: 144", "dp: 8, ep: 1", "redundant_experts 32, but ep 1 has no ranks to share them; write ep"),
        ("redundant_experts: 32", "redundant_experts: -1", "redundant_experts"),
        ("redundant_experts: 32", "redundant_experts: some", "redundant_experts"),
        ("zipf: 0.7", "zipf: -1", "zipf: -1 is not zero or more"),
        ("deepseek-v3", "llama-3.1-8b", "popularity of experts, but llama-3.1-8b has none; leave popularity out"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_where_they_stand(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text(SCENARIO.replace(old, new))
    with pytest.raises(InputError) as caught:
        run(load(file))
    assert said in str(caught.value)
    assert "wide.yaml:" in str(caught.value)


def test_a_scenario_with_copies_runs(tmp_path: Path) -> None:
    file = tmp_path / "wide.yaml"
    for copied in ("32", "auto"):
        file.write_text(SCENARIO.replace("redundant_experts: 32", f"redundant_experts: {copied}"))
        summary = run(load(file)).runs[0].summary
        assert summary["output_throughput"] > 0
        assert summary["layout"].startswith("dp144 ep144 +")
