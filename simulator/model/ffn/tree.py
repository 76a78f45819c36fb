"""Fast feed-forward: a binary tree of neurons of which a token walks one path (FFF, UltraFastBERT)."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from simulator.model.ffn.fields import Share, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import SUM_BYTES, brought_together, exchanged
from simulator.model.operation import Array, Collective, Gather, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism
from simulator.quantity import Known

EVEN = Known(0.5)


@dataclass(frozen=True)
class TreeFFN(FFN):
    """Levels 0 to `depth`, 2^(depth+1) - 1 neurons; at each a token computes act(u . x), adds it times v, and turns
    left or right by its sign: depth + 1 reads that wait for each other, 4d(depth+1) FLOPs.

    `branching`: probability of the likelier turn; a batch of B touches, on level l, the sum over paths with k likely
    turns of C(l,k) * (1 - (1 - p^k (1-p)^(l-k))^B) nodes.
    Source: Belcak & Wattenhofer 2023. Its quality at scale is unverified: reviewers could not reproduce it.
    """

    kind: ClassVar[str] = "tree"
    stored: ClassVar[str] = "table"

    depth: Annotated[int, Field(ge=1, le=40, description="Levels below the root.")]
    branching: Annotated[Share, Field(description="Probability of the likelier of two turns, 0.5 to 1.")] = EVEN
    tensor: Tensor = "table"

    def __post_init__(self) -> None:
        if self.branching < 0.5:
            raise ValueError(f"branching is {self.branching:g}; write the probability of the likelier turn, from 0.5")

    @property
    def address_known(self) -> str:
        """Each node's outcome gives the next."""
        return "layer"

    @property
    def nodes(self) -> int:
        """Neurons of the tree."""
        return (2 << self.depth) - 1

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """2*hidden values a neuron, over tp*dp by column."""
        return {self.tensor: self.memory_parameters(hidden) / (parallelism.tp * parallelism.dp)}

    def active_parameters(self, hidden: int) -> float:
        """One path."""
        return 2.0 * hidden * (self.depth + 1)

    def memory_parameters(self, hidden: int) -> float:
        """All neurons."""
        return 2.0 * hidden * self.nodes

    def touched(self, tokens: Array) -> Array:
        """Nodes that `tokens` tokens touch."""
        likely, found = float(self.branching), 0.0 * np.asarray(tokens, dtype=float)
        for level in range(self.depth + 1):
            for turns in range(level + 1):
                chance = min(likely**turns * (1.0 - likely) ** (level - turns), 1.0 - 2.0**-53)
                found = found - comb(level, turns) * np.expm1(tokens * np.log1p(-chance))
        return found if np.ndim(tokens) else float(found)

    def operations(self, visit: Visit) -> list[Operation]:
        """The path's rows, level after level; by column over the chips, which get their slices of the tokens (tp chips
        have them), whose partial sums meet at every level, and who send back their slices of what comes out."""
        hidden, tokens, levels = visit.hidden, visit.tokens, self.depth + 1
        chips = visit.parallelism.tp * visit.parallelism.dp
        row_bytes = 2.0 * hidden * visit.precision.bytes_of(self.tensor) / chips
        rows = Gather(
            "tree nodes",
            self.tensor,
            visit.all_tokens * levels,
            self.touched(visit.all_tokens),
            row_bytes,
            levels,
            "layer",
            visit.repeat,
            layers_before=visit.before,
            table_rows=self.nodes,
        )
        moved = tokens * (2 * hidden * ACTIVATION_BYTES)
        found: list[Operation] = [rows, Vector("tree products", tokens * (4.0 * hidden * levels), moved, visit.repeat)]
        if chips > 1:
            size, runs = visit.all_tokens * SUM_BYTES, visit.repeat * levels
            found += [
                *exchanged("tree inputs", visit, hidden),
                Collective("tree sums", "all_reduce", size, chips, runs, of_all=True),
                *brought_together("tree outputs", visit, hidden),
            ]
        return found

    def shape(self) -> str:
        """Such as "tree of 4095 neurons, 12 a token"."""
        return f"tree of {self.nodes} neurons, {self.depth + 1} a token"
