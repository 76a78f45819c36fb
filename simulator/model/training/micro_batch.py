"""What one micro-batch of a training step asks of one chip: the forward operations of a layer and of both ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

from simulator.model.architecture import NORM_FLOPS, Architecture, Layer
from simulator.model.attention import AttentionKind
from simulator.model.ffn import Visit
from simulator.model.ffn.together import members_of
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Batch, Collective, Gather, Matmul, Operation, Stream, Vector
from simulator.model.parallelism import all_reduce
from simulator.model.training.layout import TrainingLayout

NORM_BYTES = 11.0
"""Bytes a value of a norm and the residual sum before it: the norm reads and writes (4), the sum with dropout reads
two, writes one (6) and the mask (1)."""

EXPERT_BIAS_BYTES = 8.0
"""Bytes a value of adding the biases of grouped experts: taken apart by expert, added and put together again, each step
read and written in 16 bits (Megatron-Core)."""

LOGIT_BYTES = 16.0
"""Bytes of softmax traffic for one logit: fp32 read and written by the loss and by its gradient."""


@dataclass(frozen=True)
class MicroBatch:
    """`sequences` sequences of `length` tokens that pass the pipeline together."""

    sequences: float
    length: int

    def tokens(self, layout: TrainingLayout) -> float:
        """Tokens on one chip: context parallelism cuts the sequences."""
        return self.sequences * self.length / layout.cp

    def pairs(self, layout: TrainingLayout, window: int | None) -> float:
        """Query-key pairs of the causal half on one chip."""
        reach = self.length if window is None else min(window, self.length)
        whole = reach * (reach + 1) / 2 + (self.length - reach) * reach
        return self.sequences * whole / layout.cp


def layer_operations(
    architecture: Architecture, layer: Layer, micro: MicroBatch, layout: TrainingLayout, precision: Precision
) -> list[Operation]:
    """Forward operations of one layer on one chip, collectives of tensor and expert parallelism included."""
    tokens, hidden, cut = micro.tokens(layout), architecture.hidden_size, layout.of_one_stage()
    norms = architecture.norms(layer)
    operations: list[Operation] = [_norm(tokens, hidden, layout, norms)]
    if layer.attention:
        pairs = {window: micro.pairs(layout, window) for window in layer.attention.reads}
        batch = Batch(tokens, 0.0, {}, pairs)
        operations += layer.attention.operations(hidden, batch, cut, precision, 1)
        if layout.cp > 1:
            operations += _ring(layer.attention, tokens, layout)
        if not (architecture.parallel_block and layer.ffn):
            operations += all_reduce("attention all-reduce", tokens, hidden, layout.tp, 1)
    if layer.ffn:
        before = float(layer.places[0])
        ffn = layer.ffn.operations(Visit(hidden, tokens, tokens * cut.dp, cut, precision, 0.0, before))
        biased = any(getattr(part, "bias", False) for part in members_of(layer.ffn))
        operations += [*ffn, *_biases(ffn)] if biased else ffn
    return operations


def _biases(operations: Iterable[Operation]) -> list[Operation]:
    """The biases of grouped products, which no kernel adds on its way; those of single products are free."""
    grouped = [o for o in operations if isinstance(o, Matmul) and o.tensor == "expert"]
    return [Stream(f"{o.name} bias", "expert", EXPERT_BIAS_BYTES * float(o.m) * o.n * float(o.repeat)) for o in grouped]


def sent_once(operations: Iterable[Operation], layer: Layer) -> list[Operation]:
    """The same operations where the exchange between experts sends a token to a rank once, however many of its experts
    it chose there."""
    parts = members_of(layer.ffn) if layer.ffn else ()
    chosen = max((float(getattr(part, "top_k", 0)) for part in parts if hasattr(part, "experts")), default=0.0)
    return [replace(o, chosen=chosen) if isinstance(o, Collective) and _of_experts(o) else o for o in operations]


def _of_experts(collective: Collective) -> bool:
    """Rows of tables are exchanged all to all, too, each once."""
    return collective.pattern == "all_to_all" and collective.name.startswith("experts")


def _norm(tokens: float, hidden: int, layout: TrainingLayout, count: float) -> Vector:
    values = tokens * hidden / layout.norm_cut * count
    return Vector("norms", NORM_FLOPS * values, NORM_BYTES * values)


def _ring(attention: AttentionKind, tokens: float, layout: TrainingLayout) -> list[Operation]:
    """Keys and values of the other cp - 1 chips, handed round a ring (Liu et al. 2023)."""
    each = attention.kv_bytes_per_token(Precision(), layout.tp)
    if not each:
        return []
    # Both go round in the forward pass, their gradients beside them in the backward pass.
    return [Collective("context ring", "ring", tokens * each * (layout.cp - 1), layout.cp)]


def embedding_operations(
    architecture: Architecture, micro: MicroBatch, layout: TrainingLayout, precision: Precision
) -> list[Operation]:
    """Rows of the embedding, and their sum over tp: each chip holds a part of the vocabulary."""
    tokens, hidden = micro.tokens(layout), architecture.hidden_size
    rows = tokens / layout.tp
    size = hidden * precision.bytes_of("embedding")
    found: list[Operation] = [Gather("embedding", "embedding", rows, rows, size, 1.0, "token")]
    if architecture.embedding_norm:
        found.append(_norm(tokens, hidden, layout, 1))
    return found


def head_operations(architecture: Architecture, micro: MicroBatch, layout: TrainingLayout) -> list[Operation]:
    """Final norm, the head in 16 bits whatever the layers compute in, and the softmax over the logits."""
    tokens = micro.tokens(layout)
    columns = ceil(architecture.vocab_size / layout.tp)
    logits = tokens * columns
    return [
        _norm(tokens, architecture.hidden_size, layout, 1),
        Matmul("head", tokens, columns, architecture.hidden_size, "bf16", "head"),
        # Forward and backward together; the backward pass is priced without it.
        Vector("softmax", 5.0 * logits, LOGIT_BYTES * logits),
    ]


def attention_core(operations: list[Operation]) -> list[Operation]:
    """Scores and values alone: what selective recomputation repeats where the scores are kept (Korthikanti 2022)."""
    return [operation for operation in operations if isinstance(operation, Attention)]


def head_width(attention: AttentionKind) -> float:
    """Mean width of a head's keys and values; 0 for kinds without heads of keys."""
    if hasattr(attention, "head_dim"):
        return float(attention.head_dim)
    latent = [float(getattr(attention, name, 0)) for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")]
    return sum(latent) / 2.0


def heads_on_a_chip(attention: AttentionKind, layout: TrainingLayout) -> float:
    """Query heads on one chip."""
    return ceil(int(getattr(attention, "heads", 0)) / layout.tp)


@lru_cache(256)
def looked_up(architecture: Architecture) -> frozenset[str]:
    """Tensor classes of which a step reads and updates single rows."""
    found = set()
    for layer in architecture.layers:
        if layer.ffn and layer.ffn.memory_parameters(architecture.hidden_size):
            operations = layer_operations(architecture, layer, MicroBatch(1.0, 128), TrainingLayout(), Precision())
            found |= {operation.tensor for operation in operations if isinstance(operation, Gather)}
    return frozenset(found)


def rows_of_a_micro_batch(
    architecture: Architecture, micro: MicroBatch, layout: TrainingLayout, precision: Precision
) -> float:
    """Bytes of the distinct table rows that a chip reads for a micro-batch, all layers of a stage."""
    tables = looked_up(architecture)
    total = 0.0
    for layer in architecture.layers if tables else ():
        for operation in layer_operations(architecture, layer, micro, layout, precision):
            if isinstance(operation, Gather) and operation.tensor in tables:
                total += layer.count * float(operation.unique_rows) * operation.row_bytes
    return total / layout.pp


def parameters_on_a_chip(architecture: Architecture, layout: TrainingLayout) -> tuple[dict[str, float], float, float]:
    """(tensor class -> parameters of a mean layer, of the embedding, of the head) on one chip of a stage.

    A head tied to the embedding is a copy where a pipeline keeps them apart, and counts 0 where one stage holds both.
    """
    cut = layout.of_one_stage()
    counts: dict[str, float] = {}
    hidden = architecture.hidden_size
    norm = hidden * (2 if architecture.norm_bias else 1)
    for layer in architecture.layers:
        share = layer.count / architecture.layer_count
        counts["norm"] = counts.get("norm", 0.0) + share * architecture.norms(layer) * norm
        for part in (layer.attention, layer.ffn):
            for tensor, count in (part.parameters(hidden, cut) if part else {}).items():
                counts[tensor] = counts.get(tensor, 0.0) + share * count
    table = ceil(architecture.vocab_size / layout.tp) * hidden
    embedding = float(table + architecture.learned_positions * hidden)
    head = 0.0 if architecture.tied_embeddings and layout.pp == 1 else float(table)
    return counts, embedding, head
