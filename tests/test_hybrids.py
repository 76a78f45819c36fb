"""Layers with a state of fixed size: what they read, keep and compute, and what their configs may say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simulator.errors import ModelError
from simulator.model import zoo
from simulator.model.attention import ATTENTION_KINDS
from simulator.model.compressed_attention import CompressedAttention
from simulator.model.gated_delta import CHUNK, GatedDeltaNet
from simulator.model.huggingface import read_config
from simulator.model.mamba import Mamba2
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Batch, Collective, Operation
from simulator.model.parallelism import Parallelism
from simulator.model.sparse_attention import SparseLatentAttention
from simulator.model.zoo import load_model

BF16 = Precision()
ALONE = Parallelism()


def config(name: str) -> dict[str, object]:
    """A packaged config, to be changed."""
    found: dict[str, object] = json.loads((Path(zoo.__file__).parent / f"{name}.json").read_text())
    return found


def recurrent(operations: list[Operation], phase: str) -> Attention:
    (found,) = (o for o in operations if isinstance(o, Attention) and o.phase == phase and o.format == "fp32")
    return found


def test_kinds_are_known_by_name() -> None:
    assert {name: kind.__name__ for name, kind in ATTENTION_KINDS.items()} == {
        "grouped_query": "GroupedQueryAttention",
        "latent": "LatentAttention",
        "gated_delta": "GatedDeltaNet",
        "mamba2": "Mamba2",
        "sparse_latent": "SparseLatentAttention",
        "compressed": "CompressedAttention",
        "mamba1": "Mamba1",
        "block_sparse": "BlockSparseAttention",
        "cross": "CrossAttention",
    }


@pytest.mark.parametrize(
    ("name", "layers", "state"),
    [("nemotron-nano-9b-v2", 27, 128 * 80 * 128 * 4), ("qwen3.5-397b-a17b", 45, 64 * 128 * 128 * 4)],
)
def test_a_decode_step_reads_and_writes_each_state_once_however_long_the_context(
    name: str, layers: int, state: int
) -> None:
    model = load_model(name)
    assert model.windows == (None, 1)
    for context in (10.0, 100_000.0):
        batch = Batch(8.0, 8.0, {None: 8 * context, 1: 8.0})
        found = recurrent(model.forward(batch, ALONE, BF16), "decode")
        assert (found.keys, found.repeat) == (8.0, layers)
        assert found.keys * found.bytes_per_key == 8 * 2 * state


def test_a_state_is_kept_in_32_bits_whatever_the_cache_is_kept_in() -> None:
    mamba = Mamba2(128, 80, 128, 8, 4)
    assert mamba.kv_bytes_per_token(Precision(kv="fp8")) == mamba.kv_bytes_per_token(BF16) == 128 * 80 * 128 * 4
    model = load_model("nemotron-nano-9b-v2")
    assert model.kv_bytes_per_token(Precision(kv="fp8")) == model.kv_bytes_per_token(BF16) / 2
    assert model.kv_bytes_per_sequence(Precision(kv="fp8")) == model.kv_bytes_per_sequence(BF16)


def test_a_prompt_passes_the_state_in_chunks_and_costs_the_same_a_token() -> None:
    model = load_model("qwen3.5-397b-a17b")

    def prefill(tokens: float) -> Attention:
        pairs = {None: tokens * (tokens + 1) / 2, 1: tokens}
        return recurrent(model.forward(Batch(tokens, 1.0, {}, pairs), ALONE, BF16), "prefill")

    short, long = prefill(1024.0), prefill(8192.0)
    assert long.pairs * long.flops_per_pair == 8 * short.pairs * short.flops_per_pair
    # 64 heads: five products of 64 x 128 in the chunk, three of 128 x 128 with the state.
    assert short.flops_per_pair == 64 * (2 * 64 * 5 * 128 + 6 * 128 * 128)
    assert short.keys * short.bytes_per_key == pytest.approx(1024 / CHUNK * 2 * 64 * 128 * 128 * 4)


def test_tensor_parallelism_cuts_heads_and_copies_a_group_when_there_are_too_few() -> None:
    mamba = Mamba2(128, 80, 128, 8, 4)
    whole = mamba.parameters(4480)["attention"]
    assert mamba.parameters(4480, Parallelism(tp=8))["attention"] * 8 == whole
    sixteen = mamba.parameters(4480, Parallelism(tp=16))["attention"] * 16
    assert sixteen - whole == 8 * 2 * 128 * 4480  # B and C of the eight groups, once more
    assert mamba.kv_bytes_per_token(BF16, 16) * 16 == mamba.kv_bytes_per_token(BF16)
    assert str(mamba.check(Parallelism(tp=3))[0]).startswith("tp 3 does not divide 128 Mamba heads in 8 groups")
    delta = GatedDeltaNet(64, 16, 128, 128, 4)
    assert delta.parameters(4096, Parallelism(tp=16))["attention"] * 16 == delta.parameters(4096)["attention"]
    assert delta.check(Parallelism(tp=32)) == [] and delta.check(Parallelism(tp=24))


def test_a_layer_of_one_part_has_one_norm_and_one_all_reduce() -> None:
    model = load_model("nemotron-nano-9b-v2")
    found = [o for o in model.forward(Batch(4.0), Parallelism(tp=2), BF16) if isinstance(o, Collective)]
    assert sum(o.repeat for o in found) == model.layer_count == 56
    assert model.parameters_by_class()["norm"] == 57 * 4480 + 27 * ((10240 + 2048) * 5 + 3 * 128 + 10240)


def test_an_output_gate_is_one_more_query_projection() -> None:
    gated, plain = config("qwen3.5-27b"), config("qwen3.5-27b")
    inner = plain["text_config"]
    assert isinstance(inner, dict)
    inner["attn_output_gate"] = False
    more = read_config(gated).total_parameters() - read_config(plain).total_parameters()
    assert more == 16 * 24 * 256 * 5120
    assert read_config(gated).flops_per_token() - read_config(plain).flops_per_token() == 2 * more


def test_steps_as_arrays_equal_steps_one_by_one() -> None:
    model = load_model("nemotron-3-nano-30b-a3b")
    running = np.array([1.0, 8.0, 300.0])
    together = model.forward(Batch(running, running, {None: 100 * running, 1: running}), ALONE, BF16)
    for i, number in enumerate(running):
        alone = model.forward(Batch(number, number, {None: 100 * number, 1: number}), ALONE, BF16)
        for many, one in zip(together, alone, strict=True):
            if isinstance(many, Attention) and isinstance(one, Attention):
                assert np.asarray(many.keys)[i] == one.keys


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("nemotron-nano-9b-v2", {"hybrid_override_pattern": "M-*"}, "hybrid_override_pattern is not 56 of"),
        ("nemotron-nano-9b-v2", {"hybrid_override_pattern": "M" * 56}, "no layer with full attention"),
        ("nemotron-nano-9b-v2", {"mamba_proj_bias": True}, "mamba_proj_bias is true"),
        ("falcon-7b", {"alibi": True}, "alibi is true"),
    ],
)
def test_what_cannot_be_expressed_is_refused(name: str, change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_config({**config(name), **change})


def test_sparse_attention_scores_every_token_and_reads_the_best() -> None:
    model = load_model("glm-5")
    assert model.windows == (None, 2048)
    batch = Batch(4.0, 4.0, {None: 4 * 10_000.0, 2048: 4 * 2048.0})
    found = [o for o in model.forward(batch, Parallelism(tp=8), BF16) if isinstance(o, Attention)]
    assert [o.repeat for o in found] == [3, 3, 75, 75]  # dense layers, then those with experts
    index, chosen = found[:2]
    assert (index.keys, index.bytes_per_key, index.flops_per_pair) == (40_000.0, 132.0, 2 * 32 * 128)
    assert (chosen.keys, chosen.bytes_per_key) == (4 * 2048.0, 576 * 2)
    assert chosen.flops_per_pair == 2 * 8 * (2 * 512 + 64)
    assert model.kv_bytes_per_token(BF16) == 78 * (576 * 2 + 132)
    prompt = Batch(8192.0, 1.0, {}, {None: 3e7, 2048: 1.5e7})
    pairs = [o.pairs for o in model.forward(prompt, ALONE, BF16) if isinstance(o, Attention)]
    assert pairs == 2 * [3e7, 1.5e7]


def test_a_layer_that_shares_an_indexer_keeps_no_index_keys_and_scores_nothing() -> None:
    model = load_model("glm-5.2")
    kinds = {
        layer.attention.indexer: layer for layer in model.layers if isinstance(layer.attention, SparseLatentAttention)
    }
    own, shared = kinds[True].attention, kinds[False].attention
    assert own is not None and shared is not None
    assert own.kv_bytes_per_token(Precision()) - shared.kv_bytes_per_token(Precision()) == 128 + 4
    assert own.reads == (None, 2048) and shared.reads == (2048,)
    with pytest.raises(ModelError, match="the first layer shares an indexer"):
        read_config(
            {**config("glm-5"), "num_hidden_layers": 2, "first_k_dense_replace": 1, "indexer_types": ["shared"] * 2}
        )


def test_a_delta_net_needs_key_heads_that_divide_its_value_heads() -> None:
    odd = config("qwen3.5-27b")
    inner = odd["text_config"]
    assert isinstance(inner, dict)
    inner["linear_num_key_heads"] = 7
    with pytest.raises(ModelError, match="7 key heads do not divide 48 value heads"):
        read_config(odd)


def test_the_decoder_of_a_vision_model_is_the_text_model() -> None:
    dense, sparse = config("qwen3-4b"), config("qwen3-30b-a3b")
    for text, model_type in ((dense, "qwen3_vl"), (sparse, "qwen3_vl_moe")):
        nested = {"model_type": model_type, "text_config": {**text, "model_type": f"{model_type}_text"}}
        assert read_config(nested).layers == read_config(text).layers


def test_compressed_keys_are_read_by_the_window_the_index_and_the_entries() -> None:
    """100 tokens of context in one sequence: 100 of the last 128, 25 index keys and 25 entries of four tokens."""
    short = next(
        layer.attention
        for layer in load_model("deepseek-v4-flash").layers
        if isinstance(layer.attention, CompressedAttention) and layer.attention.ratio == 4
    )
    batch = Batch(1.0, 1.0, {None: 100.0, 128: 100.0, 2048: 100.0}, {})
    found = [o for o in short.operations(4096, batch, ALONE, BF16, 1.0) if isinstance(o, Attention)]
    window, index, entries = (o.keys * o.bytes_per_key for o in found)
    assert (window, index, entries) == (100 * 1024, 25 * (128 + 4), 25 * 1024)
    assert short.kv_bytes_per_token(BF16) == (1024 + 132) / 4


def test_the_first_layers_of_deepseek_v4_hash_token_ids() -> None:
    model = load_model("deepseek-v4-flash")
    kinds = [layer.ffn.kind for layer in model.layers for _ in range(int(layer.count)) if layer.ffn]
    assert sorted(kinds) == ["hash_moe"] * 3 + ["moe"] * 40
    assert model.precision is not None and model.precision.experts == "mxfp4"
