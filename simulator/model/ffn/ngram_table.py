"""Hashed n-gram memory: rows that the last few token ids address (Engram, qwen4_exp, SCONE, over-tokenised input)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.model.ffn.fields import Choice, Count, Tensor, Whole
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import Shard, all_gather, brought_together, look_up
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism
from simulator.model.popularity import assumed

TOKENS = assumed(1.0, 0.8, 1.1, "words follow Zipf's law with an exponent near 1; n-grams are flatter: vary it")

GATE_FLOPS = 8.0
"""Elementary operations per value of the gate, the convolution's sum and the residual (Engram, arXiv:2601.07372)."""


@dataclass(frozen=True)
class NgramTable(FFN):
    """`heads` hashed tables for each n-gram order, `rows` rows of `width` values in each.

    A token reads one row of every table, (orders * heads) in all, whose addresses its n-grams give; with `match:
    longest` only the row of the longest n-gram that the one table knows (SCONE). The d_mem = orders*heads*width values
    are projected to a key and a value for each of `branches` residual streams (one key each, one value for all:
    2*d_mem*d*(branches+1) FLOPs), gated, and convolved over `convolution` tokens; without `project` they are added as
    they are. Source: Engram, arXiv:2601.07372, section 2.
    """

    kind: ClassVar[str] = "ngram_table"
    beside: ClassVar[bool] = True
    stored: ClassVar[str] = "table"

    rows: Annotated[Count, Field(description="Rows of one table.")]
    width: Annotated[Count, Field(description="Values of a row.")]
    orders: tuple[Count, ...] = (2, 3)
    heads: Count = 8
    match: Literal["all", "longest"] = "all"
    branches: Annotated[Count, Field(description="Residual streams (4 with hyper-connections).")] = 1
    project: bool = True
    convolution: Whole = 4
    shard: Shard = "row"
    popularity: Choice = TOKENS
    tensor: Tensor = "table"

    def __post_init__(self) -> None:
        if not self.orders:
            raise ValueError("orders is empty; write orders: [2, 3]")

    @property
    def address_known(self) -> str:
        """The token ids hash to the rows."""
        return "token"

    @property
    def tables(self) -> int:
        """Tables of one layer."""
        return 1 if self.match == "longest" else len(self.orders) * self.heads

    @property
    def values(self) -> int:
        """d_mem: values that a token looks up."""
        return self.tables * self.width

    def _projections(self, hidden: int) -> float:
        return float(self.values * hidden * (self.branches + 1)) if self.project else 0.0

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """tables*rows*width over tp*dp; d_mem*hidden*(branches+1) over tp; convolution*hidden*branches on each chip."""
        counts = {self.tensor: self.memory_parameters(hidden) / (parallelism.tp * parallelism.dp)}
        if self.project:
            convolution = float(self.convolution * hidden * self.branches)
            counts["ffn"] = self._projections(hidden) / parallelism.tp + convolution
        return counts

    def active_parameters(self, hidden: int) -> float:
        """The rows that a token looks up and the projections."""
        return self.values + self.parameters(hidden).get("ffn", 0.0)

    def memory_parameters(self, hidden: int) -> float:
        """The tables."""
        return float(self.tables) * self.rows * self.width

    def operations(self, visit: Visit) -> list[Operation]:
        """The rows, their exchange, the projections (columns cut over tp, then shared), gate and convolution."""
        hidden, tokens, tp, repeat = visit.hidden, visit.tokens, visit.parallelism.tp, visit.repeat
        rows = look_up(
            "n-gram rows",
            self.tensor,
            visit,
            per_token=self.tables,
            tables=self.tables,
            rows=self.rows,
            width=self.width,
            popularity=self.popularity,
            address_known="token",
            shard=self.shard,
        )
        found: list[Operation] = [rows, *brought_together("n-gram rows", visit, self.values)]
        streams = self.branches
        if self.project:
            columns = hidden * (streams + 1) / tp
            stored = visit.precision.format_of("ffn")
            found.append(Matmul("n-gram projections", tokens, columns, self.values, stored, "ffn", 1.0, repeat))
        gated = tokens * (hidden * streams)
        found.append(Vector("n-gram gate", gated * GATE_FLOPS, gated * (4 * ACTIVATION_BYTES), repeat))
        return [*found, *all_gather("n-gram", visit, hidden)] if self.project else found

    def shape(self) -> str:
        """Such as "16 tables of 1100000 x 160"."""
        return f"{self.tables} tables of {self.rows} x {self.width}"
