"""HuggingFace config.json -> Architecture: one reader for each model_type, and no guess about any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import ModelError, Problem, unknown
from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import GroupedQueryAttention, LatentAttention
from simulator.model.config_keys import Keys, parse_config
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.quantization import stored_precision


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


# --- what the readers share -------------------------------------------------------------------------------------------


def _common(keys: Keys, *, context: int | None = None, tied: bool = False) -> dict[str, Any]:
    """Fields that every config names alike. `tied` is the class's own default, as transformers has it."""
    return {
        "hidden_size": keys.integer("hidden_size", "n_embd"),
        "vocab_size": keys.integer("vocab_size"),
        "max_context": keys.integer("max_position_embeddings", "n_positions", "seq_length", default=context),
        "tied_embeddings": keys.flag("tie_word_embeddings", tied),
    }


def _count(keys: Keys) -> int:
    return keys.integer("num_hidden_layers", "n_layer", most=10_000)


def _attention(
    keys: Keys,
    hidden: int,
    *,
    bias: bool = False,
    qkv_bias: bool | None = None,
    kv_heads: int | None = None,
    **options: Any,
) -> Callable[[int | None], GroupedQueryAttention]:
    """Window -> grouped-query attention. head_dim is hidden/heads and key-value heads are the heads where not given."""
    heads = keys.integer("num_attention_heads", "n_head")
    kv = keys.integer("num_key_value_heads", default=kv_heads or heads)
    if not keys.given("head_dim") and hidden % heads:
        keys.wrong(
            f"{heads} attention heads do not divide hidden_size {hidden}", "num_attention_heads", "give head_dim"
        )
    if heads % kv:
        mend = "every key-value head serves as many query heads"
        keys.wrong(f"{kv} key-value heads do not divide {heads} attention heads", "num_key_value_heads", mend)
    head_dim = keys.integer("head_dim", default=max(1, hidden // heads))
    output_bias = keys.flag("attention_bias", bias)
    qkv = output_bias if qkv_bias is None else qkv_bias
    return lambda window: GroupedQueryAttention(
        heads, kv, head_dim, window, qkv_bias=qkv, output_bias=output_bias, **options
    )


def _latent(keys: Keys) -> LatentAttention:
    return LatentAttention(
        keys.integer("num_attention_heads"),
        keys.integer("kv_lora_rank"),
        keys.integer("qk_nope_head_dim"),
        keys.integer("qk_rope_head_dim"),
        keys.integer("v_head_dim"),
        keys.optional("q_lora_rank"),
    )


def _experts(keys: Keys, *names: str) -> tuple[int, int]:
    """Routed experts and how many of them a token uses."""
    experts = keys.integer(*names, most=100_000)
    top_k = keys.integer("num_experts_per_tok")
    if top_k > experts:
        keys.wrong(f"num_experts_per_tok {top_k} is more than {experts} experts", "num_experts_per_tok")
    return experts, top_k


def _windows(keys: Keys, layers: int) -> list[int | None]:
    """The window of each layer from layer_types and sliding_window."""
    kinds = keys.entries("layer_types", layers, ("full_attention", "sliding_attention"))
    window = keys.integer("sliding_window") if "sliding_attention" in kinds else None
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _qwen_windows(keys: Keys, layers: int) -> list[int | None]:
    """Qwen: only with use_sliding_window, and then from layer max_window_layers on."""
    if not keys.flag("use_sliding_window", False):
        return [None] * layers
    if keys.given("layer_types"):
        return _windows(keys, layers)
    window, first = keys.integer("sliding_window"), keys.integer("max_window_layers", least=0)
    return [window if layer >= first else None for layer in range(layers)]


# --- readers, one for each family -------------------------------------------------------------------------------------


def _gpt(keys: Keys, *, positions_offset: int | None, embedding_norm: bool = False) -> dict[str, Any]:
    """GPT-2 and -3, OPT, BLOOM: LayerNorm, biases everywhere, two matrices, a tied head."""
    common = _common(keys, context=2048 if positions_offset is None else None, tied=True)
    hidden = common["hidden_size"]
    attention = _attention(keys, hidden, bias=True)(None)
    width = keys.integer("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    matrices = keys.integer("ffn_matrices", default=2, least=2, most=3)
    ffn = DenseFFN(width, matrices, bias=keys.flag("mlp_bias", True))
    if keys.integer("word_embed_proj_dim", default=hidden) != hidden:
        keys.wrong(
            "word_embed_proj_dim differs from hidden_size", "word_embed_proj_dim", "projected embeddings are not known"
        )
    return common | {
        "layers": group_layers([(attention, ffn)] * _count(keys)),
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
    common = _common(keys, tied=True)
    attention = _attention(keys, common["hidden_size"], kv_heads=1)(None)
    ffn = DenseFFN(keys.integer("intermediate_size"), keys.integer("ffn_matrices", default=3, least=2, most=3))
    layers = group_layers([(attention, ffn)] * _count(keys))
    return common | {"layers": layers, "parallel_block": keys.flag("parallel_layers", True)}


def _llama(
    keys: Keys, windows: Callable[[Keys, int], list[int | None]] | None = None, **options: Any
) -> dict[str, Any]:
    """Llama and its kin: RMSNorm, SwiGLU, grouped queries."""
    common = _common(keys)
    attention, layers = _attention(keys, common["hidden_size"], **options), _count(keys)
    ffn = DenseFFN(keys.integer("intermediate_size"), bias=keys.flag("mlp_bias", False))
    each = windows(keys, layers) if windows else [None] * layers
    return common | {"layers": group_layers((attention(window), ffn) for window in each)}


def _mistral(keys: Keys) -> dict[str, Any]:
    """Llama with one sliding window for all layers, where there is one."""
    return _llama(keys, lambda keys, layers: [keys.optional("sliding_window")] * layers)


def _qwen2(keys: Keys) -> dict[str, Any]:
    return _llama(keys, _qwen_windows, qkv_bias=True)


def _qwen3(keys: Keys) -> dict[str, Any]:
    return _llama(keys, _qwen_windows, qk_norm=True)


def _qwen3_moe(keys: Keys) -> dict[str, Any]:
    common, layers = _common(keys), _count(keys)
    attention = _attention(keys, common["hidden_size"], qk_norm=True)
    experts, top_k = _experts(keys, "num_experts")
    sparse: FFN = MoEFFN(experts, top_k, keys.integer("moe_intermediate_size"))
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    step, only = keys.integer("decoder_sparse_step", default=1), keys.data.get("mlp_only_layers") or []
    if not isinstance(only, list):
        keys.wrong(f"mlp_only_layers is {only!r}", "mlp_only_layers", "write a list of layer numbers")
        only = []
    ffns = [dense if layer in only or (layer + 1) % step else sparse for layer in range(layers)]
    windows = _qwen_windows(keys, layers)
    return common | {
        "layers": group_layers((attention(window), ffn) for window, ffn in zip(windows, ffns, strict=True))
    }


def _mixtral(keys: Keys) -> dict[str, Any]:
    common = _common(keys)
    attention = _attention(keys, common["hidden_size"])(keys.optional("sliding_window"))
    ffn = MoEFFN(*_experts(keys, "num_local_experts"), keys.integer("intermediate_size"))
    return common | {"layers": group_layers([(attention, ffn)] * _count(keys))}


def _deepseek(keys: Keys) -> dict[str, Any]:
    """DeepSeek-V2, -V3, -R1, Kimi K2: latent attention, dense first layers, then experts with shared ones."""
    common, layers, attention = _common(keys), _count(keys), _latent(keys)
    experts, top_k = _experts(keys, "n_routed_experts")
    width = keys.integer("moe_intermediate_size")
    shared = width * keys.integer("n_shared_experts", default=0, least=0)
    # noaux_tc: a learned bias for each expert balances the load instead of a loss (DeepSeek-V3).
    sparse: FFN = MoEFFN(experts, top_k, width, shared, router_bias=keys.data.get("topk_method") == "noaux_tc")
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    first, every = keys.integer("first_k_dense_replace", least=0), keys.integer("moe_layer_freq", default=1)
    if first > layers:
        keys.wrong(f"first_k_dense_replace {first} is more than {layers} layers", "first_k_dense_replace")
    ffns = [sparse if layer >= first and layer % every == 0 else dense for layer in range(layers)]
    return common | {"layers": group_layers((attention, ffn) for ffn in ffns)}


def _gpt_oss(keys: Keys) -> dict[str, Any]:
    """gpt-oss: biases everywhere, attention sinks, every other layer with a window of 128."""
    common, layers = _common(keys), _count(keys)
    attention = _attention(keys, common["hidden_size"], bias=True, sinks=True)
    ffn = MoEFFN(*_experts(keys, "num_local_experts"), keys.integer("intermediate_size"), bias=True, router_bias=True)
    return common | {"layers": group_layers((attention(window), ffn) for window in _windows(keys, layers))}


def _llama4(keys: Keys) -> dict[str, Any]:
    """Llama 4: chunked attention except in every fourth layer, one routed and one shared expert in every n-th layer.

    A chunk of attention_chunk_size is read as a window of that size, which is the most that a query in it reaches.
    """
    common, layers = _common(keys), _count(keys)
    attention = _attention(keys, common["hidden_size"])  # its query-key norm has no parameters
    experts, top_k = _experts(keys, "num_local_experts")
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
    common, layers = _common(keys, tied=True), _count(keys)
    attention = _attention(keys, common["hidden_size"], qk_norm=True)
    ffn = DenseFFN(keys.integer("intermediate_size"))
    if keys.given("layer_types"):
        windows = _windows(keys, layers)
    else:
        window, every = keys.integer("sliding_window"), keys.integer("sliding_window_pattern")
        windows = [window if (layer + 1) % every else None for layer in range(layers)]
    return common | {"layers": group_layers((attention(window), ffn) for window in windows), "post_norms": True}


READERS: dict[str, Callable[[Keys], dict[str, Any]]] = {
    "gpt2": _gpt2,
    "opt": _opt,
    "bloom": _bloom,
    "palm": _palm,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "mixtral": _mixtral,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "kimi_k2": _deepseek,
    "gpt_oss": _gpt_oss,
    "llama4_text": _llama4,
    "gemma3_text": _gemma3,
}
