"""Attention over compressed keys (DeepSeek-V4): a short window of tokens, and one entry for every few tokens before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal
from simulator.model.scores import ROTARY_FLOPS, scores
from simulator.model.sparse_attention import INDEX_SCALE_BYTES

OVERLAPPING = 4
"""Ratio at which neighbouring blocks overlap, so that the compressor is twice as wide (DeepSeek-V4; recalled)."""


@dataclass(frozen=True)
class CompressedAttention:
    """Multi-query attention to the last `local` tokens and to entries that stand for `ratio` tokens each.

    One vector of `head_dim` is key and value for all heads. ratio 0: the window alone. With `index_topk` an indexer of
    `index_heads` scores every entry and attention reads the best index_topk of them, else all context / ratio. Heads
    are led back through `groups` projections of rank `output_rank`. tp cuts heads; keys, compressor and indexer are
    copied to every chip.

    Source: DeepSeek-V4 config.json; widths of compressor and indexer as in its published code (recalled).
    """

    kind: ClassVar[str] = "compressed"

    heads: int
    head_dim: int
    rotary_dim: int
    query_rank: int
    groups: int
    output_rank: int
    local: int
    ratio: int = 0
    index_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0

    @property
    def window(self) -> int | None:
        """Nothing but the last tokens without compression; else something of every token is kept."""
        return None if self.ratio else self.local

    @property
    def reads(self) -> tuple[int | None, ...]:
        """The last tokens, all tokens for entries, those whose entries are read where an indexer chooses."""
        if not self.ratio:
            return (self.local,)
        return (self.local, None, self._chosen) if self.index_topk else (self.local, None)

    @property
    def _chosen(self) -> int:
        return self.index_topk * self.ratio

    def _compressors(self, hidden: int) -> float:
        """Parameters that make entries: values and gates of head_dim, and of an index key where there is an indexer."""
        width = self.head_dim + (self.index_head_dim if self.index_topk else 0)
        return 2.0 * hidden * width * (2 if self.ratio == OVERLAPPING else 1)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*(query_rank + head_dim) + query_rank*heads*head_dim + heads*head_dim*output_rank + groups*output_rank*
        hidden, compressors, query_rank*index_heads*index_dim + hidden*index_heads; norms of query and key."""
        inner = self.heads * self.head_dim / parallelism.tp
        count = hidden * (self.query_rank + self.head_dim) + inner * (self.query_rank + self.output_rank)
        count += self.groups * self.output_rank * hidden / parallelism.tp
        if self.ratio:
            count += self._compressors(hidden)
        if self.index_topk:
            count += self.query_rank * self.index_heads * self.index_head_dim + hidden * self.index_heads
        return {"attention": float(count), "norm": float(self.query_rank + self.head_dim)}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """An entry, and an index key in 8 bits with its scale, divided by `ratio`; without compression one key."""
        entry = self.head_dim * precision.bytes_of("kv")
        if not self.ratio:
            return entry
        index = self.index_head_dim + INDEX_SCALE_BYTES if self.index_topk else 0.0
        return (entry + index) / self.ratio

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """The last `local` tokens, beside the entries."""
        return self.local * self.head_dim * precision.bytes_of("kv") if self.ratio else 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the heads and the groups of the output."""
        problems = not_legal("tp", parallelism.tp, f"the {self.heads} attention heads", divisors(self.heads))
        return problems or not_legal("tp", parallelism.tp, f"the {self.groups} output groups", divisors(self.groups))

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Projections, compressors, index scores, attention (4*heads*head_dim FLOPs a pair), output by groups."""
        stored, tokens = precision.format_of("attention"), batch.tokens
        heads, groups = self.heads / parallelism.tp, self.groups / parallelism.tp
        inner = heads * self.head_dim
        rotated = (heads + 1) * self.rotary_dim

        def product(name: str, n: float, k: float, count: float = 1.0) -> Matmul:
            return Matmul(name, tokens * count, n, k, stored, "attention", count, repeat)

        made = (self._compressors(hidden) / hidden if self.ratio else 0.0) + self.index_heads
        index_queries = [product("index queries", self.index_heads * self.index_head_dim, self.query_rank)]
        return [
            product("query and key compression", self.query_rank + self.head_dim + made, hidden),
            product("query expansion", inner, self.query_rank),
            Vector("rotary", tokens * (ROTARY_FLOPS * rotated), tokens * (2 * rotated * ACTIVATION_BYTES), repeat),
            *(index_queries if self.index_topk else []),
            *self._attended(batch, inner, precision, repeat),
            product("output by groups", self.output_rank, inner / groups, groups),
            product("output projection", hidden, groups * self.output_rank),
        ]

    def _attended(self, batch: Batch, inner: float, precision: Precision, repeat: Array) -> list[Operation]:
        """Scores of the window, of the index, of the entries; an entry is `ratio` tokens of a context."""
        format = precision.format_of("kv")
        pair, key = 4.0 * inner, self.head_dim * precision.bytes_of("kv")
        found = scores(batch, self.local, decode=(pair, key), prefill=(pair, key), format=format, repeat=repeat)
        if not self.ratio:
            return found
        entry = (pair / self.ratio, key / self.ratio)
        if self.index_topk:
            index = (
                2.0 * self.index_heads * self.index_head_dim / self.ratio,
                (self.index_head_dim + INDEX_SCALE_BYTES) / self.ratio,
            )
            found += scores(batch, None, decode=index, prefill=index, format="fp8", repeat=repeat)
        window = self._chosen if self.index_topk else None
        return found + scores(batch, window, decode=entry, prefill=entry, format=format, repeat=repeat)
