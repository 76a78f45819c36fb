"""A tree of layers: every token takes one path from the root to a leaf, short or long."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.model.architecture import Architecture, Shape, group_layers
from simulator.model.depth.kind import Batching, Count, Depth, Share
from simulator.model.use import ALWAYS, Use
from simulator.quantity import Known
from simulator.strict import Strict

WHOLE = Known(1.0)


class Branch(Strict):
    """A group of layers, and the branches that follow it; none after a leaf."""

    layers: Count
    share: Annotated[Share, Field(description="Of the tokens that come to the fork, those that take this branch.")] = (
        WHOLE
    )
    branches: tuple[Branch, ...] = ()

    @model_validator(mode="after")
    def _split(self) -> Branch:
        whole = sum(float(branch.share) for branch in self.branches)
        if self.branches and abs(whole - 1.0) > 1e-6:
            raise ValueError(f"the shares of the branches add up to {whole:g}; make them 1")
        return self


class LayerTree(Depth):
    """An asymmetric tree of groups of layers; branches have weights of their own, paths may differ in length.

    A layer of a node n layers below the root has the shape of the model's layer n. Parameters are those of all nodes,
    FLOPs those of the mean path, and a lock-step batch of B reads sum_i size_i * (1 - (1 - P_i)^B) with P_i the share
    of the tokens whose path passes node i: the formula of experts, for groups of layers. The choice itself (one d x 2
    product at a fork) and moving a hidden state between chips are left out.
    search: entry    one path for a whole sequence, found when it enters: it keeps and sees keys of its own path
            fork     each token turns at each fork: a node keeps, and sees, keys of the tokens that passed it alone
    An idea of the essay; no model of this kind is published: quality unknown.
    """

    kind: Literal["layer_tree"]
    root: Branch
    search: Literal["entry", "fork"] = "entry"
    batching: Batching = "lock_step"

    def applied(self, model: Architecture) -> Architecture:
        """The nodes' layers, each used by its share of the tokens."""
        shapes, uses = self._walk(self.root, model.shapes(), 0, 1.0)
        return replace(model, layers=group_layers(shapes, uses))

    def _walk(self, node: Branch, shapes: list[Shape], depth: int, share: float) -> tuple[list[Shape], list[Use]]:
        after = depth + node.layers
        if after > len(shapes):
            raise ValueError(f"a path of {after} layers is longer than the model's {len(shapes)}; write fewer layers")
        seen = 1.0 if self.search == "entry" else share
        use = Use(reach=share, lock_step=self.batching == "lock_step", kept=share, seen=seen)
        found, uses = shapes[depth:after], [use if share < 1.0 else ALWAYS] * node.layers
        for branch in node.branches:
            below = self._walk(branch, shapes, after, share * float(branch.share))
            found, uses = found + below[0], uses + below[1]
        return found, uses
