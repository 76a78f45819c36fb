"""Recursion: one block of layers is passed several times, by each token as often as it needs (MoR, LoopLM)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.kind import Batching, Count, Depth, Share
from simulator.model.use import ALWAYS, Use


class Recursive(Depth):
    """The first `prelude` layers, then the next `block` layers again and again, then the last `coda` layers.

    shares[r] of the tokens pass the block an (r+1)-th time; the first time all do. The block's weights are held once.
    Weights being the same at every depth, tokens of different depths can be batched (depth-wise). Keys: each recursion
    keeps its own for the tokens in it and attends to those alone, or all share the first one's (`keys: shared`).
    Source: Bae et al. 2025 (Mixture of Recursions).
    """

    kind: Literal["recursive"]
    block: Count
    shares: tuple[Share, ...] = Field(min_length=1, description="Of the tokens, for each recursion; the first is 1.")
    prelude: Annotated[int, Field(ge=0)] = 1
    coda: Annotated[int, Field(ge=0)] = 1
    keys: Literal["own", "shared"] = "own"
    batching: Batching = "depth_wise"

    @model_validator(mode="after")
    def _falling(self) -> Recursive:
        if float(self.shares[0]) != 1.0 or any(b > a for a, b in zip(self.shares, self.shares[1:], strict=False)):
            raise ValueError("shares are not 1 and then ever fewer; write shares: [1, 0.6, 0.3]")
        return self

    def applied(self, model: Architecture) -> Architecture:
        """Prelude, block after block, coda, of the model's own layers."""
        shapes, taken = model.shapes(), self.prelude + self.block + self.coda
        if taken > len(shapes):
            raise ValueError(f"prelude, block and coda are {taken} layers, the model has {len(shapes)}; write fewer")
        block = shapes[self.prelude : self.prelude + self.block]
        lock_step = self.batching == "lock_step"
        uses = [ALWAYS] * self.prelude
        for index, share in enumerate(float(s) for s in self.shares):
            own = self.keys == "own"
            kept, seen = (share, share) if own else (float(index == 0), 1.0)
            use = Use(reach=share, lock_step=lock_step, weights=float(index == 0), kept=kept, seen=seen)
            uses += [use] * self.block
        uses += [ALWAYS] * self.coda
        tail = shapes[len(shapes) - self.coda :] if self.coda else []
        recursed = [*shapes[: self.prelude], *block * len(self.shares), *tail]
        return replace(model, layers=group_layers(recursed, uses))
