"""Readers of hybrids: models that mix attention with layers that keep a state of fixed size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.model.architecture import group_layers, shapes_of
from simulator.model.attention import AttentionKind, GroupedQueryAttention
from simulator.model.block_sparse_attention import BlockSparseAttention
from simulator.model.config_keys import Keys
from simulator.model.config_parts import common_fields, grouped_query, latent_attention, layer_count, routed_experts
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.latent_moe import LatentMoEFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.residual_streams import ResidualStreams
from simulator.model.ffn.together import Together
from simulator.model.gated_delta import GatedDeltaNet
from simulator.model.mamba import Mamba2
from simulator.model.mamba1 import Mamba1

_BLOCKS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def qwen3_5(keys: Keys) -> dict[str, Any]:
    """Qwen3.5, dense or with experts: gated delta nets, and every fourth layer grouped queries with an output gate.

    The scalar gate of the shared expert (hidden values a layer) is left out.
    """
    common, layers = common_fields(keys), layer_count(keys)
    gate = keys.flag("attn_output_gate", True)
    full = grouped_query(keys, common["hidden_size"], qk_norm=True, output_gate=gate)(None)
    linear = GatedDeltaNet(
        keys.integer("linear_num_value_heads"),
        keys.integer("linear_num_key_heads"),
        keys.integer("linear_key_head_dim"),
        keys.integer("linear_value_head_dim"),
        keys.integer("linear_conv_kernel_dim"),
    )
    if linear.heads % linear.key_heads:
        what = f"{linear.key_heads} key heads do not divide {linear.heads} value heads"
        keys.wrong(what, "linear_num_key_heads", "every key head serves as many value heads")
    if keys.given("layer_types"):
        kinds = keys.entries("layer_types", layers, ("linear_attention", "full_attention"))
    else:
        every = keys.integer("full_attention_interval", default=4)
        kinds = ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
    _needs_attention(keys, "full_attention" in kinds, "layer_types")
    ffn: FFN
    if keys.given("num_experts"):
        shared = keys.integer("shared_expert_intermediate_size", default=0, least=0)
        ffn = MoEFFN(*routed_experts(keys, "num_experts"), keys.integer("moe_intermediate_size"), shared)
    else:
        ffn = DenseFFN(keys.integer("intermediate_size"))
    return common | {"layers": group_layers((linear if kind == "linear_attention" else full, ffn) for kind in kinds)}


def qwen4_exp(keys: Keys) -> dict[str, Any]:
    """Qwen4 (Qwen3.8-Flash-Next): Qwen3.5 with experts in four residual streams, block-sparse attention where it
    attends, and hashed n-gram tables in a few layers (`ple_layer_ids`, counted from 1).

    The mixer of the streams behind the last layer is left out.
    """
    kinds = keys.data.get("layer_types")
    if isinstance(kinds, list):
        known = {"indexed_attention": "full_attention"}
        keys.data = {**keys.data, "layer_types": [known.get(str(kind), kind) for kind in kinds]}
    fields = qwen3_5(keys)
    streams = ResidualStreams(keys.integer("hc_count", default=4), keys.integer("hc_lowrank", default=320), mixers=2)
    names = ("indexer_n_heads", "indexer_head_dim", "indexer_budget", "indexer_compress_ratio")
    index = [keys.integer(name) for name in names] if keys.given(names[0]) else []
    layers = layer_count(keys)
    tables = {layer - 1 for layer in keys.numbers("ple_layer_ids", layers)} if keys.given("ple_layer_ids") else set()
    orders = tuple(range(2, keys.integer("ngram_size", default=3, least=2) + 1))
    heads = keys.integer("heads_per_ngram", default=8)
    values = keys.integer("ple_embed_dim", default=fields["hidden_size"])
    if values % (len(orders) * heads):
        what = f"{len(orders) * heads} tables do not divide ple_embed_dim {values}"
        keys.wrong(what, "ple_embed_dim", "every table gives as many values")
    table = NgramTable(
        keys.integer("ngram_vocab_size_base", default=20_000_000),
        max(1, values // (len(orders) * heads)),
        orders,
        heads,
        branches=streams.streams,
        convolution=keys.integer("ple_conv_kernel_size", default=4),
    )
    shapes: list[tuple[AttentionKind | None, FFN | None]] = []
    for place, (attention, ffn) in enumerate(shapes_of(fields["layers"])):
        members = [part for part in (ffn, streams, table if place in tables else None) if part]
        if index and isinstance(attention, GroupedQueryAttention):
            shapes.append((BlockSparseAttention(attention, *index), Together(tuple(members))))
        else:
            shapes.append((attention, Together(tuple(members))))
    return fields | {"layers": group_layers(shapes)}


def kimi_linear(keys: Keys) -> dict[str, Any]:
    """Kimi Linear and Kimi K3: Kimi delta attention, and every fourth layer latent attention; a dense layer first, then
    experts with shared ones, in K3 behind a projection to a latent.

    Attention residuals (two vectors a layer) and the norm of the latent are left out.
    """
    names = {"num_experts_per_token": "num_experts_per_tok", "model_max_length": "max_position_embeddings"}
    keys.data = {**{new: keys.data[old] for old, new in names.items() if old in keys.data}, **keys.data}
    common, layers = common_fields(keys, context=1_048_576), layer_count(keys)
    linear = keys.inner("linear_attn_config")
    heads, width = linear.integer("num_heads"), linear.integer("head_dim")
    gate = 0 if linear.flag("use_full_rank_gate", False) else width
    taps = linear.integer("short_conv_kernel_size", default=4)
    delta = GatedDeltaNet(heads, heads, width, width, taps, decay_rank=width, gate_rank=gate)
    latent = replace(latent_attention(keys), output_gate=keys.flag("mla_use_output_gate", False))
    full = {layer - 1 for layer in linear.numbers("full_attn_layers", layers)}
    _needs_attention(keys, bool(full), "full_attn_layers")
    each = keys.integer("moe_intermediate_size")
    shared = each * keys.integer("num_shared_experts", "n_shared_experts", default=0, least=0)
    sparse: FFN = MoEFFN(*routed_experts(keys, "num_experts", "num_local_experts"), each, shared, router_bias=True)
    if keys.given("routed_expert_hidden_size"):
        sparse = LatentMoEFFN(**vars(sparse), latent=keys.integer("routed_expert_hidden_size"))
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    first = keys.integer("first_k_dense_replace", default=1, least=0)
    return common | {
        "layers": group_layers(
            (latent if layer in full else delta, sparse if layer >= first else dense) for layer in range(layers)
        )
    }


def mamba(keys: Keys) -> dict[str, Any]:
    """Mamba: layers of a selective scan alone. A scan has no longest context: 2^20 tokens stand for it."""
    common, layers = common_fields(keys, context=1_048_576, tied=True), layer_count(keys)
    hidden = common["hidden_size"]
    if keys.flag("use_bias", False):
        keys.wrong("use_bias is true", "use_bias", "only Mamba without biases of projections is known")
    if keys.data.get("time_step_rank") == "auto":
        keys.data = {**keys.data, "time_step_rank": -(-hidden // 16)}
    scan = Mamba1(
        hidden * keys.integer("expand", default=2),
        keys.integer("state_size", default=16),
        keys.integer("time_step_rank", default=-(-hidden // 16)),
        keys.integer("conv_kernel", default=4),
        keys.flag("use_conv_bias", True),
    )
    return common | {"layers": group_layers([(scan, None)] * layers)}


def nemotron_h(keys: Keys) -> dict[str, Any]:
    """Nemotron-H and Nemotron 3: each layer is one part, Mamba-2 (M), attention (*), FFN (-) or experts (E).

    The FFNs have two matrices (squared ReLU). Ultra's config names the parts in `layers_block_type`.
    """
    blocks = keys.data.get("layers_block_type")
    if isinstance(blocks, list) and all(block in _BLOCKS for block in blocks):
        letters = "".join(_BLOCKS[block] for block in blocks)
        keys.data = {**keys.data, "num_hidden_layers": len(blocks), "hybrid_override_pattern": letters}
    common, layers = common_fields(keys), layer_count(keys)
    pattern = keys.data.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or len(pattern) != layers or set(pattern) - set("M*-E"):
        what = f"hybrid_override_pattern is not {layers} of M, *, - and E"
        keys.wrong(what, "hybrid_override_pattern", "write one letter for each layer")
        pattern = ""
    parts: dict[str, tuple[AttentionKind | None, FFN | None]] = {}
    if "M" in pattern:
        parts["M"] = _mamba(keys), None
    if "*" in pattern:
        head_dim = keys.optional("attention_head_dim")
        known = Keys({**keys.data, "head_dim": head_dim}, keys.file, keys.text) if head_dim else keys
        parts["*"] = grouped_query(known, common["hidden_size"])(None), None
        keys.problems += known.problems if known is not keys else []
    elif pattern:
        _needs_attention(keys, False, "hybrid_override_pattern")
    if "-" in pattern:
        parts["-"] = None, DenseFFN(keys.integer("intermediate_size"), 2, bias=keys.flag("mlp_bias", False))
    if "E" in pattern:
        shared = keys.integer("moe_shared_expert_intermediate_size", default=0, least=0)
        width = keys.integer("moe_intermediate_size")
        experts = MoEFFN(*routed_experts(keys, "n_routed_experts"), width, shared, matrices=2, router_bias=True)
        latent = keys.optional("moe_latent_size")
        parts["E"] = None, LatentMoEFFN(**vars(experts), latent=latent) if latent else experts
    return common | {"layers": group_layers(parts[letter] for letter in pattern)}


def _mamba(keys: Keys) -> Mamba2:
    """Mamba-2 as Nemotron-H names it; biases of the projections are not known."""
    for name in ("mamba_proj_bias", "use_bias"):
        if keys.flag(name, False):
            keys.wrong(f"{name} is true", name, "only Mamba-2 without biases of projections is known")
    return Mamba2(
        keys.integer("mamba_num_heads"),
        keys.integer("mamba_head_dim"),
        keys.integer("ssm_state_size"),
        keys.integer("n_groups", "mamba_num_groups"),
        keys.integer("conv_kernel"),
        keys.flag("use_conv_bias", True),
    )


def _needs_attention(keys: Keys, found: bool, key: str) -> None:
    """A cache of keys is counted beside the states, so that one layer at least must keep keys."""
    if not found:
        keys.wrong(f"{key} has no layer with full attention", key, "models without any are not known")
