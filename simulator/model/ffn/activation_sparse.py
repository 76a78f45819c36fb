"""Activation sparsity: hot neurons that every token uses, cold ones that a predictor picks (PowerInfer, Deja Vu)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from simulator.errors import Problem
from simulator.model.ffn.dense import ACTIVATION_FLOPS, two_matmuls
from simulator.model.ffn.fields import Count, Matrices, Share, Tensor, Whole
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Array, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce, divisors, not_legal
from simulator.quantity import Known

NOTHING = Known(0.0)


@dataclass(frozen=True)
class ActivationSparseFFN(FFN):
    """A dense FFN of which a token uses a share `active` of the neurons: the `hot` share always, and of the cold ones
    each with probability a_c = (active - hot) / (1 - hot).

    A batch of B touches 1 - (1 - a_c)^B of the cold neurons, independently of each other: with a tenth active, 57 % of
    them at B = 8 and 97 % at B = 32, so this is a technique for small batches. Those touched are gathered into a dense
    product, as kernels do. The predictor is d x rank and rank x (cold neurons); rank 0: none (CATS, TEAL thresholds).
    Measured shares: 80 % of the activations come from 26 % of the neurons in OPT-30B (ReLU), 43 % in a ReGLU and 69 %
    in a SwiGLU Llama-2-70B (PowerInfer, figure 4). `dtype` and `tier` are those of the cold neurons.
    """

    kind: ClassVar[str] = "activation_sparse"
    stored: ClassVar[str] = "neuron"

    width: Count
    active: Annotated[Share, Field(description="Share of the neurons that a token uses.")]
    hot: Annotated[Share, Field(description="Share of the neurons that every token uses.")] = NOTHING
    predictor_rank: Annotated[Whole, Field(description="Deja Vu: 1024; 0: no predictor.")] = 1024
    matrices: Matrices = 3
    tensor: Tensor = "neuron"

    def __post_init__(self) -> None:
        if self.hot > self.active:
            raise ValueError(f"hot {self.hot:g} is more than active {self.active:g}; hot neurons are active ones too")
        if self.hot >= 1:
            raise ValueError("every neuron is hot; write kind: dense")

    @property
    def address_known(self) -> str:
        """The predictor reads the layer's input."""
        return "layer"

    @property
    def _cold_width(self) -> float:
        return self.width * (1.0 - float(self.hot))

    def cold_share(self, tokens: Array) -> Array:
        """Share of the cold neurons that `tokens` tokens touch."""
        chance = (float(self.active) - float(self.hot)) / (1.0 - float(self.hot))
        share: Array = -np.expm1(tokens * np.log1p(-min(chance, 1.0 - 2.0**-53)))
        return share

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """matrices*hidden*width/tp, hot and cold apart; the predictor over tp."""
        matrix = self.matrices * hidden / parallelism.tp
        predictor = self.predictor_rank * (hidden + self._cold_width) / parallelism.tp
        return {
            self.tensor: matrix * self._cold_width,
            "ffn": matrix * self.width * float(self.hot),
            "router": predictor,
        }

    def active_parameters(self, hidden: int) -> float:
        """The neurons that a token uses, and the predictor."""
        counts = self.parameters(hidden)
        return counts["ffn"] + counts["router"] + counts[self.tensor] * float(self.cold_share(1.0))

    def memory_parameters(self, hidden: int) -> float:
        """Cold neurons that a token does not use."""
        return self.parameters(hidden)[self.tensor] * (1.0 - float(self.cold_share(1.0)))

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the width."""
        return not_legal("tp", parallelism.tp, f"the FFN width {self.width}", divisors(self.width))

    def operations(self, visit: Visit) -> list[Operation]:
        """Predictor, hot neurons, the touched cold ones, all-reduce."""
        hidden, tokens, repeat, tp = visit.hidden, visit.tokens, visit.repeat, visit.parallelism.tp
        found: list[Operation] = []
        if self.predictor_rank:
            stored, rank = visit.precision.format_of("router"), self.predictor_rank
            found.append(Matmul("predictor in", tokens, rank / tp, hidden, stored, "router", 1.0, repeat))
            found.append(Matmul("predictor out", tokens, self._cold_width, rank / tp, stored, "router", 1.0, repeat))
        if self.hot:
            found += two_matmuls("hot neurons", "ffn", visit, tokens, self.width * float(self.hot) / tp, self.matrices)
        # `groups` is the touched share of the one matrix, and as much of the work is done.
        share, width = self.cold_share(tokens), self._cold_width / tp
        done, into, format = tokens * share, (self.matrices - 1) * width, visit.precision.format_of(self.tensor)
        moved = done * ((into + width) * ACTIVATION_BYTES)
        found += [
            Matmul("cold neurons up", done, into, hidden, format, self.tensor, share, repeat),
            Vector("cold neurons activation", done * (ACTIVATION_FLOPS * width), moved, repeat),
            Matmul("cold neurons down", done, hidden, width, format, self.tensor, share, repeat),
        ]
        return [*found, *all_reduce("ffn all-reduce", tokens, hidden, tp, repeat)]

    def shape(self) -> str:
        """Such as "28672 x 3 matrices, 10 % active"."""
        return f"{self.width} x {self.matrices} matrices, {100 * self.active:g} % active"
