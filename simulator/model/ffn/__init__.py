"""Feed-forward networks, one kind a file. A new kind is one new file and one line in FFN_KINDS."""

from __future__ import annotations

from typing import ClassVar, Protocol

from simulator.errors import Problem
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Operation
from simulator.model.parallelism import Parallelism


class FFN(Protocol):
    """What every kind answers. `hidden` is the model's width; the object holds the rest of its shape."""

    kind: ClassVar[str]

    @property
    def experts(self) -> int:
        """Routed experts, 0 when there are none."""
        ...

    def parameters(self, hidden: int, parallelism: Parallelism = ...) -> dict[str, float]:
        """Tensor class -> parameters on one chip of a stage, one layer; with Parallelism() the whole layer."""
        ...

    def active_parameters(self, hidden: int) -> float:
        """Parameters that one token uses, one layer."""
        ...

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """What keeps this shape from being cut that way."""
        ...

    def operations(
        self,
        hidden: int,
        tokens: Array,
        all_tokens: Array,
        parallelism: Parallelism,
        precision: Precision,
        popularity: float,
        repeat: float,
    ) -> list[Operation]:
        """One chip's operations, collectives included, for a micro-batch of `tokens` on each data-parallel rank and
        `all_tokens` over all of them; `popularity` is a Zipf exponent."""
        ...


FFN_KINDS: dict[str, type[FFN]] = {
    DenseFFN.kind: DenseFFN,
    MoEFFN.kind: MoEFFN,
}
