"""An architecture: layers of attention and FFN between an embedding and a head; what it weighs and what it asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, repeat
from math import ceil

import numpy as np

from simulator.model.attention import AttentionKind, GroupedQueryAttention
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Collective, Gather, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce
from simulator.model.use import ALWAYS, PathSearch, Use

TENSOR_CLASSES = ("embedding", "attention", "ffn", "expert", "router", "head", "norm")

NORM_FLOPS = 5.0
"""Elementary operations of a residual add and a norm per value: add, square, sum, two products."""


@dataclass(frozen=True)
class Layer:
    """Layers of one shape; `places` count from 0. A hybrid's layer may have only an attention or only an FFN."""

    attention: AttentionKind | None
    ffn: FFN | None
    places: tuple[int, ...] = (0,)
    use: Use = ALWAYS

    @property
    def count(self) -> int:
        """Layers of this shape."""
        return len(self.places)

    @property
    def parts(self) -> int:
        """Attention and FFN, as many as there are."""
        return (self.attention is not None) + (self.ffn is not None)


Shape = tuple[AttentionKind | None, FFN | None]


def group_layers(shapes: Iterable[Shape], uses: Iterable[Use] = ()) -> tuple[Layer, ...]:
    """Layers of equal shape, used alike, counted together, in order of first appearance.

    A layer whose FFN reads addresses that the token ids give stays alone: the layers before it hide the reads.
    """
    groups: dict[tuple[Shape, Use, int | None], list[int]] = {}
    for place, (shape, use) in enumerate(zip(shapes, chain(uses, repeat(ALWAYS)), strict=False)):
        ffn = shape[1]
        alone = place if ffn and ffn.address_known == "token" else None
        groups.setdefault((shape, use, alone), []).append(place)
    return tuple(Layer(*shape, tuple(places), use) for (shape, use, _), places in groups.items())


def shapes_of(layers: Iterable[Layer]) -> list[Shape]:
    """Attention and FFN of each layer, from the first to the last."""
    placed = [(place, (layer.attention, layer.ffn)) for layer in layers for place in layer.places]
    return [shape for _, shape in sorted(placed, key=lambda item: item[0])]


@dataclass(frozen=True)
class Architecture:
    """A decoder. `source` says where the shape is from; `precision` what its checkpoint is stored in, if it says so.

    parallel_block      attention and FFN read the same norm and are added together: one all-reduce a layer (PaLM)
    post_norms          a norm after each part as well as before it (Gemma 3)
    norm_bias           LayerNorm (scale and shift) instead of RMSNorm (scale)
    embedding_norm      a norm right after the embedding (BLOOM)
    sorted_sampling     its published generation_config.json asks for top-k or top-p, for which the sampler sorts
    learned_positions   rows of the position table, 0 when positions are rotated or biased in
    tiers               (tensor, memory tier) of tensors that the model wants somewhere
    heads               how often the head is evaluated for a token that is emitted
    cycles              rounds of the serving loop for a token that a sequence emits (below 1: several a round)
    prompts_in_full     every prompt token passes every layer once, whatever tokens that are generated do
    searches            where tokens turn to different layers
    """

    name: str
    source: str
    hidden_size: int
    vocab_size: int
    max_context: int
    layers: tuple[Layer, ...]
    tied_embeddings: bool = False
    parallel_block: bool = False
    post_norms: bool = False
    norm_bias: bool = False
    embedding_norm: bool = False
    sorted_sampling: bool = True
    learned_positions: int = 0
    precision: Precision | None = None
    tiers: tuple[tuple[str, str], ...] = ()
    heads: tuple[Use, ...] = (ALWAYS,)
    cycles: float = 1.0
    prompts_in_full: bool = False
    searches: tuple[PathSearch, ...] = ()

    @property
    def layer_count(self) -> int:
        """Layers in all."""
        return sum(layer.count for layer in self.layers)

    def layers_run(self, tokens: Array) -> Array:
        """Expected layers that run in a step of `tokens` tokens, each run counted."""
        return sum((layer.count * layer.use.times(tokens) for layer in self.layers), 0.0)

    def for_prompts(self) -> Architecture:
        """The model as prompt tokens pass it: all layers once where `prompts_in_full`, else as it is."""
        if not self.prompts_in_full:
            return self
        layers = tuple(
            replace(layer, use=replace(ALWAYS, kept=layer.use.kept, weights=layer.use.weights)) for layer in self.layers
        )
        return replace(self, layers=layers, heads=(ALWAYS,), cycles=1.0, prompts_in_full=False)

    def shapes(self) -> list[Shape]:
        """Attention and FFN of each layer, from the first to the last."""
        return shapes_of(self.layers)

    def norms(self, layer: Layer) -> int:
        """Norms of one layer."""
        return 1 if self.parallel_block else layer.parts * (2 if self.post_norms else 1)

    def _classes(self, parallelism: Parallelism) -> dict[str, float]:
        """Tensor class -> parameters on one chip, all stages of a pipeline taken together."""
        counts = dict.fromkeys(TENSOR_CLASSES, 0.0)
        table = ceil(self.vocab_size / parallelism.tp) * self.hidden_size
        norm = self.hidden_size * (2 if self.norm_bias else 1)
        counts["embedding"] = float(table + self.learned_positions * self.hidden_size)
        counts["head"] = 0.0 if self.tied_embeddings else float(table)
        counts["norm"] = float(norm * (2 if self.embedding_norm else 1))
        for layer in self.layers:
            own = layer.count * layer.use.weights
            counts["norm"] += own * self.norms(layer) * norm
            for part in (layer.attention, layer.ffn):
                for tensor, count in (part.parameters(self.hidden_size, parallelism) if part else {}).items():
                    counts[tensor] = counts.get(tensor, 0.0) + own * count
        counts["router"] += float(sum(search.width * self.hidden_size for search in self.searches))
        return counts

    def parameters_by_class(self) -> dict[str, int]:
        """Parameters of each tensor class: embedding (with positions), attention, ffn (dense and shared experts),
        expert (routed), router, head (0 when tied to the embedding), norm. Vision towers and multi-token prediction
        modules are not part of the decoder."""
        return {tensor: round(count) for tensor, count in self._classes(Parallelism()).items()}

    def total_parameters(self) -> int:
        """All parameters of the decoder."""
        return sum(self.parameters_by_class().values())

    def active_parameters(self) -> int:
        """Parameters that one token uses: everything but the routed experts and rows that it does not visit, and the
        mean over the layers that it passes. The whole embedding and the head count, as DeepSeek counts; cards that
        leave one or both out print less."""
        idle = 0.0
        for layer in self.layers:
            own, reach, hidden = layer.count * layer.use.weights, layer.use.reach, self.hidden_size
            if layer.ffn:
                whole = sum(layer.ffn.parameters(hidden).values())
                idle += own * (whole - reach * layer.ffn.active_parameters(hidden))
            if layer.attention:
                idle += own * (1.0 - reach) * sum(layer.attention.parameters(hidden).values())
        idle += sum(search.width * self.hidden_size * (1.0 - search.use.reach) for search in self.searches)
        return self.total_parameters() - round(idle)

    def weight_bytes(self, precision: Precision) -> dict[str, float]:
        """Tensor class -> bytes of the whole model, stored once."""
        return {t: count * precision.bytes_of(t) for t, count in self.parameters_by_class().items()}

    def weight_bytes_per_chip(self, precision: Precision, parallelism: Parallelism) -> dict[str, float]:
        """Tensor class -> bytes on one chip, the mean over the stages of a pipeline.

        Routed experts are cut over tp*dp chips, all other matrices over tp and copied over dp. Copied over tp as well:
        norms, routers, positions, latent compressions, and key-value projections when tp exceeds their heads. A head
        tied to the embedding is held once.
        """
        counts = self._classes(parallelism)
        return {t: count * precision.bytes_of(t) / parallelism.pp for t, count in counts.items()}

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The distinct windows that attention reads, None (full attention) first."""
        found = {window for layer in self.layers if layer.attention for window in layer.attention.reads}
        return tuple(sorted(found, key=lambda window: (window is not None, window or 0)))

    def _grows(self, attention: AttentionKind) -> bool:
        """Whether the cache of a layer is charged for every token. Beside layers that attend to everything, a layer
        with a window keeps a fixed share; where every layer has a window, all are charged as full ones, because
        serving software then keeps one table of blocks for all layers. A window of one token is a state; of chunks all
        keys are kept."""
        whole = attention.window is None or (isinstance(attention, GroupedQueryAttention) and attention.chunked)
        return whole or (None not in self.windows and (attention.window or 0) > 1)

    def kv_bytes_per_token(self, precision: Precision, parallelism: Parallelism = ONE_CHIP) -> float:
        """Cache bytes that one more token of a sequence takes on each chip that holds the sequence.

        The mean over pp stages; at least one key-value head a chip; a latent is copied over tp. A sequence lives on
        one of the dp copies, so a replica holds dp times what one chip's cache holds.
        """
        return sum(
            layer.count
            * layer.use.kept
            * layer.attention.kv_bytes_per_token(precision, parallelism.tp)
            / parallelism.pp
            for layer in self.layers
            if layer.attention and self._grows(layer.attention)
        )

    def kv_bytes_per_sequence(self, precision: Precision, parallelism: Parallelism = ONE_CHIP) -> float:
        """Cache bytes that a sequence takes on each chip that holds it, whatever its length: min(window, max_context)
        tokens of every layer with a window (0 where those are charged per token) and fixed states."""
        total = 0.0
        for layer in self.layers:
            if layer.attention:
                total += layer.count * layer.attention.state_bytes(precision, parallelism.tp)
                if not self._grows(layer.attention) and layer.attention.window is not None:
                    kept = min(layer.attention.window, self.max_context) * layer.use.kept
                    total += layer.count * kept * layer.attention.kv_bytes_per_token(precision, parallelism.tp)
        return total / parallelism.pp

    def flops_per_token(self) -> float:
        """Matrix FLOPs of one token that passes the layers and the head, attention scores left out."""
        operations = self.forward(Batch(1.0, 1.0), Parallelism(), Precision())
        return float(sum(2.0 * o.m * o.n * o.k * o.repeat for o in operations if isinstance(o, Matmul)))

    def forward(
        self, batch: Batch, parallelism: Parallelism, precision: Precision, zipf: float = 0.0
    ) -> list[Operation]:
        """The operations of one chip and all layers for one step of a replica; `zipf` skews the experts' popularity.

        Data parallelism gives each copy 1/dp of the batch. A pipeline is in its steady state: pp micro-batches are in
        flight and every chip is busy, so while one micro-batch of tokens/pp passes all pp stages, each sequence gets
        one token. One step is therefore the whole stack at 1/(dp*pp) of the batch; a batch is never cut below one
        token, so with fewer tokens than dp*pp some stages and copies idle.
        Norms and residual sums read the part's output and the residual, and write the sum and the normed vector:
        4*tokens*hidden values. The gathering of logits is left out: a stack's cost per logit contains it.
        """
        stages = np.minimum(parallelism.pp, np.maximum(batch.tokens, 1.0)) if parallelism.pp > 1 else 1.0
        all_tokens = batch.tokens / stages
        copies = np.minimum(parallelism.dp, np.maximum(all_tokens, 1.0)) if parallelism.dp > 1 else 1.0
        divisor = stages * copies
        share = Batch(
            batch.tokens / divisor,
            batch.outputs / divisor,
            {window: value / divisor for window, value in batch.decode_context.items()},
            {window: value / divisor for window, value in batch.prefill_pairs.items()},
        )
        tokens, hidden = share.tokens, self.hidden_size
        operations: list[Operation] = [self._look_up(tokens, parallelism, precision)]
        if self.embedding_norm:
            operations.append(_norm("embedding norm", tokens, hidden, 1, parallelism.tp))
        for layer in self.layers:
            operations += self._layer(layer, share, all_tokens, parallelism, precision, zipf)
        for search in self.searches:
            operations += self._search(search, tokens, all_tokens, parallelism, precision)
        if parallelism.pp > 1:
            size = tokens * (hidden * ACTIVATION_BYTES)
            stage = parallelism.tp * parallelism.dp
            hops = parallelism.pp - 1
            operations.append(Collective("stage to stage", "send_receive", size, parallelism.pp, hops, stage))
        operations.append(_norm("final norm", tokens, hidden, 1, parallelism.tp))
        columns = ceil(self.vocab_size / parallelism.tp)
        tensor = "embedding" if self.tied_embeddings else "head"
        stored = precision.format_of(tensor)
        for use in self.heads:
            outputs, times = share.outputs * use.share(batch.outputs), use.times(batch.outputs)
            operations.append(Matmul("head", outputs, columns, hidden, stored, tensor, 1.0, times))
        if parallelism.dp == 1:
            return operations
        taking = copies / parallelism.dp
        return [replace(o, taking=taking) if isinstance(o, Collective) and not o.of_all else o for o in operations]

    def _layer(
        self,
        layer: Layer,
        share: Batch,
        all_tokens: Array,
        parallelism: Parallelism,
        precision: Precision,
        zipf: float,
    ) -> list[Operation]:
        """The operations of a group of layers: as many runs, with as many tokens, as their use says."""
        hidden, use = self.hidden_size, layer.use
        part, runs = use.share(all_tokens), layer.count * use.times(all_tokens)
        here = Batch(
            share.tokens * part,
            share.outputs,
            {window: value * (part * use.seen) for window, value in share.decode_context.items()},
            {window: value * (part * use.seen) for window, value in share.prefill_pairs.items()},
        )
        norms = _norm("norms", here.tokens, hidden, self.norms(layer) * runs, parallelism.tp)
        operations: list[Operation] = [norms]
        if layer.attention:
            operations += layer.attention.operations(hidden, here, parallelism, precision, runs)
            # In a parallel block the FFN's all-reduce carries the sum of both.
            if not (self.parallel_block and layer.ffn):
                operations += all_reduce("attention all-reduce", here.tokens, hidden, parallelism.tp, runs)
            if use.filled == "copied" and use.reach < 1.0:
                operations += self._copied_keys(layer, share.tokens, all_tokens, parallelism, precision)
        if layer.ffn:
            before = float(layer.places[0])
            operations += layer.ffn.operations(
                Visit(hidden, here.tokens, all_tokens * part, parallelism, precision, zipf, before, runs)
            )
        return operations

    def _search(
        self, search: PathSearch, tokens: Array, all_tokens: Array, parallelism: Parallelism, precision: Precision
    ) -> list[Operation]:
        """Scores of the ways, and hidden states read and written in the order of the ways that they take."""
        rows, runs, stored = tokens * search.use.share(all_tokens), search.use.times(all_tokens), "router"
        format, width = precision.format_of(stored), float(search.width)
        moved = rows * (2 * self.hidden_size * ACTIVATION_BYTES)
        return [
            Matmul("path search", rows, width, self.hidden_size, format, stored, 1.0, runs),
            Vector("path order", rows * width, moved, runs, parallelism.tp),
        ]

    def _copied_keys(
        self, layer: Layer, tokens: Array, all_tokens: Array, parallelism: Parallelism, precision: Precision
    ) -> list[Operation]:
        """Keys and values of the tokens that do not reach a layer, projected from the hidden state that they left with:
        its projection is read for them alone where the layer does not run."""
        use, attention = layer.use, layer.attention
        width = attention.kv_bytes_per_token(Precision(), parallelism.tp) / ACTIVATION_BYTES if attention else 0.0
        if not width:
            return []
        alone = 1.0 - use.times(all_tokens) / use.passes
        rows, stored = tokens * (1.0 - use.reach), precision.format_of("attention")
        return [Matmul("copied keys", rows, width, self.hidden_size, stored, "attention", alone, float(layer.count))]

    def _look_up(self, tokens: Array, parallelism: Parallelism, precision: Precision) -> Operation:
        """One row of the embedding for each token; tp spreads the rows, token ids are known before the step."""
        rows = tokens / parallelism.tp
        row_bytes = self.hidden_size * precision.bytes_of("embedding")
        return Gather("embedding", "embedding", rows, rows, row_bytes, 1.0, "token")


def _norm(name: str, tokens: Array, hidden: int, repeat: Array, copies: int) -> Vector:
    return Vector(name, tokens * (NORM_FLOPS * hidden), tokens * (4 * hidden * ACTIVATION_BYTES), repeat, copies)
