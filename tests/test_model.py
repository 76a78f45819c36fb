"""Operations add up to the model: FLOPs, weights, cache, messages; and parallelism only divides them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import GroupedQueryAttention
from simulator.model.cross_attention import CrossAttention
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.together import Together
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Batch, Collective, Matmul, Operation
from simulator.model.parallelism import Parallelism
from simulator.model.routing import imbalance, inclusion, touched
from simulator.model.scores import QUERY_TILE
from simulator.model.zoo import load_model, model_names

BF16 = Precision()
ALONE = Parallelism()


@cache
def model(name: str) -> Architecture:
    return load_model(name)


def matmuls(operations: list[Operation]) -> list[Matmul]:
    return [operation for operation in operations if isinstance(operation, Matmul)]


def flops(operations: list[Operation]) -> float:
    return float(sum(2 * o.m * o.n * o.k * o.repeat for o in matmuls(operations)))


def weights(operations: list[Operation]) -> float:
    return float(sum(o.groups * o.n * o.k * o.repeat for o in matmuls(operations)))


def messages(operations: list[Operation], pattern: str) -> float:
    return sum(o.repeat for o in operations if isinstance(o, Collective) and o.pattern == pattern)


def bare(part: Any) -> Any:
    """The same without biases, sinks and convolutions: its matrices alone."""
    if isinstance(part, GroupedQueryAttention):
        return replace(part, qkv_bias=False, output_bias=False, sinks=False)
    if isinstance(part, DenseFFN):
        return replace(part, bias=False)
    if isinstance(part, MoEFFN):
        return replace(part, bias=False, router_bias=False)
    if isinstance(part, NgramTable):
        return replace(part, convolution=0)
    if isinstance(part, Together):
        return replace(part, members=tuple(bare(member) for member in part.members))
    return part


def matrices(architecture: Architecture) -> float:
    """Parameters in matrices that a matmul reads: everything but a look-up table, norms, biases and sinks, and the
    projections of an image's keys and values."""
    total, hidden = 0.0, architecture.hidden_size
    for layer in architecture.layers:
        for part in (bare(layer.attention), bare(layer.ffn)):
            counts = part.parameters(hidden) if part else {}
            total += layer.count * sum(count for tensor, count in counts.items() if tensor not in ("norm", "table"))
        if isinstance(layer.attention, CrossAttention):
            inner = layer.attention.inner
            total -= layer.count * 2 * inner.kv_heads * inner.head_dim * hidden
    return total + architecture.vocab_size * hidden


# --- one chip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 7, 4096])
def test_a_dense_token_costs_two_flops_for_each_matrix_entry(tokens: int) -> None:
    llama = model("llama-2-70b")
    counts = llama.parameters_by_class()
    per_token = 2 * (counts["attention"] + counts["ffn"])
    assert flops(llama.forward(Batch(tokens), ALONE, BF16)) == tokens * per_token
    assert flops(llama.forward(Batch(tokens, tokens), ALONE, BF16)) == tokens * (per_token + 2 * counts["head"])
    assert llama.flops_per_token() == per_token + 2 * counts["head"]


@pytest.mark.parametrize("name", ["mixtral-8x7b", "qwen3-235b-a22b", "deepseek-v3", "llama-4-maverick"])
def test_a_sparse_token_costs_two_flops_for_each_active_matrix_entry(name: str) -> None:
    sparse = model(name)
    idle = sum(
        layer.count * (layer.ffn.experts - layer.ffn.top_k) * 3 * sparse.hidden_size * layer.ffn.width
        for layer in sparse.layers
        if isinstance(layer.ffn, MoEFFN)
    )
    assert sparse.flops_per_token() == pytest.approx(2 * (matrices(sparse) - idle), rel=1e-12)


@pytest.mark.parametrize("name", sorted(model_names()))
def test_many_tokens_touch_every_matrix_once(name: str) -> None:
    operations = model(name).forward(Batch(1e6, 1.0), ALONE, BF16)
    assert weights(operations) == pytest.approx(matrices(model(name)), rel=1e-9)


def test_one_token_reads_only_its_experts() -> None:
    mixtral = model("mixtral-8x7b")
    read = weights(mixtral.forward(Batch(1.0, 1.0), ALONE, BF16))
    counts = mixtral.parameters_by_class()
    assert read == counts["attention"] + counts["router"] + counts["head"] + counts["expert"] * 2 / 8


def test_decode_attention_reads_the_whole_cache_and_prefill_a_tile_of_it() -> None:
    llama = model("llama-3.1-8b")
    batch = Batch(10.0, 4.0, {None: 4000.0}, {None: 21.0})
    decode, prefill = (o for o in llama.forward(batch, ALONE, BF16) if isinstance(o, Attention))
    assert decode.keys * decode.bytes_per_key * decode.repeat == 4000 * llama.kv_bytes_per_token(BF16)
    assert decode.pairs * decode.flops_per_pair == 4000 * 4 * 32 * 128
    assert (prefill.pairs, prefill.keys) == (21.0, 21.0 / QUERY_TILE)


def test_latent_attention_is_absorbed_in_decode_and_expanded_in_prefill() -> None:
    deepseek = model("deepseek-v3")
    batch = Batch(2.0, 1.0, {None: 1000.0}, {None: 1000.0})
    found = [o for o in deepseek.forward(batch, Parallelism(tp=8), BF16) if isinstance(o, Attention)]
    decode, prefill = found[0], found[1]
    assert decode.flops_per_pair == 2 * 16 * (2 * 512 + 64)
    assert decode.bytes_per_key == (512 + 64) * 2  # the same on each of the eight chips
    assert prefill.flops_per_pair == 2 * 16 * (128 + 64 + 128)
    assert sum(o.repeat for o in found) == 2 * 61


def test_each_layer_kind_reads_its_own_window() -> None:
    oss = model("gpt-oss-120b")
    assert oss.windows == (None, 128)
    batch = Batch(1.0, 1.0, {None: 5000.0, 128: 128.0})
    found = {o.keys: o.repeat for o in oss.forward(batch, ALONE, BF16) if isinstance(o, Attention)}
    assert found == {5000.0: 18, 128.0: 18}
    with pytest.raises(KeyError, match="window 128"):
        oss.forward(Batch(1.0, 1.0, {None: 5000.0}), ALONE, BF16)


def test_windows_count_as_full_layers_where_no_layer_is_full() -> None:
    attention = GroupedQueryAttention(4, 2, 16, window=32)
    small = Architecture("small", "here", 64, 100, 512, group_layers([(attention, DenseFFN(128))] * 3))
    assert small.kv_bytes_per_token(BF16) == 3 * 2 * 2 * 16 * 2
    assert small.kv_bytes_per_sequence(BF16) == 0
    mixed = replace(small, layers=(*small.layers, *group_layers([(replace(attention, window=None), DenseFFN(128))])))
    assert mixed.kv_bytes_per_token(BF16) == 2 * 2 * 16 * 2
    assert mixed.kv_bytes_per_sequence(BF16) == 3 * 32 * 2 * 2 * 16 * 2
    shapes = [(replace(attention, chunked=True), DenseFFN(128)), (replace(attention, window=None), DenseFFN(128))]
    chunked = replace(small, layers=group_layers(shapes))
    assert chunked.windows == (None, 32)
    assert (chunked.kv_bytes_per_token(BF16), chunked.kv_bytes_per_sequence(BF16)) == (2 * 2 * 2 * 16 * 2, 0)


def test_arrays_describe_many_steps_at_once() -> None:
    deepseek = model("deepseek-v3")
    tokens, keys = np.array([1.0, 8.0, 300.0]), np.array([10.0, 5000.0, 9e5])
    for layout in (ALONE, Parallelism(tp=8, ep=8), Parallelism(dp=8, ep=8), Parallelism(tp=4, pp=2)):
        together = deepseek.forward(Batch(tokens, tokens, {None: keys}), layout, BF16, zipf=0.7)
        for i in range(3):
            alone = deepseek.forward(Batch(tokens[i], tokens[i], {None: keys[i]}), layout, BF16, zipf=0.7)
            for many, one in zip(together, alone, strict=True):
                for field, value in vars(one).items():
                    theirs = vars(many)[field]
                    assert (theirs[i] if isinstance(theirs, np.ndarray) else theirs) == value, (many.name, field)


# --- many chips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-70b", "palm-540b", "mixtral-8x7b", "gpt-oss-120b"])
def test_tensor_parallelism_halves_the_work(name: str) -> None:
    one = model(name).forward(Batch(512.0, 8.0), ALONE, BF16)
    two = model(name).forward(Batch(512.0, 8.0), Parallelism(tp=2), BF16)
    router = 2 * sum(512 * o.n * o.k * o.repeat for o in matmuls(one) if o.name == "router")
    # A single key-value head is copied, not halved, and so is the router.
    copied = router
    for layer in model(name).layers:
        if isinstance(layer.attention, GroupedQueryAttention) and layer.attention.kv_heads == 1:
            copied += 2 * 512 * layer.count * 2 * layer.attention.head_dim * model(name).hidden_size
    # The padded vocabulary adds at most one column.
    assert 2 * flops(two) == pytest.approx(flops(one) + copied, rel=1e-6)


def test_chips_hold_the_model_once_and_the_copies_that_are_named() -> None:
    mixtral = model("mixtral-8x7b")
    whole = mixtral.weight_bytes(BF16)
    assert sum(whole.values()) == 2 * mixtral.total_parameters()
    tp8 = mixtral.weight_bytes_per_chip(BF16, Parallelism(tp=8))
    assert {t: tp8[t] * 8 for t in ("expert", "attention", "embedding", "head")} == {
        t: whole[t] for t in ("expert", "attention", "embedding", "head")
    }
    assert (tp8["router"], tp8["norm"]) == (whole["router"], whole["norm"])
    apart = mixtral.weight_bytes_per_chip(BF16, Parallelism(dp=8, ep=8))
    assert apart["attention"] == whole["attention"] and apart["expert"] == whole["expert"] / 8
    assert sum(mixtral.weight_bytes_per_chip(BF16, Parallelism(pp=4)).values()) == sum(whole.values()) / 4


@pytest.mark.parametrize("name", ["llama-3.1-405b", "deepseek-v3", "palm-540b", "qwen3-235b-a22b"])
@pytest.mark.parametrize("layout", [Parallelism(tp=8), Parallelism(tp=16), Parallelism(tp=2, pp=4)])
def test_what_a_chip_computes_with_is_what_it_holds(name: str, layout: Parallelism) -> None:
    held = model(name).weight_bytes_per_chip(BF16, layout)
    # A step of the replica passes every stage, so one chip's operations read pp times what one chip holds.
    read = 2 * weights(model(name).forward(Batch(1e7, 1.0), layout, BF16)) / layout.pp
    idle = held["norm"] + (0 if model(name).tied_embeddings else held["embedding"])
    biases = 2 * 256 * 58 / layout.pp if name == "deepseek-v3" else 0  # of the router, in no matrix
    assert read == pytest.approx(sum(held.values()) - idle - biases, rel=1e-9)


def test_the_cache_is_cut_down_to_one_head_a_chip() -> None:
    qwen = model("qwen3-235b-a22b")
    whole = qwen.kv_bytes_per_token(BF16)
    assert qwen.kv_bytes_per_token(BF16, Parallelism(tp=2)) == whole / 2
    assert qwen.kv_bytes_per_token(BF16, Parallelism(tp=8)) == whole / 4
    assert qwen.kv_bytes_per_token(BF16, Parallelism(tp=2, pp=2)) == whole / 4
    assert qwen.kv_bytes_per_token(replace(BF16, kv="fp8")) == whole / 2
    deepseek = model("deepseek-v3")
    assert deepseek.kv_bytes_per_token(BF16, Parallelism(tp=8)) == deepseek.kv_bytes_per_token(BF16)


def test_a_parallel_block_needs_one_all_reduce_a_layer_and_a_serial_one_two() -> None:
    tp8 = Parallelism(tp=8)
    assert messages(model("palm-540b").forward(Batch(1.0), tp8, BF16), "all_reduce") == 118
    assert messages(model("llama-3.1-70b").forward(Batch(1.0), tp8, BF16), "all_reduce") == 160
    assert messages(model("llama-3.1-70b").forward(Batch(1.0), ALONE, BF16), "all_reduce") == 0


def test_experts_inside_the_tensor_group_send_no_more_than_tensor_parallelism() -> None:
    qwen = model("qwen3-235b-a22b")
    spread = qwen.forward(Batch(64.0), Parallelism(tp=8, ep=8), BF16)
    cut = qwen.forward(Batch(64.0), Parallelism(tp=8), BF16)
    assert [o for o in spread if isinstance(o, Collective)] == [o for o in cut if isinstance(o, Collective)]
    assert flops(spread) == pytest.approx(flops(cut))
    one = next(o for o in matmuls(spread) if o.name == "experts up")
    all_chips = next(o for o in matmuls(cut) if o.name == "experts up")
    assert one.groups * 8 == pytest.approx(all_chips.groups) and one.n == 8 * all_chips.n
    assert one.imbalance > 1 and all_chips.imbalance == 1


def test_data_parallel_attention_dispatches_tokens_to_their_experts() -> None:
    deepseek = model("deepseek-v3")
    operations = deepseek.forward(Batch(64.0), Parallelism(dp=16, ep=16), BF16)
    found = [o for o in operations if isinstance(o, Collective)]
    assert [(o.name, o.pattern) for o in found] == [
        ("experts dispatch", "all_to_all"),
        ("experts combine", "all_to_all"),
    ]
    assert all(o.bytes == 4 * 8 * 7168 * 2 and o.group == 16 and o.repeat == 58 for o in found)
    gathered = deepseek.forward(Batch(64.0), Parallelism(dp=4), BF16)
    assert messages(gathered, "all_gather") == messages(gathered, "reduce_scatter") == 58


@pytest.mark.parametrize("layout", [Parallelism(dp=8, ep=8), Parallelism(dp=4, tp=2, ep=4), Parallelism(dp=4, ep=2)])
def test_data_parallel_chips_together_do_the_work_once(layout: Parallelism) -> None:
    deepseek = model("deepseek-v3")
    batch = Batch(64.0, 64.0)
    one, many = deepseek.forward(batch, ALONE, BF16), deepseek.forward(batch, layout, BF16)
    experts = [o for o in matmuls(many) if o.tensor == "expert"]
    assert layout.chips * flops(list(experts)) == pytest.approx(
        flops([o for o in matmuls(one) if o.tensor == "expert"]), rel=1e-12
    )
    read = sum(o.groups * o.n * o.k for o in experts) * layout.chips
    assert read == pytest.approx(sum(o.groups * o.n * o.k for o in matmuls(one) if o.tensor == "expert"), rel=1e-12)


def test_a_pipeline_does_a_micro_batch_at_a_time_and_sends_it_on() -> None:
    llama = model("llama-3.1-70b")
    batch = Batch(64.0, 64.0, {None: 6400.0})
    one, four = llama.forward(batch, ALONE, BF16), llama.forward(batch, Parallelism(pp=4), BF16)
    assert 4 * flops(four) == flops(one)
    (sent,) = (o for o in four if isinstance(o, Collective))
    assert (sent.pattern, sent.bytes, sent.repeat) == ("send_receive", 16 * 8192 * 2, 3)
    # One token cannot be cut: it passes the four stages one after the other.
    assert flops(llama.forward(Batch(1.0, 1.0), Parallelism(pp=4), BF16)) == llama.flops_per_token()


def test_a_single_token_meets_its_own_experts_however_many_copies_idle() -> None:
    deepseek = model("deepseek-v3")
    up = next(o for o in matmuls(deepseek.forward(Batch(1.0), Parallelism(dp=8, ep=8), BF16)) if o.name == "experts up")
    assert (up.groups, up.m) == (1.0, 1.0)


# --- layouts that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        (
            "llama-3.1-70b",
            Parallelism(tp=6),
            "tp 6 does not divide 64 heads over 8 key-value heads; nearest tp: 4 or 8",
        ),
        (
            "llama-4-scout",
            Parallelism(tp=16),
            "tp 16 does not divide 40 heads over 8 key-value heads; nearest tp: 8",
        ),
        ("deepseek-v3", Parallelism(tp=3), "tp 3 does not divide the 128 attention heads; nearest tp: 2 or 4"),
        ("opt-175b", Parallelism(tp=9), "tp 9 does not divide the FFN width 49152; nearest tp: 8 or 12"),
        ("gpt3-175b", Parallelism(pp=97), "pp 97 is more than the 96 layers of gpt3-175b; use pp 96 or less"),
        ("llama-2-7b", Parallelism(tp=8, ep=8), "ep 8, but llama-2-7b has no experts; use ep 1"),
        ("mixtral-8x7b", Parallelism(tp=8, ep=3), "ep 3 does not divide tp*dp = 8; nearest ep: 2 or 4"),
        (
            "mixtral-8x7b",
            Parallelism(dp=16, ep=16),
            "ep 16 does not divide the 8 experts; nearest ep: 8, or redundant_experts: auto",
        ),
        ("mixtral-8x7b", Parallelism(tp=0), "tp is 0; a degree of parallelism is a whole number from 1"),
    ],
)
def test_a_layout_that_does_not_fit_names_the_nearest(name: str, layout: Parallelism, message: str) -> None:
    assert message in [str(problem) for problem in layout.check(model(name))]


def test_layouts_that_serve_these_models_are_allowed() -> None:
    for name, layout in {
        "llama-3.1-70b": Parallelism(tp=16, pp=2),
        "palm-540b": Parallelism(tp=48),
        "gpt-oss-120b": Parallelism(tp=8, ep=8),
        "deepseek-v3": Parallelism(tp=2, dp=8, ep=16),
        "qwen3-235b-a22b": Parallelism(tp=8),
    }.items():
        assert layout.check(model(name)) == []
    assert (str(Parallelism()), str(Parallelism(tp=4, pp=2, dp=2))) == ("tp1", "tp4 pp2 dp2")
    assert Parallelism(tp=4, pp=2, dp=2).chips == 16


# --- routing ----------------------------------------------------------------------------------------------------------

UNIQUE = {  # (experts, top_k): distinct experts at 1, 2, 4, ... 1024 tokens, equal popularity
    (8, 2): (2.0, 3.5, 5.47, 7.2, 7.92, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0),
    (256, 8): (8.0, 15.75, 30.53, 57.42, 101.96, 163.31, 222.44, 251.6, 255.92, 256.0, 256.0),
    (384, 8): (8.0, 15.83, 31.01, 59.52, 109.82, 188.23, 284.19, 358.06, 382.25, 383.99, 384.0),
    (128, 8): (8.0, 15.5, 29.12, 51.62, 82.42, 111.77, 125.94, 127.97, 128.0, 128.0, 128.0),
    (128, 4): (4.0, 7.88, 15.27, 28.71, 50.98, 81.66, 111.22, 125.8, 127.96, 128.0, 128.0),
    (128, 1): (1.0, 1.99, 3.95, 7.78, 15.1, 28.41, 50.52, 81.1, 110.81, 125.69, 127.96),
}


@pytest.mark.parametrize("shape", UNIQUE)
def test_distinct_experts_of_a_batch(shape: tuple[int, int]) -> None:
    assert np.asarray(touched(*shape, 2.0 ** np.arange(11))) == pytest.approx(UNIQUE[shape], abs=0.0051)


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 3.0, 500.0, 1e9])
def test_popularity_keeps_top_k_and_a_token_never_picks_an_expert_twice(zipf: float) -> None:
    chance = inclusion(128, 8, zipf)
    assert chance.sum() == pytest.approx(8) and chance.max() <= 1 and (np.diff(chance) <= 0).all()
    assert touched(128, 8, 1.0, zipf) == pytest.approx(8)
    assert touched(128, 8, 0.0, zipf) == 0
    rising = np.asarray(touched(128, 8, np.arange(1.0, 500.0), zipf))
    assert (np.diff(rising) > -1e-9).all() and rising[-1] <= 128
    assert touched(8, 8, np.array([0.0, 1.0, 9.0]), zipf).tolist() == [0, 8, 8]


def test_skew_touches_fewer_experts_and_agrees_with_a_drawn_sample() -> None:
    chance = inclusion(64, 4, 1.0)
    rng = np.random.default_rng(1)
    drawn = (rng.random((4000, 32, 64)) < chance).any(axis=1).sum(axis=1).mean()
    assert touched(64, 4, 32.0, 1.0) == pytest.approx(drawn, rel=0.01)
    assert touched(64, 4, 32.0, 1.0) < touched(64, 4, 32.0, 0.5) < touched(64, 4, 32.0)


def test_a_value_does_not_depend_on_its_neighbours() -> None:
    tokens = np.random.default_rng(0).integers(1, 9000, 16_000).astype(float)
    together = np.asarray(touched(512, 10, tokens, 0.7))
    assert all(together[i] == touched(512, 10, float(tokens[i]), 0.7) for i in range(0, 16_000, 97))


def test_the_hottest_rank_has_more_but_never_more_than_it_holds() -> None:
    hit = np.array([1.0, 8.0, 100.0, 256.0])
    hottest = np.asarray(imbalance(256, hit, 8)) * hit / 8
    assert (hottest <= np.minimum(hit, 32)).all() and (hottest >= hit / 8).all()
    assert hottest[3] == 32  # everything is touched: no imbalance left
    q = 100 / 256
    assert hottest[2] == pytest.approx(32 * q + np.sqrt(2 * np.log(8)) * np.sqrt(32 * q * (1 - q)))
    assert imbalance(256, 100.0, 1) == 1.0
