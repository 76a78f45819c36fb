"""Per-layer embeddings: a second embedding row for every token in every layer (Gemma 3n)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from simulator.model.ffn.fields import Choice, Count, InnerCount, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import Shard, all_gather, brought_together, look_up
from simulator.model.ffn.ngram_table import TOKENS
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism

if TYPE_CHECKING:
    from simulator.model.architecture import Architecture


@dataclass(frozen=True)
class PerLayerEmbedding(FFN):
    """y = W_out(act(W_gate x) * (row of the token + W_in h_0)): vocabulary x width values in each layer.

    Gate and output are d x width each, W_in too (the projection of the first hidden state, `projected`).
    Gemma 3n: 262,144 words x 35 layers x 256 values = 2.35e9 (transformers, configuration_gemma3n.py).
    """

    kind: ClassVar[str] = "per_layer_embedding"
    beside: ClassVar[bool] = True
    stored: ClassVar[str] = "table"

    width: Annotated[Count, Field(description="Values of a row.")] = 256
    projected: bool = True
    shard: Shard = "row"
    popularity: Choice = TOKENS
    tensor: Tensor = "table"
    vocabulary: InnerCount = 1

    @property
    def address_known(self) -> str:
        """The token's id is the row."""
        return "token"

    def fitted(self, architecture: Architecture, layers: int) -> PerLayerEmbedding:
        """A row for every word of the model."""
        return replace(self, vocabulary=architecture.vocab_size)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """vocabulary*width over tp*dp; gate, output and projection over tp."""
        return {
            self.tensor: self.memory_parameters(hidden) / (parallelism.tp * parallelism.dp),
            "ffn": (3.0 if self.projected else 2.0) * hidden * self.width / parallelism.tp,
        }

    def active_parameters(self, hidden: int) -> float:
        """One row and the projections."""
        return self.width + self.parameters(hidden)["ffn"]

    def memory_parameters(self, hidden: int) -> float:
        """The rows of all words."""
        return float(self.vocabulary) * self.width

    def operations(self, visit: Visit) -> list[Operation]:
        """The row, gate (and projection, fused), product, output."""
        hidden, tokens, tp, repeat = visit.hidden, visit.tokens, visit.parallelism.tp, visit.repeat
        stored = visit.precision.format_of("ffn")
        into = (2 if self.projected else 1) * self.width / tp
        row = look_up(
            "embedding of the layer",
            self.tensor,
            visit,
            per_token=1,
            tables=1,
            rows=self.vocabulary,
            width=self.width,
            popularity=self.popularity,
            address_known="token",
            shard=self.shard,
        )
        return [
            row,
            *brought_together("embedding of the layer", visit, self.width),
            Matmul("embedding gate", tokens, into, hidden, stored, "ffn", 1.0, repeat),
            Vector("embedding product", tokens * (6.0 * into), tokens * (3 * into * ACTIVATION_BYTES), repeat),
            Matmul("embedding output", tokens, hidden / tp, self.width, stored, "ffn", 1.0, repeat),
            *all_gather("embedding of the layer", visit, hidden),
        ]

    def shape(self) -> str:
        """Such as "262144 words x 256"."""
        return f"{self.vocabulary} words x {self.width}"
