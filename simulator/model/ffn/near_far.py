"""Near and far field: a low-rank product everywhere, and full products in the blocks that matter for a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from simulator.errors import Problem
from simulator.model.ffn.dense import ACTIVATION_FLOPS
from simulator.model.ffn.fields import Choice, Count, Matrices, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.moe import MoEFFN
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal


@dataclass(frozen=True)
class NearFarFFN(FFN):
    """Each matrix is U V (far field, rank r, every token) plus top_k of `blocks` blocks of its columns (near field).

    Far: r*(d + f) parameters a matrix, twice that in FLOPs a token. Near: an expert layer of `blocks` experts of
    width/blocks each. So it is experts with a low-rank shared one. A proposal after the fast multipole method: no
    quality at the scale of language models is published.
    """

    kind: ClassVar[str] = "near_far"
    stored: ClassVar[str] = "expert"

    width: Count
    rank: Annotated[Count, Field(description="Of the far field's matrices.")]
    blocks: Annotated[Count, Field(description="Blocks of the near field.")]
    top_k: Annotated[Count, Field(description="Blocks that a token uses.")]
    matrices: Matrices = 3
    popularity: Choice | None = None
    tensor: Tensor = "expert"

    def __post_init__(self) -> None:
        if self.width % self.blocks:
            raise ValueError(f"{self.blocks} blocks do not divide the width {self.width}; write a divisor of it")
        if self.top_k > self.blocks:
            raise ValueError(f"top_k {self.top_k} is more than the {self.blocks} blocks; write top_k: {self.blocks}")

    @property
    def near(self) -> MoEFFN:
        """The near field, as the experts that it is."""
        part = self.width // self.blocks
        popularity = self.popularity
        return MoEFFN(self.blocks, self.top_k, part, matrices=self.matrices, popularity=popularity, tensor=self.tensor)

    @property
    def routed_experts(self) -> int:
        """The blocks."""
        return self.blocks

    @property
    def address_known(self) -> str:
        """The layer's input picks the blocks."""
        return "layer"

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """matrices*rank*(hidden + width/tp) and the near field's."""
        far = self.matrices * self.rank * (hidden + self.width / parallelism.tp)
        return {"ffn": far, **self.near.parameters(hidden, parallelism)}

    def active_parameters(self, hidden: int) -> float:
        """The far field and top_k blocks."""
        return self.parameters(hidden)["ffn"] + self.near.active_parameters(hidden)

    def memory_parameters(self, hidden: int) -> float:
        """Blocks that a token does not use."""
        return self.near.memory_parameters(hidden)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the width; the blocks are spread as experts are."""
        legal = divisors(self.width)
        return [*not_legal("tp", parallelism.tp, f"the FFN width {self.width}", legal), *self.near.check(parallelism)]

    def operations(self, visit: Visit) -> list[Operation]:
        """Far field: d -> r -> f/tp for each matrix into the width, activation, f/tp -> r -> d; then the near field,
        whose all-reduce carries both sums."""
        hidden, tokens, repeat = visit.hidden, visit.tokens, visit.repeat
        stored, width, into = visit.precision.format_of("ffn"), self.width / visit.parallelism.tp, self.matrices - 1
        activated = tokens * (self.matrices * width * ACTIVATION_BYTES)
        return [
            Matmul("far field in", tokens, into * self.rank, hidden, stored, "ffn", 1.0, repeat),
            Matmul("far field up", tokens * into, width, self.rank, stored, "ffn", float(into), repeat),
            Vector("far field activation", tokens * (ACTIVATION_FLOPS * width), activated, repeat),
            Matmul("far field down", tokens, self.rank, width, stored, "ffn", 1.0, repeat),
            Matmul("far field out", tokens, hidden, self.rank, stored, "ffn", 1.0, repeat),
            *self.near.operations(visit),
        ]

    def shape(self) -> str:
        """Such as "rank 256 + 4 of 64 blocks of 288"."""
        return f"rank {self.rank} + {self.top_k} of {self.blocks} blocks of {self.width // self.blocks}"
