"""Look-up FFNs: their totals are the published ones, what a batch reads follows from the popularity, and what is
written wrong in a scenario is answered with its place."""

from __future__ import annotations

import csv
import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simulator.api import load, run
from simulator.errors import InputError
from simulator.model.architecture import Architecture
from simulator.model.assembly import Change, with_ffns
from simulator.model.ffn import FFN, FFN_KINDS
from simulator.model.ffn.choice import CHOICES, written
from simulator.model.ffn.hash_moe import HashMoEFFN, chances
from simulator.model.ffn.kind import Visit
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.peer import Peer
from simulator.model.ffn.product_key_memory import ProductKeyMemory
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Collective, Gather, Matmul, Vector
from simulator.model.parallelism import Parallelism
from simulator.model.popularity import Trace, Uniform, Zipf, unique_rows
from simulator.model.routing import touched
from simulator.model.zoo import load_model
from simulator.quantity import Known
from simulator.scenario import read_scenario
from simulator.serve import prepare

BF16 = Precision()
ALONE = Parallelism()
UNIFORM = Uniform()
ENGRAM = NgramTable(rows=1_113_281, width=160, branches=4)


def zipf(exponent: float) -> Zipf:
    return Zipf(zipf=Known(exponent))


@cache
def llama() -> Architecture:
    return load_model("llama-3.1-8b")


def visit(tokens: float, parallelism: Parallelism = ALONE, hidden: int = 2560) -> Visit:
    return Visit(hidden, tokens / parallelism.dp, tokens, parallelism, BF16)


def gathers(ffn: FFN, at: Visit) -> list[Gather]:
    return [operation for operation in ffn.operations(at) if isinstance(operation, Gather)]


# --- distinct rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "draws", "published"),
    [
        (0.0, 16384, 16383),
        (0.6, 16384, 16350),
        (0.8, 16384, 15507),
        (1.0, 16384, 10421),
        (1.1, 16384, 6780),
        (0.8, 1048576, 846601),
        (1.0, 1048576, 437422),
        (1.1, 1048576, 239207),
    ],
)
def test_distinct_rows_of_a_large_table(exponent: float, draws: int, published: int) -> None:
    """zipf_cache.csv: a table of 1e8 rows, summed rank by rank."""
    assert unique_rows(1e8, draws, exponent) == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.3])
def test_distinct_rows_summed_rank_by_rank(exponent: float) -> None:
    weight = np.arange(1, 20_001) ** -exponent
    chance = weight / weight.sum()
    for draws in (1.0, 30.0, 4000.0):
        assert unique_rows(20_000, draws, exponent) == pytest.approx((1 - (1 - chance) ** draws).sum(), rel=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_distinct_rows_are_fewer_than_the_draws_and_the_rows(exponent: float) -> None:
    draws = np.arange(2000.0)
    found = unique_rows(500, draws, exponent)
    assert (np.diff(found) >= 0).all()
    assert (found <= np.minimum(draws, 500)).all()
    assert found[0] == 0 and found[1] == pytest.approx(1.0, rel=1e-9)
    assert unique_rows(500, draws[700], exponent) == found[700]


def test_experts_of_the_reference(request: pytest.FixtureRequest) -> None:
    """moe_unique_experts.csv, sparse-ffn.md section 1."""
    text = (request.path.parent / "data" / "moe_unique_experts.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) > 50
    for row in rows:
        found = touched(int(row["experts"]), int(row["top_k"]), float(row["batch_tokens"]))
        assert found == pytest.approx(float(row["E_unique_uniform"]), abs=0.006)


# --- published totals -------------------------------------------------------------------------------------------------


def test_engram_tables_are_as_large_as_published() -> None:
    """Engram, arXiv:2601.07372: 5.7 B parameters in the tables of two layers, 18.5 B in the larger model."""
    assert 2 * ENGRAM.memory_parameters(2560) == pytest.approx(5.7e9, rel=1e-3)
    assert 2 * replace(ENGRAM, rows=3_613_281).memory_parameters(2560) == pytest.approx(18.5e9, rel=1e-3)
    assert (ENGRAM.tables, ENGRAM.values) == (16, 2560)


def test_other_ngram_tables_are_as_large_as_published() -> None:
    """qwen4_exp: 41e9 in a layer, rows of 256 B; DeepSeek-V4.1-Flash: 196 B in two layers, 189 GiB with its scales."""
    qwen = NgramTable(rows=20_000_000, width=128, branches=4)
    assert qwen.memory_parameters(2048) == pytest.approx(41e9, rel=2e-3)
    assert gathers(qwen, visit(1))[0].row_bytes == 256
    flash = NgramTable(rows=16_000_000, width=256, orders=(2, 3, 4))
    precision = Precision(tensors=(("table", "mxfp8"),))
    assert 2 * flash.memory_parameters(1) == pytest.approx(196e9, rel=5e-3)
    assert 2 * flash.memory_parameters(1) * precision.bytes_of("table") / 2**30 == pytest.approx(189, rel=5e-3)
    assert 2 * gathers(flash, visit(1))[0].rows == 48


@pytest.mark.parametrize(("keys", "total"), [(1024, 3.377e9), (2048, 9.823e9), (4096, 35.618e9), (8192, 138.748e9)])
def test_memory_plus_is_as_large_as_published(keys: int, total: float) -> None:
    """Memory Layers at Scale, table 1: a 1.3 B model with one memory of keys^2 x 2048 that three layers share."""
    memory = ProductKeyMemory(keys=keys, width=2048, query=1024, shared=True)
    model = with_ffns(load_model("gpt-1.3b"), [Change(memory, (4, 12, 20))])
    assert model.total_parameters() == pytest.approx(total, rel=0.02 if keys < 8192 else 0.002)
    assert model.parameters_by_class()["table"] == keys**2 * 2048


def test_peer_is_as_large_as_published() -> None:
    """Memory Layers at Scale, table 1: 3.646 B with PEER in place of one FFN of the same model. The number of half-keys
    is not printed: 768, of the multiples of 64, gives the 0.269 B by which it is larger than Memory+ with 1 M rows."""
    model = with_ffns(load_model("gpt-1.3b"), [Change(Peer(keys=768), (12,))])
    assert model.total_parameters() == pytest.approx(3.646e9, rel=0.02)
    memory = with_ffns(load_model("gpt-1.3b"), [Change(ProductKeyMemory(1024, 2048, shared=True), (4, 12, 20))])
    grown = model.parameters_by_class()["table"] - memory.parameters_by_class()["table"]
    assert grown == pytest.approx(3.646e9 - 3.377e9, rel=0.01)


@pytest.mark.parametrize(
    ("memory", "tables", "idle", "off"),
    [
        (ProductKeyMemory(360, 192, 1, 32, 192, pre_width=192), 20, 1.18e9 - 225e6, 0.05),
        (ProductKeyMemory(528, 768, 1, 128, 512, pre_width=384), 16, 6.70e9 - 1079e6, 0.09),
        (ProductKeyMemory(1138, 384, 2, 80, 384, shared=True), 2, 1.19e9 - 228e6, 0.05),
        (ProductKeyMemory(808, 384, 2, 80, 192), 4, 1.18e9 - 225e6, 0.055),
    ],
    ids=["UltraMemV2 1.2B", "UltraMemV2 7B", "Memory+ 1.2B", "UltraMem 1.2B"],
)
def test_ultramem_is_as_large_as_published(memory: ProductKeyMemory, tables: int, idle: float, off: float) -> None:
    """UltraMemV2, arXiv:2508.18756, table 10: total less active parameters are the rows that a token does not read.

    The paper chose sizes to meet a mixture of experts; it prints them to three digits, with embeddings or without them,
    and they miss its own rows by 3 to 9 %. Memory+ shares its values in two groups of two layers ("the number of values
    remains the same")."""
    assert tables * memory.memory_parameters(768) == pytest.approx(idle, rel=off)
    read = memory.active_parameters(768) - sum(memory.parameters(768).values()) + memory.memory_parameters(768)
    assert read == memory.heads * memory.top_m * memory.row  # what a token reads of them


def test_a_row_of_ultramem_v2_is_an_expert_of_one_neuron() -> None:
    """Section 3.4: o = W'V'((Px) * s): a dot product with the row's pre-value, then a multiple of its value."""
    memory = ProductKeyMemory(360, 192, 1, 32, 192, pre_width=192)
    (rows,) = gathers(memory, visit(1.0, hidden=768))
    assert (rows.rows, rows.row_bytes) == (32, 2 * 384)
    summed = next(o for o in memory.operations(visit(1.0, hidden=768)) if o.name == "memory sum")
    assert isinstance(summed, Vector) and summed.flops == 32 * (2 * 192 + 2 * 192)
    assert memory.parameters(768)["ffn"] == 768 * 192 + 192 * 768


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_token_reads_sixteen_rows_of_engram() -> None:
    rows = gathers(ENGRAM, visit(1))[0]
    assert (rows.rows, rows.unique_rows, rows.row_bytes, rows.address_known) == (16, 16, 320, "token")
    flops = sum(2 * o.m * o.n * o.k for o in ENGRAM.operations(visit(1)) if isinstance(o, Matmul))
    assert flops == 2 * 2560 * 2560 * 5  # 2 * d_mem * d * (M + 1)


def test_a_memory_layer_costs_what_its_formulas_say() -> None:
    """Query 2dHq, scores 2Hnq, gate and output 4dw; H*m rows of w."""
    memory = ProductKeyMemory(keys=1024, width=2048, heads=4, top_m=32, query=512)
    operations = memory.operations(visit(1, hidden=2048))
    flops = {o.name: 2 * o.m * o.n * o.k for o in operations if isinstance(o, Matmul)}
    assert flops["memory query"] == 2 * 2048 * 4 * 512
    assert flops["memory scores"] == 2 * 4 * 1024 * 512
    assert flops["memory gate"] + flops["memory output"] == 4 * 2048 * 2048
    rows = gathers(memory, visit(1, hidden=2048))[0]
    assert (rows.rows, rows.row_bytes, rows.address_known) == (128, 4096, "layer")
    weights = sum(o.groups * o.n * o.k for o in operations if isinstance(o, Matmul))
    assert weights == sum(count for tensor, count in memory.parameters(2048).items() if tensor != "table")


@pytest.mark.parametrize("ffn", [ENGRAM, ProductKeyMemory(keys=1024, width=2048)])
@pytest.mark.parametrize("shard", ["row", "column"])
def test_chips_that_share_a_table_read_it_all_together(ffn: FFN, shard: str) -> None:
    ffn = replace(ffn, shard=shard, popularity=UNIFORM)  # type: ignore[type-var]
    alone = gathers(ffn, visit(4096))[0]
    for layout in (Parallelism(tp=8), Parallelism(tp=2, dp=4)):
        one = gathers(ffn, visit(4096, layout))[0]
        read, whole = one.unique_rows * one.row_bytes * 8, alone.unique_rows * alone.row_bytes
        assert whole * 0.999 <= read <= whole * (1.05 if shard == "row" else 1.001)
        assert one.table_rows * one.row_bytes * 8 == alone.table_rows * alone.row_bytes
        assert any(isinstance(o, Collective) for o in ffn.operations(visit(4096, layout)))
    assert not any(isinstance(o, Collective) for o in ffn.operations(visit(4096)))


def test_the_layers_before_a_table_hide_its_reads() -> None:
    model = with_ffns(llama(), [Change(ENGRAM, (1, 14), beside=True)])
    found = [o for o in model.forward(Batch(1.0), ALONE, BF16) if isinstance(o, Gather) and o.tensor == "table"]
    assert [(o.layers_before, o.repeat) for o in found] == [(1, 1), (14, 1)]
    assert model.layer_count == 32


# --- experts by token id ----------------------------------------------------------------------------------------------


def test_hashed_experts_with_one_word_are_the_same_for_every_token() -> None:
    ffn = HashMoEFFN(64, 4, 128, vocabulary=1)
    assert ffn.touched(1000, 0.0) == pytest.approx(4)


def test_hashed_experts_of_many_even_words_are_like_a_router_s() -> None:
    many = HashMoEFFN(64, 4, 128, popularity=UNIFORM, vocabulary=1_000_000)
    routed = MoEFFN(64, 4, 128)
    for tokens in (1, 8, 100):
        assert many.touched(tokens, 0.0) == pytest.approx(routed.touched(tokens, 0.0), rel=1e-3)


def test_frequent_words_leave_experts_untouched_and_load_ranks_unevenly() -> None:
    words = HashMoEFFN(256, 8, 128, vocabulary=129_280)
    assert chances(256, 8, 129_280, words.popularity).sum() == pytest.approx(8)
    assert words.touched(64, 0.0) < 0.95 * MoEFFN(256, 8, 128).touched(64, 0.0)
    assert words.load(Parallelism(dp=32, ep=32)) > 1.5


# --- put into a model -------------------------------------------------------------------------------------------------


def test_tables_of_two_tiers_and_formats_are_told_apart() -> None:
    near, far = Change(ENGRAM, (1,), True, "bf16", "hbm"), Change(ENGRAM, (14,), True, "fp8", "ddr")
    model = with_ffns(llama(), [near, far, replace(far, places=(20,))])
    counts = model.parameters_by_class()
    assert counts["table.2"] == 2 * counts["table.1"]
    assert dict(model.tiers) == {"table.1": "hbm", "table.2": "ddr"}
    assert model.precision
    assert model.weight_bytes(model.precision)["table.1"] == model.weight_bytes(model.precision)["table.2"]


def test_a_model_is_what_it_was_plus_what_was_added() -> None:
    model = with_ffns(llama(), [Change(ENGRAM, (1, 14), beside=True)])
    added = 2 * sum(ENGRAM.parameters(4096).values())
    assert model.total_parameters() - llama().total_parameters() == added
    idle = 2 * (ENGRAM.memory_parameters(4096) - 2560)
    assert model.active_parameters() - llama().active_parameters() == added - idle
    assert with_ffns(llama(), []).layers == llama().layers


@pytest.mark.parametrize("name", sorted(FFN_KINDS))
def test_every_kind_can_be_written(name: str) -> None:
    """A kind's schema has its fields, described, and builds it."""
    assert FFN_KINDS[name].kind == name
    assert set(written(FFN_KINDS[name])) <= set(CHOICES[name].model_fields)


SCENARIO = """\
model:
  base: llama-3.1-8b
  ffn:
    - {layers: [1, 14], kind: ngram_table, rows: 1e5, width: 160, dtype: fp8, popularity: {zipf: 1.0}}
    - {every: 8, kind: product_key_memory, keys: 256, width: 1024}
machines: [{hardware: h100-sxm-8, tp: 1}]
traffic: {request_rate: 5 /s, isl: 100, osl: 10, requests: 20}
"""


def test_a_scenario_with_tables_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO)
    result = run(load(path)).runs[0].summary
    assert result["model"] == "llama-3.1-8b + ngram_table + product_key_memory"
    assert result["requests_completed"] == 20


WRONG = {
    "kind": ("kind: ngram_table", "kind: ngram_tabel", r"did you mean 'ngram_table'"),
    "field": ("rows: 1e5", "row: 1e5", r"unknown key 'row'; did you mean 'rows'"),
    "missing": ("rows: 1e5, ", "", r"'rows' is missing"),
    "layer": ("[1, 14]", "[1, 32]", r"4:7: layer 32 is not one of 0 to 31"),
    "range": ("[1, 14]", '["1 to 3"]', r"'1 to 3' is no layer; write a number"),
    "both": ("layers: [1, 14]", "layers: [1], every: 2", r"layers and every both"),
    "none": ("[1, 14]", "[]", r"layers is an empty list"),
    "too few": ("every: 8", "every: 80", r"5:7: every 80 leaves no layer of 32; write 32 or less"),
    "zero": ("rows: 1e5", "rows: 0", r"4:50: rows should be greater than 0, not 0"),
    "exponent": ("zipf: 1.0", "zipf: -1", r"zipf"),
    "top": ("keys: 256", "keys: 8", r"top_m 32 is more than the 8 half-keys; write top_m: 8"),
    "dtype": ("dtype: fp8", "dtype: fp9", r"did you mean 'fp8'"),
    "base": ("llama-3.1-8b", "llama-3.1-8c", r"did you mean 'llama-3.1-8b'"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO.replace(old, new))
    with pytest.raises(InputError, match=message):
        run(load(path))


def test_a_wish_for_a_tier_is_kept_and_the_table_leaves_the_near_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO.replace("dtype: fp8", "dtype: fp8, tier: ddr"))
    scenario, source = read_scenario(path)
    sheet = prepare(scenario, source)[0].sheet
    held = {tier.tier: tier.held for tier in sheet.tiers}
    assert held["ddr"]["table.1"] == 2 * 16 * 1e5 * 160
    assert set(held["hbm"]) >= {"table", "attention"}
    path.write_text(SCENARIO.replace("dtype: fp8", "dtype: fp8, tier: cxl"))
    with pytest.raises(InputError, match=r"unknown tier of 'h100-sxm-8' 'cxl'"):
        run(load(path))


# --- popularity of a trace --------------------------------------------------------------------------------------------


def test_a_trace_has_as_many_distinct_rows_as_its_parts_and_the_exponent_that_made_it(tmp_path: Path) -> None:
    weight = np.arange(1, 200_001) ** -1.1
    ids = np.random.default_rng(3).choice(200_000, size=40_000, p=weight / weight.sum())
    (tmp_path / "ids.csv").write_text("id\n" + "\n".join(map(str, ids)))
    trace = Trace(trace="ids.csv").found([tmp_path])
    assert trace.unique(1e6, 40_000.0) == len(np.unique(ids))
    for draws in (100, 5000):
        pieces = [len(np.unique(part)) for part in np.split(ids[: 40_000 // draws * draws], 40_000 // draws)]
        assert trace.unique(1e6, float(draws)) == pytest.approx(np.mean(pieces), rel=0.03)
    assert trace.exponent == pytest.approx(1.1, abs=0.1)
    beyond = trace.unique(2e5, np.array([40_000.0, 80_000.0]))
    assert beyond[1] == pytest.approx(unique_rows(2e5, 80_000.0, 1.1), rel=0.1)
    assert trace.unique(50.0, 1e6) <= 50


def test_a_scenario_reads_the_trace_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO.replace("{zipf: 1.0}", "{trace: ids.txt}"))
    with pytest.raises(InputError, match=r"4:7: there is no trace 'ids.txt'; give a path"):
        run(load(path))
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no look-up"):
        run(load(path))
    (tmp_path / "words.txt").write_text("the cat\ncat sat\nthe cat\nsat on\n")
    path.write_text(SCENARIO.replace("{zipf: 1.0}", "{trace: words.txt}"))
    assert run(load(path)).runs[0].summary["requests_completed"] == 20


def test_a_machine_places_and_caches_tables_that_the_model_wanted_elsewhere(tmp_path: Path) -> None:
    """`placement: {table: ...}` is of all tables, each cached in the same share."""
    path = tmp_path / "a.yaml"
    cached = "placement: {table: {tier: ddr, cache: {tier: hbm, capacity: 100 MB}}}"
    text = SCENARIO.replace("dtype: fp8", "dtype: fp8, tier: hbm").replace("tp: 1}", f"tp: 1, {cached}}}")
    path.write_text(text)
    scenario, source = read_scenario(path)
    held = {tier.tier: tier.held for tier in prepare(scenario, source)[0].sheet.tiers}
    tables = {tensor: size for tensor, size in held["ddr"].items() if tensor.startswith("table")}
    assert set(tables) == {"table", "table.1"}
    caches = {tensor: held["hbm"][f"{tensor} cache"] for tensor in tables}
    assert sum(caches.values()) == pytest.approx(100e6)
    assert caches["table"] / tables["table"] == pytest.approx(caches["table.1"] / tables["table.1"])


def test_a_scenario_with_tables_can_be_sent_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SCENARIO.replace("base: llama-3.1-8b", "base: llama-3.1-8b\n  depth: {kind: early_exit}"))
    scenario, _ = read_scenario(path)
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert str(scenario.models[0]) == "llama-3.1-8b + ngram_table + product_key_memory + early_exit"
