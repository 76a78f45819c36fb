"""HuggingFace config.json -> Architecture: one reader for each model_type, and no guess about any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import ModelError, Problem, unknown
from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import AttentionKind
from simulator.model.config_keys import Keys, parse_config
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
from simulator.model.hybrid_configs import nemotron_h, qwen3_5
from simulator.model.quantization import stored_precision
from simulator.model.shape_config import shape


def read_config(config: str | Path | Mapping[str, Any], name: str | None = None) -> Architecture:
    """The architecture of a config.json (a path) or of its contents (a mapping).

    A model with a `text_config` is read as its text decoder alone; vision and audio towers and multi-token prediction
    modules are left out. A key `_source` says where the shape is from. Raises ModelError with everything that is wrong.
    """
    if isinstance(config, Mapping):
        data, file, text = dict(config), name or "config", ""
    else:
        file = str(config)
        text, data = parse_config(Path(config))
    inner = data.get("text_config")
    if isinstance(inner, Mapping):
        outer = {k: v for k, v in data.items() if k not in ("text_config", "model_type")}
        data = {**outer, **inner}
    keys = Keys(data, file, text)
    model_type = data.get("model_type")
    if not isinstance(model_type, str) or model_type not in READERS:
        if model_type is None:
            raise ModelError(Problem("missing 'model_type'", keys.where(), "known: " + ", ".join(sorted(READERS))))
        raise ModelError(unknown("model_type", model_type, READERS, keys.where("model_type")))
    fields = READERS[model_type](keys)
    precision = None
    try:
        precision = stored_precision(data)
    except ValueError as error:
        keys.wrong(str(error), "quantization_config", "take it out and state the precision in the scenario")
    if keys.problems:
        raise ModelError(keys.problems)
    source = data.get("_source")
    fields |= {"name": name or Path(file).stem, "source": source if isinstance(source, str) else file}
    return Architecture(**fields, precision=precision)


def _gpt(keys: Keys, *, positions_offset: int | None, embedding_norm: bool = False) -> dict[str, Any]:
    """GPT-2 and -3, OPT, BLOOM: LayerNorm, biases everywhere, two matrices, a tied head."""
    common = common_fields(keys, context=2048 if positions_offset is None else None, tied=True)
    hidden = common["hidden_size"]
    attention = grouped_query(keys, hidden, bias=True)(None)
    width = keys.integer("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    matrices = keys.integer("ffn_matrices", default=2, least=2, most=3)
    ffn = DenseFFN(width, matrices, bias=keys.flag("mlp_bias", True))
    if keys.integer("word_embed_proj_dim", default=hidden) != hidden:
        keys.wrong(
            "word_embed_proj_dim differs from hidden_size", "word_embed_proj_dim", "projected embeddings are not known"
        )
    return common | {
        "layers": group_layers([(attention, ffn)] * layer_count(keys)),
        "norm_bias": True,
        "embedding_norm": embedding_norm,
        "learned_positions": 0 if positions_offset is None else common["max_context"] + positions_offset,
    }


def _gpt2(keys: Keys) -> dict[str, Any]:
    return _gpt(keys, positions_offset=0)


def _opt(keys: Keys) -> dict[str, Any]:
    """OPT's position table has two more rows than positions."""
    return _gpt(keys, positions_offset=2)


def _bloom(keys: Keys) -> dict[str, Any]:
    """ALiBi instead of positions; trained on 2,048 tokens, which newer configs do not repeat."""
    return _gpt(keys, positions_offset=None, embedding_norm=True)


def _palm(keys: Keys) -> dict[str, Any]:
    """PaLM (Chowdhery et al. 2022, section 2): multi-query, SwiGLU, parallel layers, no biases, a tied head."""
    common = common_fields(keys, tied=True)
    attention = grouped_query(keys, common["hidden_size"], kv_heads=1)(None)
    ffn = DenseFFN(keys.integer("intermediate_size"), keys.integer("ffn_matrices", default=3, least=2, most=3))
    layers = group_layers([(attention, ffn)] * layer_count(keys))
    return common | {"layers": layers, "parallel_block": keys.flag("parallel_layers", True)}


def _llama(
    keys: Keys,
    windows: Callable[[Keys, int], list[int | None]] | None = None,
    *,
    tied: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Llama and its kin: RMSNorm, SwiGLU, grouped queries."""
    common = common_fields(keys, tied=tied)
    attention, layers = grouped_query(keys, common["hidden_size"], **options), layer_count(keys)
    ffn = DenseFFN(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", False))
    each = windows(keys, layers) if windows else [None] * layers
    return common | {"layers": group_layers((attention(window), ffn) for window in each)}


def _mistral(keys: Keys) -> dict[str, Any]:
    """Llama with one sliding window for all layers, where there is one."""
    return _llama(keys, lambda keys, layers: [keys.optional("sliding_window")] * layers)


def _qwen2(keys: Keys) -> dict[str, Any]:
    return _llama(keys, qwen_windows, qkv_bias=True)


def _qwen3(keys: Keys) -> dict[str, Any]:
    return _llama(keys, qwen_windows, qk_norm=True)


def _qwen3_moe(keys: Keys) -> dict[str, Any]:
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


def _mixtral(keys: Keys) -> dict[str, Any]:
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"])(keys.optional("sliding_window"))
    ffn = MoEFFN(*routed_experts(keys, "num_local_experts"), keys.integer("intermediate_size"))
    return common | {"layers": group_layers([(attention, ffn)] * layer_count(keys))}


def _deepseek(keys: Keys) -> dict[str, Any]:
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


def _deepseek_v4(keys: Keys) -> dict[str, Any]:
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


def _gpt_oss(keys: Keys) -> dict[str, Any]:
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


def _llama4(keys: Keys) -> dict[str, Any]:
    """Llama 4: chunked attention except in every fourth layer, one routed and one shared expert in every n-th layer.

    A chunk of attention_chunk_size is read as a window of that size, which is the most that a query in it reaches.
    """
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"])  # its query-key norm has no parameters
    experts, top_k = routed_experts(keys, "num_local_experts")
    width = keys.integer("intermediate_size")
    sparse: FFN = MoEFFN(experts, top_k, width, shared_width=width)
    dense: FFN = DenseFFN(keys.integer("intermediate_size_mlp"))
    step, chunk = keys.integer("interleave_moe_layer_step"), keys.optional("attention_chunk_size")
    every = keys.integer("no_rope_layer_interval", default=4)
    shapes = [
        (attention(chunk if layer % every else None), dense if layer % step else sparse)
        for layer in range(1, layers + 1)
    ]
    return common | {"layers": group_layers(shapes)}


def _gemma3(keys: Keys) -> dict[str, Any]:
    """Gemma 3: norms before and after each part, five layers with a window for each one without."""
    common, layers = common_fields(keys, tied=True), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=True)
    ffn = DenseFFN(keys.integer("intermediate_size"))
    if keys.given("layer_types"):
        windows = windows_of(keys, layers)
    else:
        window, every = keys.integer("sliding_window"), keys.integer("sliding_window_pattern")
        windows = [window if (layer + 1) % every else None for layer in range(layers)]
    return common | {"layers": group_layers((attention(window), ffn) for window in windows), "post_norms": True}


def _gptj(keys: Keys) -> dict[str, Any]:
    """GPT-J: attention and FFN in parallel behind one LayerNorm, biases in the FFN alone, an untied head.

    The bias of the head (one value a word) is left out.
    """
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"])(None)
    ffn = DenseFFN(keys.integer("n_inner", default=4 * common["hidden_size"]), 2, bias=True)
    layers = group_layers([(attention, ffn)] * layer_count(keys))
    return common | {"layers": layers, "parallel_block": True, "norm_bias": True}


def _falcon(keys: Keys) -> dict[str, Any]:
    """Falcon: multi-query (7B) or grouped queries (40B, 180B), two matrices, attention and FFN in parallel, tied head.

    Falcon-40B and -180B norm the two parts apart; both norms read the same input and are counted as one.
    """
    common = common_fields(keys, context=2048, tied=True)
    hidden, bias = common["hidden_size"], keys.flag("bias", False)
    new, multi = keys.flag("new_decoder_architecture", False), keys.flag("multi_query", True)
    if keys.flag("alibi", False):
        keys.wrong("alibi is true", "alibi", "only Falcon with rotary embeddings is known")
    kv_heads = keys.integer("num_kv_heads") if new else (1 if multi else None)
    attention = grouped_query(keys, hidden, bias=bias, kv_heads=kv_heads)(None)
    ffn = DenseFFN(keys.integer("ffn_hidden_size", default=4 * hidden), 2, bias=bias)
    return common | {
        "layers": group_layers([(attention, ffn)] * layer_count(keys)),
        "parallel_block": keys.flag("parallel_attn", True),
        "norm_bias": True,
    }


def _gemma(keys: Keys) -> dict[str, Any]:
    """Gemma 1: Llama with a tied head."""
    return _llama(keys, tied=True)


def _minimax_m2(keys: Keys) -> dict[str, Any]:
    """MiniMax M2: experts in every layer, a norm over all query heads together and one over all key heads.

    The norms are counted as one of head_dim each.
    """
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=keys.flag("use_qk_norm", True))(None)
    width, shared = keys.integer("intermediate_size"), keys.integer("shared_intermediate_size", default=0, least=0)
    bias = keys.flag("use_routing_bias", True)
    ffn = MoEFFN(*routed_experts(keys, "num_local_experts"), width, shared, router_bias=bias)
    return common | {"layers": group_layers([(attention, ffn)] * layer_count(keys))}


READERS: dict[str, Callable[[Keys], dict[str, Any]]] = {
    "gpt2": _gpt2,
    "opt": _opt,
    "bloom": _bloom,
    "palm": _palm,
    "llama": _llama,
    "phi3": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "mixtral": _mixtral,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "kimi_k2": _deepseek,
    "glm4_moe_lite": _deepseek,
    "deepseek_v32": _deepseek,
    "deepseek_v4": _deepseek_v4,
    "glm_moe_dsa": _deepseek,
    "gpt_oss": _gpt_oss,
    "llama4_text": _llama4,
    "gemma": _gemma,
    "gemma3_text": _gemma3,
    "gptj": _gptj,
    "falcon": _falcon,
    "minimax_m2": _minimax_m2,
    "qwen3_vl_text": _qwen3,
    "qwen3_vl_moe_text": _qwen3_moe,
    "qwen3_5_text": qwen3_5,
    "qwen3_5_moe_text": qwen3_5,
    "nemotron_h": nemotron_h,
    "shape": shape,
}
