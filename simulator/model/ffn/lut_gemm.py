"""Products by look-up: tables of sums instead of multiplications (T-MAC, MADDNESS, product quantisation)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.errors import Problem
from simulator.model.ffn.dense import ACTIVATION_FLOPS
from simulator.model.ffn.fields import Count, Matrices, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Gather, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce, divisors, not_legal
from simulator.model.popularity import UNIFORM


@dataclass(frozen=True)
class LutGemmFFN(FFN):
    """A dense FFN whose products are looked up.

    bit_serial (T-MAC): the weights are streamed as they are stored, `bits` each; for every `group` activations a table
      of 2^group sums is built at run time, and each bit of `group` weights is one look-up and sum: bits/group
      operations a weight instead of two FLOPs. It saves arithmetic and its energy, not bytes.
    maddness, pq: the n inputs are cut into n/subvector codebooks of `prototypes`; a token reads one row of m sums for
      each codebook (prototypes*n*m/subvector stored values), found by log2(prototypes) comparisons (MADDNESS) or
      2*prototypes*n FLOPs (PQ). Memory instead of compute only where subvector < prototypes * bytes of a sum over
      bytes of a weight. Accuracy of whole networks suffers ("Look-ups are not (yet) all you need", 2207.05808).
    Sources: T-MAC, arXiv:2407.00088; MADDNESS, Blalock & Guttag 2021.
    """

    kind: ClassVar[str] = "lut_gemm"

    width: Count
    method: Literal["bit_serial", "maddness", "pq"] = "bit_serial"
    bits: Annotated[int, Field(ge=1, le=8, description="Of a weight, for bit_serial; say the same by `dtype`.")] = 2
    group: Annotated[int, Field(ge=1, le=8, description="Activations of a run-time table, for bit_serial.")] = 4
    subvector: Annotated[Count, Field(description="Inputs of a codebook, for maddness and pq.")] = 8
    prototypes: Annotated[int, Field(ge=2, le=65536, description="Of a codebook, for maddness and pq.")] = 16
    matrices: Matrices = 3
    tensor: Tensor = "ffn"

    def _stored(self) -> float:
        """Stored values for each weight of the dense matrix."""
        return 1.0 if self.method == "bit_serial" else self.prototypes / self.subvector

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """matrices*hidden*width/tp weights, or prototypes/subvector sums for each."""
        return {self.tensor: self.matrices * hidden * self.width * self._stored() / parallelism.tp}

    def active_parameters(self, hidden: int) -> float:
        """The weights, or the sums that a token reads."""
        whole = self.parameters(hidden)[self.tensor]
        return whole if self.method == "bit_serial" else whole / self.prototypes

    def memory_parameters(self, hidden: int) -> float:
        """Sums that a token does not read."""
        return self.parameters(hidden)[self.tensor] - self.active_parameters(hidden)

    @property
    def address_known(self) -> str:
        """Prototypes are found from the layer's input."""
        return "always" if self.method == "bit_serial" else "layer"

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the width."""
        return not_legal("tp", parallelism.tp, f"the FFN width {self.width}", divisors(self.width))

    def operations(self, visit: Visit) -> list[Operation]:
        """The matrices into the width, activation, the one out of it, all-reduce."""
        tp, tokens, hidden, repeat = visit.parallelism.tp, visit.tokens, visit.hidden, visit.repeat
        width, into = self.width / tp, self.matrices - 1
        moved = tokens * (self.matrices * width * ACTIVATION_BYTES)
        return [
            *self._product("ffn up", visit, hidden, into * width),
            Vector("ffn activation", tokens * (ACTIVATION_FLOPS * width), moved, repeat),
            *self._product("ffn down", visit, width, hidden),
            *all_reduce("ffn all-reduce", tokens, hidden, tp, repeat),
        ]

    def _product(self, name: str, visit: Visit, rows: float, columns: float) -> list[Operation]:
        """[tokens, rows] x [rows, columns]."""
        tokens, repeat, stored = visit.tokens, visit.repeat, visit.precision.format_of(self.tensor)
        if self.method == "bit_serial":
            built = tokens * (rows / self.group * 2**self.group)
            # Of the two FLOPs that a product counts for each weight, bits/group are done.
            done = tokens * (self.bits / self.group / 2.0)
            return [
                Vector(f"{name} tables", built, built, repeat),
                Matmul(name, done, columns, rows, stored, self.tensor, 1.0, repeat),
            ]
        books = rows / self.subvector
        sums = books * UNIFORM.unique(self.prototypes, tokens)
        found: list[Operation] = []
        if self.method == "pq":
            flops = tokens * (2.0 * self.prototypes * rows)
        else:
            flops = tokens * (books * log2(self.prototypes))
        found.append(Vector(f"{name} encoding", flops, tokens * (rows * ACTIVATION_BYTES), repeat))
        row_bytes = columns * visit.precision.bytes_of(self.tensor)
        held = books * self.prototypes
        found.append(Gather(f"{name} sums", self.tensor, tokens * books, sums, row_bytes, 1.0, "layer", repeat,
                            layers_before=visit.before, table_rows=held))  # fmt: skip
        found.append(Vector(f"{name} adds", tokens * (books * columns), tokens * (columns * ACTIVATION_BYTES), repeat))
        return found

    def shape(self) -> str:
        """Such as "11008 x 3 matrices, bit_serial"."""
        return f"{self.width} x {self.matrices} matrices, {self.method}"
