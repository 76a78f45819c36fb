"""Readers of mixtures of experts whose layers all attend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.model.architecture import group_layers
from simulator.model.attention import AttentionKind, GroupedQueryAttention
from simulator.model.block_sparse_attention import BlockSparseAttention
from simulator.model.config_keys import Keys
from simulator.model.config_parts import (
    common_fields,
    compressed_attention,
    grouped_query,
    latent_attention,
    layer_count,
    qwen_windows,
    routed_experts,
    sparse_latent_attention,
    windows_of,
)
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.hash_moe import HashMoEFFN
from simulator.model.ffn.moe import MoEFFN


def qwen3_moe(keys: Keys) -> dict[str, Any]:
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=True)
    experts, top_k = routed_experts(keys, "num_experts")
    sparse: FFN = MoEFFN(experts, top_k, keys.integer("moe_intermediate_size"))
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    step, only = keys.integer("decoder_sparse_step", default=1), keys.data.get("mlp_only_layers") or []
    if not isinstance(only, list):
        keys.wrong(f"mlp_only_layers is {only!r}", "mlp_only_layers", "write a list of layer numbers")
        only = []
    ffns = [dense if layer in only or (layer + 1) % step else sparse for layer in range(layers)]
    windows = qwen_windows(keys, layers)
    return common | {
        "layers": group_layers((attention(window), ffn) for window, ffn in zip(windows, ffns, strict=True))
    }


def mixtral(keys: Keys) -> dict[str, Any]:
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"])(keys.optional("sliding_window"))
    ffn = MoEFFN(*routed_experts(keys, "num_local_experts"), keys.integer("intermediate_size"))
    return common | {"layers": group_layers([(attention, ffn)] * layer_count(keys))}


def deepseek(keys: Keys) -> dict[str, Any]:
    """DeepSeek-V2, -V3, -R1, Kimi K2: latent attention, dense first layers, then experts with shared ones."""
    common, layers = common_fields(keys), layer_count(keys)
    attentions: list[AttentionKind] = [latent_attention(keys)] * layers
    if keys.given("index_topk"):
        attentions = [*sparse_latent_attention(keys, layers)]
    experts, top_k = routed_experts(keys, "n_routed_experts")
    width = keys.integer("moe_intermediate_size")
    shared = width * keys.integer("n_shared_experts", default=0, least=0)
    # noaux_tc: a learned bias for each expert balances the load instead of a loss (DeepSeek-V3).
    sparse: FFN = MoEFFN(experts, top_k, width, shared, router_bias=keys.data.get("topk_method") == "noaux_tc")
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    first, every = keys.integer("first_k_dense_replace", least=0), keys.integer("moe_layer_freq", default=1)
    if first > layers:
        keys.wrong(f"first_k_dense_replace {first} is more than {layers} layers", "first_k_dense_replace")
    ffns = [sparse if layer >= first and layer % every == 0 else dense for layer in range(layers)]
    return common | {"layers": group_layers(zip(attentions, ffns, strict=True))}


def deepseek_v4(keys: Keys) -> dict[str, Any]:
    """DeepSeek-V4: compressed keys, experts in every layer, in the first ones chosen by the token's id.

    Hyper-connections (a few vectors a layer) and the prediction module are left out.
    """
    common, layers = common_fields(keys), layer_count(keys)
    width = keys.integer("moe_intermediate_size")
    shared = width * keys.integer("n_shared_experts", default=0, least=0)
    shape = (*routed_experts(keys, "n_routed_experts"), width, shared)
    hashed: FFN = HashMoEFFN(*shape, vocabulary=common["vocab_size"])
    routed: FFN = MoEFFN(*shape, router_bias=True)
    first = keys.integer("num_hash_layers", default=0, least=0)
    ffns = [hashed if layer < first else routed for layer in range(layers)]
    return common | {"layers": group_layers(zip(compressed_attention(keys, layers), ffns, strict=True))}


def gpt_oss(keys: Keys) -> dict[str, Any]:
    """gpt-oss: biases everywhere, attention sinks, every other layer with a window of 128, neither top-k nor top-p."""
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"], bias=True, sinks=True)
    ffn = MoEFFN(
        *routed_experts(keys, "num_local_experts"), keys.integer("intermediate_size"), bias=True, router_bias=True
    )
    windows = windows_of(keys, layers)
    return common | {
        "layers": group_layers((attention(window), ffn) for window in windows),
        "sorted_sampling": False,
    }


def llama4(keys: Keys) -> dict[str, Any]:
    """Llama 4: chunked attention except in every fourth layer, one routed and one shared expert in every n-th layer.

    A chunk of attention_chunk_size is read as a window of that size, which is the most that a query in it reaches.
    Serving software keeps all chunks: vLLM for latency (VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE is off),
    and so does TensorRT-LLM, by its throughput at short and at long contexts.
    """
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"])  # its query-key norm has no parameters
    experts, top_k = routed_experts(keys, "num_local_experts")
    width = keys.integer("intermediate_size")
    sparse: FFN = MoEFFN(experts, top_k, width, shared_width=width)
    dense: FFN = DenseFFN(keys.integer("intermediate_size_mlp"))
    step, chunk = keys.integer("interleave_moe_layer_step"), keys.optional("attention_chunk_size")
    every = keys.integer("no_rope_layer_interval", default=4)
    local = replace(attention(chunk), chunked=chunk is not None)
    shapes = [
        (local if layer % every else attention(None), dense if layer % step else sparse)
        for layer in range(1, layers + 1)
    ]
    return common | {"layers": group_layers(shapes)}


def minimax_m2(keys: Keys) -> dict[str, Any]:
    """MiniMax M2: experts in every layer, a norm over all query heads together and one over all key heads.

    The norms are counted as one of head_dim each.
    """
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=keys.flag("use_qk_norm", True))(None)
    width, shared = keys.integer("intermediate_size"), keys.integer("shared_intermediate_size", default=0, least=0)
    bias = keys.flag("use_routing_bias", True)
    ffn = MoEFFN(*routed_experts(keys, "num_local_experts"), width, shared, router_bias=bias)
    return common | {"layers": group_layers([(attention, ffn)] * layer_count(keys))}


def minimax_m3(keys: Keys) -> dict[str, Any]:
    """MiniMax M3: a few dense layers first, then experts with a shared one behind block-sparse attention."""
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=True)(None)
    sparse = keys.inner("sparse_attention_config")
    block, blocks = sparse.integer("sparse_block_size"), sparse.integer("sparse_topk_blocks")
    index = sparse.integer("sparse_num_index_heads"), sparse.integer("sparse_index_dim")
    chosen = BlockSparseAttention(attention, *index, block * blocks)
    width = keys.integer("intermediate_size")
    shared = keys.integer("n_shared_experts", default=1, least=0) * keys.integer("shared_intermediate_size", least=0)
    bias = keys.flag("use_routing_bias", True)
    experts = MoEFFN(*routed_experts(keys, "num_local_experts"), width, shared, router_bias=bias)
    dense = DenseFFN(keys.integer("dense_intermediate_size"))
    return common | {
        "layers": group_layers(
            (chosen if picked else attention, experts if routed else dense)
            for picked, routed in zip(
                sparse.numbers("sparse_attention_freq", 1, layers),
                keys.numbers("moe_layer_freq", 1, layers),
                strict=True,
            )
        )
    }


def mimo_v2(keys: Keys) -> dict[str, Any]:
    """MiMo-V2: keys wider than values; most layers have a window, more key-value heads and attention sinks."""
    common, layers = common_fields(keys), layer_count(keys)
    values, bias = keys.integer("v_head_dim"), keys.flag("attention_bias", False)
    whole = GroupedQueryAttention(
        keys.integer("num_attention_heads"),
        keys.integer("num_key_value_heads"),
        keys.integer("head_dim"),
        qkv_bias=bias,
        sinks=keys.flag("add_full_attention_sink_bias", False),
        value_dim=values,
    )
    local = GroupedQueryAttention(
        keys.integer("swa_num_attention_heads", default=whole.heads),
        keys.integer("swa_num_key_value_heads", default=whole.kv_heads),
        keys.integer("swa_head_dim", default=whole.head_dim),
        keys.integer("sliding_window"),
        qkv_bias=bias,
        sinks=keys.flag("add_swa_attention_sink_bias", True),
        value_dim=keys.integer("swa_v_head_dim", default=values),
    )
    for attention, name in ((whole, "num_key_value_heads"), (local, "swa_num_key_value_heads")):
        if attention.heads % attention.kv_heads:
            what = f"{attention.kv_heads} key-value heads do not divide {attention.heads} attention heads"
            keys.wrong(what, name, "every key-value head serves as many query heads")
    width = keys.integer("moe_intermediate_size")
    shared = width * keys.integer("n_shared_experts", default=0, least=0)
    experts = MoEFFN(*routed_experts(keys, "n_routed_experts"), width, shared, router_bias=True)
    dense = DenseFFN(keys.integer("intermediate_size"))
    windows, routed = keys.numbers("hybrid_layer_pattern", 1, layers), keys.numbers("moe_layer_freq", 1, layers)
    return common | {
        "layers": group_layers(
            (local if window else whole, experts if sparse else dense)
            for window, sparse in zip(windows, routed, strict=True)
        )
    }


def step3(keys: Keys) -> dict[str, Any]:
    """Step 3.5 and 3.7: three layers with a window for each one without, which may have other heads; a gate of each
    head; a few dense layers first, then experts with a shared one. Lists may go on with the prediction layers."""
    common, layers = common_fields(keys), layer_count(keys)
    kinds = keys.data.get("layer_types")
    if isinstance(kinds, list):
        keys.data = {**keys.data, "layer_types": kinds[:layers]}
    if keys.given("num_attention_groups"):
        keys.data = {**keys.data, "num_key_value_heads": keys.data["num_attention_groups"]}
    hidden, windows = common["hidden_size"], windows_of(keys, layers)
    whole = grouped_query(keys, hidden, qk_norm=True, head_gate=True)
    local = whole
    if keys.given("attention_other_setting"):
        other = keys.inner("attention_other_setting")
        same = {"num_attention_heads": other.integer("num_attention_heads")}
        same["num_key_value_heads"] = other.integer("num_attention_groups", default=whole(None).kv_heads)
        same["head_dim"] = other.integer("head_dim", default=whole(None).head_dim)
        local = grouped_query(keys.of({**keys.data, **same}), hidden, qk_norm=True, head_gate=True)
    width = keys.integer("moe_intermediate_size")
    used = "num_experts_per_tok" if keys.given("num_experts_per_tok") else "moe_top_k"
    sparse = MoEFFN(
        *routed_experts(keys, "num_experts", "moe_num_experts", "n_routed_experts", top_k=used),
        width,
        keys.integer("share_expert_dim", "share_expert_dims", default=width),
        router_bias=keys.flag("use_moe_router_bias", True),
    )
    dense = DenseFFN(keys.integer("intermediate_size"))
    first = keys.integer("first_k_dense_replace", default=3, least=0)
    return common | {
        "layers": group_layers(
            (local(window) if window else whole(None), sparse if layer >= first else dense)
            for layer, window in enumerate(windows)
        )
    }
