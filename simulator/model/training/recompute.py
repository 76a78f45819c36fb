"""What the backward pass computes again: nothing, all, a stack's own choice, or named parts of a layer (Megatron-Core's
`recompute_modules`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from simulator.model.operation import Attention, Operation

Mode = Literal["none", "selective", "full"]
PartName = Literal["core_attn", "layernorm", "mla_up_proj", "mlp", "moe", "moe_act", "shared_experts"]
Recompute = Mode | frozenset[PartName]
"""A mode, or names of PARTS."""


@dataclass(frozen=True)
class Part:
    """A part of a layer that can be computed again: its operations by the beginnings of their names (None: the scores),
    and which products then keep less: `inputs` by what they read, `outputs` by what they write."""

    operations: tuple[str, ...] | None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


_EXPERTS = ("router", "routing", "experts", "shared experts", "to latent", "from latent")

PARTS: dict[PartName, Part] = {
    "core_attn": Part(None),
    "mla_up_proj": Part(
        ("query expansion", "latent expansion", "rotary"), outputs=("query expansion", "latent expansion")
    ),
    "layernorm": Part(
        ("norms",),
        inputs=("qkv projection", "qkv compression", "state projection", "ffn up", "router", "shared experts up"),
    ),
    "moe_act": Part(("experts activation",), inputs=("experts down",)),
    "mlp": Part(("ffn",), inputs=("ffn down",), outputs=("ffn up",)),
    "shared_experts": Part(("shared experts",), inputs=("shared experts down",), outputs=("shared experts up",)),
    "moe": Part(
        _EXPERTS,
        inputs=("experts up", "experts down", "shared experts down", "from latent"),
        outputs=("experts up", "experts down", "shared experts up", "to latent", "from latent"),
    ),
}


def computed_again(operations: Iterable[Operation], parts: frozenset[PartName]) -> list[Operation]:
    """The operations of a forward pass that belong to these parts, each once."""
    chosen = [PARTS[name] for name in sorted(parts)]
    return [operation for operation in operations if any(_belongs(operation, part) for part in chosen)]


def parts_of(operations: Iterable[Operation]) -> frozenset[PartName]:
    """The parts of a layer with these operations: those without which a product would keep more."""
    listed = list(operations)
    scored = any(isinstance(operation, Attention) for operation in listed)
    names = {operation.name for operation in listed}
    return frozenset(
        name
        for name, part in PARTS.items()
        if (scored if part.operations is None else names & {*part.inputs, *part.outputs})
    )


def _belongs(operation: Operation, part: Part) -> bool:
    if part.operations is None:
        return isinstance(operation, Attention)
    return not isinstance(operation, Attention) and operation.name.startswith(part.operations)


def forgotten(parts: frozenset[PartName]) -> tuple[frozenset[str], frozenset[str]]:
    """Products whose inputs, and products whose outputs, need not be kept."""
    inputs = frozenset(name for part in parts for name in PARTS[part].inputs)
    return inputs, frozenset(name for part in parts for name in PARTS[part].outputs)


def recompute_text(recompute: Recompute) -> str:
    """'none', 'selective', 'full', or the parts: 'mla_up_proj + moe_act'."""
    return recompute if isinstance(recompute, str) else " + ".join(sorted(recompute)) or "none"
