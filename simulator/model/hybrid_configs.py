"""Readers of hybrids: models that mix attention with layers that keep a state of fixed size."""

from __future__ import annotations

from typing import Any

from simulator.model.architecture import group_layers
from simulator.model.attention import AttentionKind
from simulator.model.config_keys import Keys
from simulator.model.config_parts import common_fields, grouped_query, layer_count, routed_experts
from simulator.model.ffn import FFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.latent_moe import LatentMoEFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.gated_delta import GatedDeltaNet
from simulator.model.mamba import Mamba2

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
