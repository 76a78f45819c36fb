"""A model told by its shape alone, where there is no config.json: `"model_type": "shape"` and a few numbers.

{"model_type": "shape", "layers": 96, "hidden": 12288, "heads": 96, "vocab": 51200}                     a GPT
{"model_type": "shape", "layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336, "matrices": 3,
 "vocab": 128256, "experts": 8, "top_k": 2}
"""

from __future__ import annotations

from typing import Any

from simulator.model.architecture import group_layers
from simulator.model.attention import GroupedQueryAttention
from simulator.model.config_keys import Keys
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.moe import MoEFFN


def shape(keys: Keys) -> dict[str, Any]:
    """layers, hidden, heads, vocab; kv_heads = heads, head_dim = hidden / heads, ffn = 4 * hidden, matrices = 2,
    context = 2048, tied = true, window = none; with `experts` and `top_k` every layer has experts of ffn, and one of
    `shared_ffn` beside them.
    """
    hidden, heads = keys.integer("hidden"), keys.integer("heads")
    kv_heads = keys.integer("kv_heads", default=heads)
    if not keys.given("head_dim") and hidden % heads:
        keys.wrong(f"{heads} heads do not divide hidden {hidden}", "heads", "give head_dim")
    if heads % kv_heads:
        keys.wrong(f"{kv_heads} kv_heads do not divide {heads} heads", "kv_heads", "each serves as many heads")
    head_dim = keys.integer("head_dim", default=max(1, hidden // heads))
    attention = GroupedQueryAttention(heads, kv_heads, head_dim, keys.optional("window"))
    width, matrices = keys.integer("ffn", default=4 * hidden), keys.integer("matrices", default=2, least=2, most=3)
    ffn: FFN = DenseFFN(width, matrices)
    if keys.given("experts"):
        experts, top_k = keys.integer("experts", most=100_000), keys.integer("top_k")
        if top_k > experts:
            keys.wrong(f"top_k {top_k} is more than {experts} experts", "top_k")
        shared = keys.integer("shared_ffn", default=0, least=0)
        ffn = MoEFFN(experts, min(top_k, experts), width, shared, matrices)
    return {
        "hidden_size": hidden,
        "vocab_size": keys.integer("vocab"),
        "max_context": keys.integer("context", default=2048),
        "tied_embeddings": keys.flag("tied", True),
        "layers": group_layers([(attention, ffn)] * keys.integer("layers", most=10_000)),
    }
