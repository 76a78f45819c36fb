"""The model of a row: from the zoo where its name is known, else as its columns describe it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import log2

from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import GroupedQueryAttention
from simulator.model.ffn.dense import DenseFFN
from simulator.model.zoo import load_model, model_names
from simulator.validation import aliases
from simulator.validation.rows import RefusedError
from simulator.validation.training.rows import TrainingRow

NEMOTRON_22B = Architecture(
    name="Nemotron-22B",
    source="NVIDIA/NeMo: Nemotron3Config22B (40 layers, hidden 6144, FFN 24576, 48 heads, squared ReLU)",
    hidden_size=6144,
    vocab_size=256000,
    max_context=4096,
    layers=group_layers([(GroupedQueryAttention(48, 48, 128), DenseFFN(24576, 2))] * 40),
)


def architecture_of(row: TrainingRow) -> Architecture:
    """The model of a row, or why it has none."""
    entries = aliases.longest("training_models", model=row.model)
    entry = entries[0] if entries else {"zoo": "", "matrices": "3", "head_dim": ""}
    layers = row.number("layers")
    if entry["zoo"] and entry["zoo"] in _known_models():
        model = _zoo(entry["zoo"])
        return _cut(model, int(layers)) if layers and layers != model.layer_count else model
    if row.model == "Nemotron-22B":
        return NEMOTRON_22B
    shape = _maxtext(row) if row.model.startswith("MaxText") and not layers else _columns(row, entry)
    if shape is None:
        raise RefusedError("shape of the model not stated")
    return shape


@cache
def _known_models() -> frozenset[str]:
    return frozenset(model_names())


@cache
def _zoo(name: str) -> Architecture:
    return load_model(name)


def _cut(model: Architecture, layers: int) -> Architecture:
    """The first `layers` layers of the model."""
    return replace(model, layers=group_layers(model.shapes()[:layers]))


def _columns(row: TrainingRow, entry: aliases.Entry) -> Architecture | None:
    layers, hidden, vocab = (row.number(name) for name in ("layers", "hidden", "vocab"))
    ffn = row.number("ffn_hidden")
    if layers is None or hidden is None or ffn is None or row.cells["moe"]:
        return None
    heads = row.number("heads") or _aligned(hidden)
    width = float(entry["head_dim"]) if entry["head_dim"] and hidden >= 4096 else hidden / heads
    kv_heads = row.number("kv_heads") or heads
    attention = GroupedQueryAttention(int(heads), int(kv_heads), int(width))
    return Architecture(
        name=row.model,
        source="the columns of the row",
        hidden_size=int(hidden),
        vocab_size=int(vocab or 50257),
        max_context=row.whole("seq_len"),
        layers=group_layers([(attention, DenseFFN(int(ffn), int(entry["matrices"] or 3)))] * int(layers)),
        tied_embeddings=entry["matrices"] == "2",
    )


def _aligned(hidden: float) -> float:
    """Heads where a row states none: as many as give heads of 128, the width that kernels like best."""
    return max(1.0, hidden // 128)


def _maxtext(row: TrainingRow) -> Architecture | None:
    """MaxText-NB: log2(N) = 3q + r; layers 16 2^q, hidden 2048 2^(q + (r = 2)), heads 16 2^(q + (r > 0)) of 256, gated
    FFN 7168 2^(q + (r > 0)) (recalled)."""
    size = row.model.removeprefix("MaxText-").removesuffix("B")
    if not size.isdigit() or int(size) & (int(size) - 1):
        return None
    q, r = divmod(int(log2(int(size))), 3)
    attention = GroupedQueryAttention(16 << (q + (r > 0)), 16 << (q + (r > 0)), 256)
    return Architecture(
        name=row.model,
        source="MaxText's rule for its sizes (recalled)",
        hidden_size=2048 << (q + (r == 2)),
        vocab_size=row.whole("vocab", 32000),
        max_context=row.whole("seq_len"),
        layers=group_layers([(attention, DenseFFN(7168 << (q + (r > 0)), 3))] * (16 << q)),
    )
