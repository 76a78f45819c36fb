"""Readers of dense models: a reader turns the keys of one model_type into the fields of an architecture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulator.model.architecture import group_layers
from simulator.model.attention import AttentionKind, GroupedQueryAttention
from simulator.model.config_keys import Keys
from simulator.model.config_parts import common_fields, grouped_query, layer_count, qwen_windows
from simulator.model.cross_attention import CrossAttention
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.product_key_memory import ProductKeyMemory


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


def gpt2(keys: Keys) -> dict[str, Any]:
    return _gpt(keys, positions_offset=0)


def opt(keys: Keys) -> dict[str, Any]:
    """OPT's position table has two more rows than positions."""
    return _gpt(keys, positions_offset=2)


def bloom(keys: Keys) -> dict[str, Any]:
    """ALiBi instead of positions; trained on 2,048 tokens, which newer configs do not repeat."""
    return _gpt(keys, positions_offset=None, embedding_norm=True)


def palm(keys: Keys) -> dict[str, Any]:
    """PaLM (Chowdhery et al. 2022, section 2): multi-query, SwiGLU, parallel layers, no biases, a tied head."""
    common = common_fields(keys, tied=True)
    attention = grouped_query(keys, common["hidden_size"], kv_heads=1)(None)
    ffn = DenseFFN(keys.integer("intermediate_size"), keys.integer("ffn_matrices", default=3, least=2, most=3))
    layers = group_layers([(attention, ffn)] * layer_count(keys))
    return common | {"layers": layers, "parallel_block": keys.flag("parallel_layers", True)}


def llama(
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


def mistral(keys: Keys) -> dict[str, Any]:
    """Llama with one sliding window for all layers, where there is one."""
    return llama(keys, lambda keys, layers: [keys.optional("sliding_window")] * layers)


def qwen2(keys: Keys) -> dict[str, Any]:
    return llama(keys, qwen_windows, qkv_bias=True)


def qwen3(keys: Keys) -> dict[str, Any]:
    return llama(keys, qwen_windows, qk_norm=True)


def gptj(keys: Keys) -> dict[str, Any]:
    """GPT-J: attention and FFN in parallel behind one LayerNorm, biases in the FFN alone, an untied head.

    The bias of the head (one value a word) is left out.
    """
    common = common_fields(keys)
    attention = grouped_query(keys, common["hidden_size"])(None)
    ffn = DenseFFN(keys.integer("n_inner", default=4 * common["hidden_size"]), 2, bias=True)
    layers = group_layers([(attention, ffn)] * layer_count(keys))
    return common | {"layers": layers, "parallel_block": True, "norm_bias": True}


def falcon(keys: Keys) -> dict[str, Any]:
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


def gemma(keys: Keys) -> dict[str, Any]:
    """Gemma 1: Llama with a tied head."""
    return llama(keys, tied=True)


def mimo(keys: Keys) -> dict[str, Any]:
    """MiMo: Qwen2 with an untied head; `attention_bias` is of queries, keys and values. The prediction layer is left
    out."""
    bias = keys.flag("attention_bias", True)
    keys.data = {**keys.data, "attention_bias": False}
    return llama(keys, qwen_windows, qkv_bias=bias)


def mllama(keys: Keys) -> dict[str, Any]:
    """Llama 3.2 Vision: Llama, of whose layers `cross_attention_layers` attend to the image alone.

    The image is `max_num_tiles` tiles of (image_size / patch_size)^2 + 1 vectors; eight words more are embedded than
    the head gives, which are left out.
    """
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"])
    vision = keys.inner("vision_config")
    patches = vision.integer("image_size", default=448) // vision.integer("patch_size", default=14)
    source = vision.integer("max_num_tiles", default=4) * (patches**2 + 1)
    text: AttentionKind = attention(None)
    image: AttentionKind = CrossAttention(replace(attention(None), qk_norm=True), source)
    crossing = keys.numbers("cross_attention_layers", layers - 1)
    ffn = DenseFFN(keys.integer("intermediate_size"))
    return common | {"layers": group_layers((image if layer in crossing else text, ffn) for layer in range(layers))}


def nemotron_nas(keys: Keys) -> dict[str, Any]:
    """Nemotron Super and Ultra (DeciLM, found by architecture search): layers that differ, some without attention.

    Widths are 2/3 * ffn_mult * hidden_size, rounded up to a multiple of 256, as the checkpoint's code does.
    """
    common, layers = common_fields(keys), layer_count(keys)
    hidden, heads = common["hidden_size"], keys.integer("num_attention_heads")
    blocks = keys.data.get("block_configs")
    if not isinstance(blocks, list) or len(blocks) != layers:
        keys.wrong(f"block_configs is not a list of {layers}", "block_configs", "write one for each layer")
        blocks = []
    shapes: list[tuple[AttentionKind | None, FFN | None]] = []
    for entry in blocks:
        block = keys.of(entry if isinstance(entry, dict) else {})
        attention, ffn = block.inner("attention"), block.inner("ffn")
        for part in (attention, ffn):
            if part.flag("replace_with_linear", False):
                part.wrong(
                    "replace_with_linear is true", "replace_with_linear", "only attention, FFN or nothing is known"
                )
        kind = None
        if not attention.flag("no_op", False):
            group = attention.integer("n_heads_in_group")
            window = attention.optional("window_length")
            kind = GroupedQueryAttention(heads, max(1, heads // group), max(1, hidden // heads), window)
        width = 0
        if not ffn.flag("no_op", False):
            mult = ffn.data.get("ffn_mult")
            if isinstance(mult, bool) or not isinstance(mult, int | float) or not 0 < mult < 1000:
                ffn.wrong(f"ffn_mult is {mult!r}", "ffn_mult", "write a number above 0")
                mult = 1.0
            width = -(-int(2 * mult * hidden / 3) // 256) * 256
        shapes.append((kind, DenseFFN(width) if width else None))
    return common | {"layers": group_layers(shapes)}


def memory_plus(keys: Keys) -> dict[str, Any]:
    """Memory+ (Memory Layers at Scale): Llama, of whose layers `mem_layers` have a product-key memory for an FFN.

    Keys as in facebookresearch/memory: mem_n_keys half-keys, mem_heads, mem_knn rows a head, mem_k_dim, mem_v_dim.
    """
    common, layers = common_fields(keys), layer_count(keys)
    attention = grouped_query(keys, common["hidden_size"])(None)
    places = keys.numbers("mem_layers", layers - 1)
    half_keys, rows = keys.integer("mem_n_keys"), keys.integer("mem_knn", default=32)
    if rows > half_keys:
        keys.wrong(f"mem_knn {rows} is more than the {half_keys} half-keys", "mem_knn")
        half_keys = rows
    memory: FFN = ProductKeyMemory(
        half_keys,
        keys.integer("mem_v_dim"),
        keys.integer("mem_heads", default=4),
        rows,
        keys.integer("mem_k_dim", default=512),
        shared=keys.flag("mem_share_values", True),
        gated=keys.flag("swilu_projection", True),
        sharers=len(places) if keys.flag("mem_share_values", True) else 1,
    )
    dense: FFN = DenseFFN(keys.integer("intermediate_size"))
    return common | {"layers": group_layers((attention, memory if n in places else dense) for n in range(layers))}
