"""Dense FFNs whose matrices have a structure: low rank, block low rank, Monarch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.errors import Problem
from simulator.model.ffn.dense import ACTIVATION_FLOPS
from simulator.model.ffn.fields import Count, Matrices, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce, divisors, not_legal


@dataclass(frozen=True)
class StructuredFFN(FFN):
    """Each d x f matrix is a product or a sum of small ones (n x n for short):

    low_rank        U V of rank r: r*(d + f) parameters
    block_low_rank  dense tiles of `tile` on the diagonal, every other tile of rank r: n*t + 2*r*n^2/t parameters,
                    fewest at t = sqrt(2*r*n); near and far field of one matrix
    monarch         two block-diagonal factors of `blocks` blocks: d^2/b + d*f/b parameters, 2*n^1.5 at b = sqrt(n)

    FLOPs are twice the parameters for each token. With tp each chip's part of the width has factors of its own.
    Sources: Dao et al. 2022 (Monarch); Amestoy et al. 2015 (BLR).
    """

    kind: ClassVar[str] = "structured"

    width: Count
    form: Literal["low_rank", "block_low_rank", "monarch"]
    rank: Annotated[Count, Field(description="Of low_rank, or of block_low_rank's far tiles.")] = 64
    tile: Annotated[Count, Field(description="Of block_low_rank.")] = 512
    blocks: Annotated[Count, Field(description="Of monarch.")] = 64
    matrices: Matrices = 3
    tensor: Tensor = "ffn"

    def _factors(self, rows: float, columns: float) -> list[tuple[float, float, float]]:
        """(groups, n, k) of the products that stand for a [rows] -> [columns] matrix."""
        if self.form == "low_rank":
            return [(1.0, self.rank, rows), (1.0, columns, self.rank)]
        if self.form == "monarch":
            blocks = float(self.blocks)
            return [(blocks, rows / blocks, rows / blocks), (blocks, columns / blocks, rows / blocks)]
        near = max(rows, columns) / self.tile
        far = rows * columns / self.tile**2 - near
        return [(near, self.tile, self.tile), (far, self.rank, self.tile), (far, self.tile, self.rank)]

    def _matrix(self, rows: float, columns: float) -> float:
        return sum(groups * n * k for groups, n, k in self._factors(rows, columns))

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of the factors, the width cut over tp."""
        width = self.width / parallelism.tp
        into = (self.matrices - 1) * self._matrix(hidden, width)
        return {self.tensor: into + self._matrix(width, hidden)}

    def active_parameters(self, hidden: int) -> float:
        """All of them."""
        return self.parameters(hidden)[self.tensor]

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the width; what a chip has of it is no smaller than a tile or a block."""
        problems = not_legal("tp", parallelism.tp, f"the FFN width {self.width}", divisors(self.width))
        least = {"low_rank": 1, "block_low_rank": self.tile, "monarch": self.blocks}[self.form]
        if self.width / parallelism.tp < least:
            what = f"tp {parallelism.tp} leaves less than a tile or block of the width {self.width}"
            problems.append(Problem(what, None, f"use tp {max(1, self.width // least)} or less"))
        return problems

    def operations(self, visit: Visit) -> list[Operation]:
        """The factors of each matrix as grouped products, activation, all-reduce."""
        tp, tokens, hidden, repeat = visit.parallelism.tp, visit.tokens, visit.hidden, visit.repeat
        width = self.width / tp
        stored = visit.precision.format_of(self.tensor)
        into = self.matrices - 1

        def products(name: str, rows: float, columns: float, copies: int) -> list[Operation]:
            return [
                Matmul(name, tokens * (g * copies), n, k, stored, self.tensor, g * copies, repeat)
                for g, n, k in self._factors(rows, columns)
            ]

        moved = tokens * (self.matrices * width * ACTIVATION_BYTES)
        return [
            *products("ffn up", hidden, width, into),
            Vector("ffn activation", tokens * (ACTIVATION_FLOPS * width), moved, repeat),
            *products("ffn down", width, hidden, 1),
            *all_reduce("ffn all-reduce", tokens, hidden, tp, repeat),
        ]

    def shape(self) -> str:
        """Such as "18432 x 3 monarch matrices"."""
        return f"{self.width} x {self.matrices} {self.form} matrices"
