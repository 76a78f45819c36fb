"""Attention to an image instead of the text before (Llama 3.2 Vision)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simulator.errors import Problem
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism
from simulator.model.scores import scores
from simulator.model.single_entry import SingleEntry

if TYPE_CHECKING:
    from simulator.model.attention import GroupedQueryAttention


@dataclass(frozen=True)
class CrossAttention(SingleEntry):
    """Grouped queries over the keys of `source` vectors that an encoder made of the sequence's image.

    The keys do not grow with the text: a sequence keeps them as the single entry of a cache with a window of one token,
    and every token reads them. The encoder, and the projection of its vectors, are not part of the decoder; a request
    without an image would skip these layers, which is not told here.
    """

    kind: ClassVar[str] = "cross"

    inner: GroupedQueryAttention
    source: int

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.inner.heads

    @property
    def head_dim(self) -> int:
        """Width of a key."""
        return self.inner.head_dim

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of grouped queries, and two gates: of the attention and of the FFN behind it."""
        counts = self.inner.parameters(hidden, parallelism)
        counts["norm"] += 2.0
        return counts

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """source times the bytes of a key and its value: the image, of which there is one whatever the length."""
        return self.source * self.inner.kv_bytes_per_token(precision, tp)

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """Nothing beside the image's keys."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """As grouped queries."""
        return self.inner.check(parallelism)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Query projection, attention (4*heads*head_dim*source FLOPs a token), output projection."""
        stored = precision.format_of("attention")
        query = self.inner.heads / parallelism.tp * self.head_dim
        pair, read = 4.0 * query * self.source, self.kv_bytes_per_token(precision, parallelism.tp)
        return [
            Matmul("cross query projection", batch.tokens, query, hidden, stored, "attention", 1.0, repeat),
            *scores(
                batch,
                self.window,
                decode=(pair, read),
                prefill=(pair, read),
                format=precision.format_of("kv"),
                repeat=repeat,
                copies=max(1.0, parallelism.tp / self.inner.kv_heads),
            ),
            Matmul("output projection", batch.tokens, hidden, query, stored, "attention", 1.0, repeat),
        ]
