"""DeepSeek sparse attention (DeepSeek-V3.2, GLM-5): a light indexer scores every token, attention reads the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from simulator.errors import Problem
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Attention, Batch, Matmul, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism
from simulator.model.scores import scores

if TYPE_CHECKING:
    from simulator.model.attention import LatentAttention

INDEX_SCALE_BYTES = 4.0
"""One 32-bit scale for the index key of a token, whose values are kept in 8 bits (vLLM's indexer cache; recalled)."""


@dataclass(frozen=True)
class SparseLatentAttention:
    """Latent attention to the `index_topk` tokens that an indexer of `index_heads` heads picks for each query.

    score(t, s) = sum over index heads of w_h(t) * relu(q_h(t) . k(s)); one key k of `index_head_dim` a token serves
    all index heads. The whole context is kept and scored; min(context, index_topk) latents are read, absorbed in decode
    and prefill alike. The indexer is copied to every chip. A layer without an `indexer` takes the choice of the last
    one that has it (GLM-5.2).
    """

    kind: ClassVar[str] = "sparse_latent"

    latent: LatentAttention
    index_heads: int
    index_head_dim: int
    index_topk: int
    indexer: bool = True

    @property
    def window(self) -> int | None:
        """Every token is kept."""
        return None

    @property
    def reads(self) -> tuple[int | None, ...]:
        """All index keys, and the latents of the best."""
        return (None, self.index_topk) if self.indexer else (self.index_topk,)

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.latent.heads

    @property
    def kv_lora_rank(self) -> int:
        """Width of the latent."""
        return self.latent.kv_lora_rank

    def _query_width(self, hidden: int) -> int:
        return self.latent.q_lora_rank or hidden

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of latent attention, and q_lora*index_heads*dim + hidden*(dim + index_heads), a LayerNorm of dim."""
        counts = self.latent.parameters(hidden, parallelism)
        if not self.indexer:
            return counts
        dim, heads = self.index_head_dim, self.index_heads
        counts["attention"] += self._query_width(hidden) * heads * dim + hidden * (dim + heads)
        counts["norm"] += 2.0 * dim
        return counts

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """The latent, and an index key in 8 bits with its scale."""
        index = self.index_head_dim + INDEX_SCALE_BYTES if self.indexer else 0.0
        return self.latent.kv_bytes_per_token(precision, tp) + index

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """Nothing but latents and index keys is kept."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """As latent attention: the indexer is not cut."""
        return self.latent.check(parallelism)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """The indexer's projections and scores (2*index_heads*index_head_dim FLOPs a pair), then latent attention over
        the chosen tokens, absorbed: 2*heads*(2*kv_lora + rope) FLOPs a pair."""
        stored = precision.format_of("attention")
        dim, heads = self.index_head_dim, self.index_heads
        pair, key = 2.0 * heads * dim, dim + INDEX_SCALE_BYTES
        chosen = replace(self.latent, window=self.index_topk)
        main = chosen.operations(hidden, batch, parallelism, precision, repeat)
        absorbed = 2.0 * (self.latent.heads / parallelism.tp)
        absorbed *= 2 * self.latent.kv_lora_rank + self.latent.qk_rope_head_dim
        latent_bytes = self.latent.kv_bytes_per_token(precision, parallelism.tp)
        attended = [
            replace(o, flops_per_pair=absorbed, bytes_per_key=latent_bytes) if isinstance(o, Attention) else o
            for o in main
        ]
        if not self.indexer:
            return attended
        return [
            Matmul(
                "index queries", batch.tokens, heads * dim, self._query_width(hidden), stored, "attention", 1.0, repeat
            ),
            Matmul("index keys", batch.tokens, dim + heads, hidden, stored, "attention", 1.0, repeat),
            *scores(batch, None, decode=(pair, key), prefill=(pair, key), format="fp8", repeat=repeat),
            *attended,
        ]
