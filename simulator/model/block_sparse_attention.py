"""Grouped queries that read a few blocks of keys (MiniMax sparse attention, Qwen sparse attention)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from simulator.errors import Problem
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism
from simulator.model.scores import scores

if TYPE_CHECKING:
    from simulator.model.attention import GroupedQueryAttention


@dataclass(frozen=True)
class BlockSparseAttention:
    """Grouped-query attention to the `chosen` tokens, in whole blocks, that an indexer of `index_heads` heads picks.

    One index key of `index_head_dim` stands for `pooled` tokens (the mean of their keys; 1: every token has its own,
    and a block counts by its best); a query scores all of them. The whole context is kept, min(context, chosen) keys
    are read. The indexer is copied to every chip.
    Source: transformers 5.23.0, modeling_minimax_m3_vl.py and modeling_qwen4_exp.py.
    """

    kind: ClassVar[str] = "block_sparse"

    inner: GroupedQueryAttention
    index_heads: int
    index_head_dim: int
    chosen: int
    pooled: int = 1

    @property
    def window(self) -> int | None:
        """Every token is kept."""
        return None

    @property
    def reads(self) -> tuple[int | None, ...]:
        """All index keys, and the keys of the chosen blocks."""
        return (None, self.chosen)

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.inner.heads

    @property
    def head_dim(self) -> int:
        """Width of a key."""
        return self.inner.head_dim

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of grouped queries, hidden*(index_heads + 1)*index_head_dim, a norm of index queries and keys each."""
        counts = self.inner.parameters(hidden, parallelism)
        counts["attention"] += hidden * (self.index_heads + 1) * self.index_head_dim
        counts["norm"] += 2.0 * self.index_head_dim
        return counts

    def _index_bytes(self, precision: Precision) -> float:
        """Of one token."""
        return self.index_head_dim * precision.bytes_of("kv") / self.pooled

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """Keys and values, and the token's share of an index key."""
        return self.inner.kv_bytes_per_token(precision, tp) + self._index_bytes(precision)

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """Nothing else is kept."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """As grouped queries: the indexer is not cut."""
        return self.inner.check(parallelism)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """The indexer's projections (fused) and scores, 2*index_heads*index_head_dim/pooled FLOPs a token of context;
        then grouped queries over the chosen tokens."""
        stored = precision.format_of("attention")
        pair = 2.0 * self.index_heads * self.index_head_dim / self.pooled
        key = self._index_bytes(precision)
        columns = (self.index_heads + 1) * self.index_head_dim
        chosen = replace(self.inner, window=self.chosen)
        return [
            Matmul("index queries and keys", batch.tokens, columns, hidden, stored, "attention", 1.0, repeat),
            *scores(
                batch, None, decode=(pair, key), prefill=(pair, key), format=precision.format_of("kv"), repeat=repeat
            ),
            *chosen.operations(hidden, batch, parallelism, precision, repeat),
        ]
