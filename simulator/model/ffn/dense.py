"""The dense feed-forward network: two matrices (GPT), or three with a gate (SwiGLU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.ffn.fields import Count, Matrices, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Array, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce, divisors, not_legal

ACTIVATION_FLOPS = 5.0
"""Elementary operations of a gated activation per value (exponential, sum, division, two products)."""


@dataclass(frozen=True)
class DenseFFN(FFN):
    """y = W_down(act(W_gate x) * W_up x), or W_down act(W_up x) with two matrices; every token uses all of it."""

    kind: ClassVar[str] = "dense"

    width: Count
    matrices: Matrices = 3
    bias: bool = False
    tensor: Tensor = "ffn"

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """matrices*hidden*width/tp, with biases (matrices-1)*width/tp + hidden."""
        count = self.matrices * hidden * self.width / parallelism.tp
        if self.bias:
            count += (self.matrices - 1) * self.width / parallelism.tp + hidden
        return {self.tensor: count}

    def active_parameters(self, hidden: int) -> float:
        """All of them."""
        return self.parameters(hidden)[self.tensor]

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the width."""
        return not_legal("tp", parallelism.tp, f"the FFN width {self.width}", divisors(self.width))

    def operations(self, visit: Visit) -> list[Operation]:
        """Up (and gate, fused) [tokens, hidden] x [hidden, (matrices-1)*width/tp], activation, down, all-reduce."""
        tp = visit.parallelism.tp
        return [
            *two_matmuls("ffn", self.tensor, visit, visit.tokens, self.width / tp, self.matrices),
            *all_reduce("ffn all-reduce", visit.tokens, visit.hidden, tp, visit.repeat),
        ]

    def shape(self) -> str:
        """Such as "18432 x 3 matrices"."""
        return f"{self.width} x {self.matrices} matrices"


def two_matmuls(
    name: str,
    tensor: str,
    visit: Visit,
    rows: Array,
    width: float,
    matrices: int,
    groups: Array = 1.0,
    imbalance: Array = 1.0,
    load: float = 1.0,
) -> list[Operation]:
    """The fused up projection, the activation and the down projection of one chip's share of an FFN."""
    stored, hidden, repeat = visit.precision.format_of(tensor), visit.hidden, visit.repeat
    into = (matrices - 1) * width
    return [
        Matmul(f"{name} up", rows, into, hidden, stored, tensor, groups, repeat, imbalance, load),
        Vector(
            f"{name} activation",
            rows * (ACTIVATION_FLOPS * width),
            rows * ((into + width) * ACTIVATION_BYTES),
            repeat,
        ),
        Matmul(f"{name} down", rows, hidden, width, stored, tensor, groups, repeat, imbalance, load),
    ]
