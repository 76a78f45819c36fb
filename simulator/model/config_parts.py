"""Keys of a config.json that many families share -> attention, experts, windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from simulator.model.attention import GroupedQueryAttention, LatentAttention
from simulator.model.compressed_attention import OVERLAPPING, CompressedAttention
from simulator.model.config_keys import Keys
from simulator.model.sparse_attention import SparseLatentAttention


def common_fields(keys: Keys, *, context: int | None = None, tied: bool = False) -> dict[str, Any]:
    """Fields that every config names alike. `tied` is the class's own default, as transformers has it."""
    return {
        "hidden_size": keys.integer("hidden_size", "n_embd"),
        "vocab_size": keys.integer("vocab_size"),
        "max_context": keys.integer("max_position_embeddings", "n_positions", "seq_length", default=context),
        "tied_embeddings": keys.flag("tie_word_embeddings", tied),
    }


def layer_count(keys: Keys) -> int:
    """Layers in all."""
    return keys.integer("num_hidden_layers", "n_layer", most=10_000)


def grouped_query(
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


def latent_attention(keys: Keys) -> LatentAttention:
    """Multi-head latent attention as DeepSeek names its parts."""
    return LatentAttention(
        keys.integer("num_attention_heads"),
        keys.integer("kv_lora_rank"),
        keys.integer("qk_nope_head_dim"),
        keys.integer("qk_rope_head_dim"),
        keys.integer("v_head_dim"),
        keys.optional("q_lora_rank"),
    )


def sparse_latent_attention(keys: Keys, layers: int) -> list[SparseLatentAttention]:
    """Latent attention behind an indexer, layer by layer; `indexer_types` names layers that share another's choice."""
    shape = (keys.integer("index_n_heads"), keys.integer("index_head_dim"), keys.integer("index_topk"))
    latent = latent_attention(keys)
    kinds = keys.entries("indexer_types", layers, ("full", "shared")) if keys.given("indexer_types") else []
    if not kinds and keys.data.get("index_topk_freq", 1) != 1:
        keys.wrong("index_topk_freq without indexer_types", "index_topk_freq", "name full and shared layers")
    if kinds and kinds[0] != "full":
        keys.wrong("the first layer shares an indexer", "indexer_types", "the first layer is 'full'")
    return [SparseLatentAttention(latent, *shape, kind == "full") for kind in kinds or ["full"] * layers]


def compressed_attention(keys: Keys, layers: int) -> list[CompressedAttention]:
    """DeepSeek-V4's attention, layer by layer: `compress_ratios` (the last entries are of the prediction modules)."""
    ratios = keys.data.get("compress_ratios")
    if not isinstance(ratios, list) or len(ratios) < layers or any(type(r) is not int or r < 0 for r in ratios):
        keys.wrong(f"compress_ratios is not a list of {layers} whole numbers", "compress_ratios")
        ratios = [0] * layers
    index = [keys.integer(name) for name in ("index_n_heads", "index_head_dim", "index_topk")]
    bare = CompressedAttention(
        heads=keys.integer("num_attention_heads"),
        head_dim=keys.integer("head_dim"),
        rotary_dim=keys.integer("qk_rope_head_dim"),
        query_rank=keys.integer("q_lora_rank"),
        groups=keys.integer("o_groups"),
        output_rank=keys.integer("o_lora_rank"),
        local=keys.integer("sliding_window"),
    )
    # Layers of long blocks read all of their few entries; the indexer serves the short ones.
    indexed = replace(bare, index_heads=index[0], index_head_dim=index[1], index_topk=index[2])
    return [replace(indexed if ratio == OVERLAPPING else bare, ratio=ratio) for ratio in ratios[:layers]]


def routed_experts(keys: Keys, *names: str, top_k: str = "num_experts_per_tok") -> tuple[int, int]:
    """Routed experts and how many of them a token uses (the key `top_k`)."""
    experts, used = keys.integer(*names, most=100_000), keys.integer(top_k)
    if used > experts:
        keys.wrong(f"{top_k} {used} is more than {experts} experts", top_k)
    return experts, min(used, experts)


def shared_keys(keys: Keys, kinds: list[str]) -> list[bool]:
    """Which layers borrow the keys and values of the last layer of their kind before them: the last
    `num_kv_shared_layers` (Gemma 3n, Gemma 4)."""
    shared = keys.integer("num_kv_shared_layers", default=0, least=0)
    first = len(kinds) - shared
    if first < 0 or (shared and set(kinds[:first]) != set(kinds)):
        what = f"num_kv_shared_layers {shared} leaves a kind of layer without keys of its own"
        keys.wrong(what, "num_kv_shared_layers", "the layers before must have every kind of layer_types")
    return [layer >= first for layer in range(len(kinds))]


def windows_of(keys: Keys, layers: int) -> list[int | None]:
    """The window of each layer from layer_types and sliding_window."""
    kinds = keys.entries("layer_types", layers, ("full_attention", "sliding_attention"))
    window = keys.integer("sliding_window") if "sliding_attention" in kinds else None
    return [window if kind == "sliding_attention" else None for kind in kinds]


def qwen_windows(keys: Keys, layers: int) -> list[int | None]:
    """Qwen: only with use_sliding_window, and then from layer max_window_layers on."""
    if not keys.flag("use_sliding_window", False):
        return [None] * layers
    if keys.given("layer_types"):
        return windows_of(keys, layers)
    window, first = keys.integer("sliding_window"), keys.integer("max_window_layers", least=0)
    return [window if layer >= first else None for layer in range(layers)]
