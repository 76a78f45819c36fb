"""Product-key memories: n^2 rows addressed by pairs of n half-keys (PKM, Memory+, UltraMem, UltraMemV2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from simulator.model.ffn.fields import Choice, Count, InnerCount, Tensor, Whole
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import Shard, look_up, summed
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce
from simulator.model.popularity import assumed

if TYPE_CHECKING:
    from simulator.model.architecture import Architecture

KEYS = assumed(0.8, 0.0, 1.1, "no access statistics of trained memories are published: vary it")

CANDIDATE_FLOPS = 5.0
"""Elementary operations per candidate pair: a sum, comparisons, its share of the softmax."""


@dataclass(frozen=True)
class ProductKeyMemory(FFN):
    """y = sum of the values of the top_m rows of each head, weighted by softmax(query . key), gated (Memory+).

    A row is a pair of half-keys: keys^2 rows of `width` values. The query of `query` values a head is cut in two; each
    half scores `keys` half-keys (2*heads*keys*query FLOPs a token), the best top_m of both make top_m^2 candidates.
    `shared`: the layers that the memory is put into hold one table of values together (Memory+; keys are their own).
    `gated`: SiLU gate d x width and output projection width x d (Memory+). Without, width is the model's width (PKM).
    `pre_width`: a row holds as many values more, and its value counts by their product with the input, projected to
    pre_width: an expert of one neuron between a projection in, in place of the gate, and one out (UltraMemV2).
    Sources: Lample et al. 2019 (PKM); Memory Layers at Scale 2024 (Memory+); UltraMemV2 2025.
    """

    kind: ClassVar[str] = "product_key_memory"
    stored: ClassVar[str] = "table"

    keys: Annotated[Count, Field(description="Half-keys; the memory has keys^2 rows.")]
    width: Annotated[Count, Field(description="Values of a row.")]
    heads: Count = 4
    top_m: Annotated[Count, Field(description="Rows that a head reads.")] = 32
    query: Annotated[Count, Field(description="Width of a head's query, both halves.")] = 512
    shared: bool = False
    gated: bool = True
    pre_width: Annotated[Whole, Field(description="Values of a row that meet the input (UltraMemV2).")] = 0
    shard: Shard = "column"
    popularity: Choice = KEYS
    tensor: Tensor = "table"
    sharers: InnerCount = 1

    def __post_init__(self) -> None:
        if self.top_m > self.keys:
            raise ValueError(f"top_m {self.top_m} is more than the {self.keys} half-keys; write top_m: {self.keys}")

    @property
    def address_known(self) -> str:
        """The query is the layer's input."""
        return "layer"

    @property
    def rows(self) -> int:
        """Rows of the memory."""
        return self.keys**2

    @property
    def row(self) -> int:
        """Values of a row."""
        return self.width + self.pre_width

    def fitted(self, architecture: Architecture, layers: int) -> ProductKeyMemory:
        """Each of the layers that share the values holds its part of them."""
        return replace(self, sharers=layers) if self.shared else self

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """keys^2*row/sharers over tp*dp; half-keys and query projection on each chip; gate and output over tp."""
        counts = {
            self.tensor: self.memory_parameters(hidden) / (parallelism.tp * parallelism.dp),
            "router": float(self.heads * self.query * (self.keys + hidden)),
        }
        if self.gated:
            counts["ffn"] = float(hidden) * ((self.pre_width or self.width) + self.width) / parallelism.tp
        return counts

    def active_parameters(self, hidden: int) -> float:
        """Rows that a token looks up, half-keys, projections."""
        counts = self.parameters(hidden)
        return self.heads * self.top_m * self.row + counts["router"] + counts.get("ffn", 0.0)

    def memory_parameters(self, hidden: int) -> float:
        """The values, this layer's share of them."""
        return float(self.rows) * self.row / self.sharers

    def operations(self, visit: Visit) -> list[Operation]:
        """Query, scores of both halves, candidates, rows, weighted sum, exchange, gate and output, all-reduce."""
        hidden, tokens, repeat = visit.hidden, visit.tokens, visit.repeat
        tp = visit.parallelism.tp
        found: list[Operation] = [
            *product_keys("memory", visit, self.heads, self.keys, self.top_m, self.query),
            look_up(
                "memory rows",
                self.tensor,
                visit,
                per_token=self.heads * self.top_m,
                tables=1,
                rows=self.rows,
                width=self.row,
                popularity=self.popularity,
                address_known="layer",
                shard=self.shard,
            ),
        ]
        values = tokens * (self.heads * self.top_m * self.row)
        found.append(Vector("memory sum", values * 2.0 / tp, tokens * (self.width * ACTIVATION_BYTES), repeat))
        found += summed("memory", visit, self.shard, self.heads * self.top_m, self.width)
        if self.gated:
            format, into = visit.precision.format_of("ffn"), (self.pre_width or self.width) / tp
            found.append(Matmul("memory gate", tokens, into, hidden, format, "ffn", 1.0, repeat))
            found.append(Matmul("memory output", tokens, hidden, self.width / tp, format, "ffn", 1.0, repeat))
        return [*found, *all_reduce("ffn all-reduce", tokens, hidden, tp, repeat)]

    def shape(self) -> str:
        """Such as "1048576 rows of 2048, 4 x 32 a token"."""
        return f"{self.rows} rows of {self.row}, {self.heads} x {self.top_m} a token"


def product_keys(
    name: str, visit: Visit, heads: int, keys: int, top_m: int, query: int, *, shared_keys: bool = False
) -> list[Operation]:
    """Query, scores of both halves, and the top_m^2 candidates of each head; `shared_keys`: one set for all heads."""
    tokens, repeat, stored = visit.tokens, visit.repeat, visit.precision.format_of("router")
    halves, candidates = 2 * heads, tokens * (heads * top_m**2)
    sets = 2.0 if shared_keys else float(halves)
    return [
        Matmul(f"{name} query", tokens, heads * query, visit.hidden, stored, "router", 1.0, repeat),
        Matmul(f"{name} scores", tokens * halves, keys, query / 2, stored, "router", sets, repeat),
        Vector(f"{name} candidates", candidates * CANDIDATE_FLOPS, candidates * ACTIVATION_BYTES, repeat),
    ]
