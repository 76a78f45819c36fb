"""Readers of Gemma 3, 3n and 4."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from simulator.model.architecture import group_layers
from simulator.model.config_keys import Keys
from simulator.model.config_parts import (
    common_fields,
    grouped_query,
    layer_count,
    routed_experts,
    shared_keys,
    windows_of,
)
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.per_layer_embedding import PerLayerEmbedding
from simulator.model.ffn.residual_streams import ResidualStreams
from simulator.model.ffn.together import Together


def gemma3(keys: Keys) -> dict[str, Any]:
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


def gemma3n(keys: Keys) -> dict[str, Any]:
    """Gemma 3n: an embedding in every layer, four residual streams (AltUp), a low-rank path (LAuReL), and last layers
    that borrow the keys of earlier ones.

    The first layers keep 5 % of their activations; software computes all of them, so they are counted as dense.
    """
    common, layers = common_fields(keys, tied=True), layer_count(keys)
    width = keys.integer("intermediate_size")
    streams = ResidualStreams(
        keys.integer("altup_num_inputs", default=4), keys.integer("laurel_rank", default=64), wide=False
    )
    kinds = _kinds(keys, layers, 5)
    windows, borrowed = windows_of(keys, layers), shared_keys(keys, kinds)
    attention = grouped_query(keys, common["hidden_size"], qk_norm=True)
    embedding = _per_layer_embedding(keys)
    shapes = []
    for layer, window in enumerate(windows):
        turns = streams.streams - 1 if layer in (0, layers - 1) else 0
        parts = DenseFFN(width), embedding, replace(streams, turns=turns)
        ffn = Together(tuple(part for part in parts if part))
        shapes.append((replace(attention(window), borrowed=borrowed[layer]), ffn))
    return common | {"layers": group_layers(shapes), "post_norms": True}


def gemma4(keys: Keys) -> dict[str, Any]:
    """Gemma 4: windows with narrow heads, full attention with wide ones whose values are their keys; dense, or a dense
    FFN beside experts; the small ones with an embedding in every layer and borrowed keys.

    Three norms and a scale more in layers with experts are left out.
    """
    common, layers = common_fields(keys, tied=True), layer_count(keys)
    hidden, width = common["hidden_size"], keys.integer("intermediate_size")
    kinds = _kinds(keys, layers, 6)
    windows, borrowed = windows_of(keys, layers), shared_keys(keys, kinds)
    own = keys.flag("attention_k_eq_v", False)
    heads = {"head_dim": keys.integer("global_head_dim", default=512)}
    if own and keys.given("num_global_key_value_heads"):
        heads["num_key_value_heads"] = keys.integer("num_global_key_value_heads")
    narrow, wide = (grouped_query(known, hidden, qk_norm=True) for known in (keys, keys.of({**keys.data, **heads})))
    doubled, embedding = keys.flag("use_double_wide_mlp", False), _per_layer_embedding(keys)
    experts = None
    if keys.flag("enable_moe_block", False):
        shape = routed_experts(keys, "num_experts", top_k="top_k_experts")
        experts = MoEFFN(*shape, keys.integer("moe_intermediate_size"), width, router_bias=True)
    shapes = []
    for window, borrows in zip(windows, borrowed, strict=True):
        attention = wide(None) if window is None else narrow(window)
        attention = replace(attention, values_are_keys=own and window is None, borrowed=borrows)
        ffn: FFN = experts or DenseFFN(width * (2 if doubled and borrows else 1))
        shapes.append((attention, Together((ffn, embedding)) if embedding else ffn))
    return common | {"layers": group_layers(shapes), "post_norms": True}


def _kinds(keys: Keys, layers: int, every: int) -> list[str]:
    """layer_types, or a full layer after every - 1 ones with a window; written back where it was not given."""
    if not keys.given("layer_types"):
        kinds = ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
        keys.data = {**keys.data, "layer_types": kinds}
    return keys.entries("layer_types", layers, ("full_attention", "sliding_attention"))


def _per_layer_embedding(keys: Keys) -> PerLayerEmbedding | None:
    """A row of every word in each layer, where the model has them."""
    width = keys.integer("hidden_size_per_layer_input", default=256, least=0)
    words = keys.integer("vocab_size_per_layer_input", default=262_144)
    return PerLayerEmbedding(width, vocabulary=words) if width else None
