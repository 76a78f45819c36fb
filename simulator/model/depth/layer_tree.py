"""A tree of layers: every token takes one path from the root to a leaf, short or long."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.kind import Batching, Count, Depth, Share
from simulator.model.depth.paths import Node, Paths
from simulator.model.use import ALWAYS, PathSearch, Use
from simulator.quantity import Known
from simulator.strict import Strict

WHOLE = Known(1.0)

Depths = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


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
    of the tokens whose path passes node i: the formula of experts, for groups of layers.
    search: entry    one path for a whole sequence, found when it enters: it keeps and sees keys of its own path; found
                     once a request, which is left out
            fork     each token turns at each fork: a node keeps, and sees, keys of the tokens that passed it alone. A
                     fork into n branches costs a product with d x n (2*d*n FLOPs a token) and the batch's new order
            [0, 16]  the same with fewer searches: each finds the way through all forks up to the next, so it tells more
                     ways apart, after 0 and 16 layers here
    An idea of the essay; no model of this kind is published: quality unknown.
    """

    kind: Literal["layer_tree"]
    root: Branch
    search: Literal["entry", "fork"] | Depths = "entry"
    batching: Batching = "lock_step"

    @model_validator(mode="after")
    def _searched(self) -> LayerTree:
        if not isinstance(self.search, str):
            if list(self.search) != sorted(set(self.search)):
                raise ValueError(
                    "search is not a rising list; write the layers after which a path is searched in order"
                )
            if self.root.branches and self.search[0] > self.root.layers:
                first = self.root.layers
                raise ValueError(
                    f"no search before the fork after {first} layers; write search: [{first}, ...] or less"
                )
        return self

    def applied(self, model: Architecture) -> Architecture:
        """The nodes' layers, each used by its share of the tokens."""
        shapes, found = model.shapes(), self.paths(model.layer_count)
        lock_step = self.batching == "lock_step"
        uses = [
            Use(reach=node.share, lock_step=lock_step, kept=node.share, seen=node.seen) if node.share < 1.0 else ALWAYS
            for node in found.nodes
        ]
        searches = [
            PathSearch(width, use) for node, use in zip(found.nodes, uses, strict=True) for width in node.searches
        ]
        return replace(
            model,
            layers=group_layers(
                [shape for node in found.nodes for shape in shapes[node.first : node.first + node.layers]],
                [use for node, use in zip(found.nodes, uses, strict=True) for _ in range(node.layers)],
            ),
            searches=tuple(searches),
        )

    def paths(self, layers: int) -> Paths:
        """The tree's nodes, each before its branches, and a way to each leaf."""
        nodes: list[Node] = []
        ways: list[tuple[float, tuple[int, ...]]] = []
        self._walk(self.root, 0, 1.0, (), layers, nodes, ways)
        return Paths(tuple(nodes), tuple(ways))

    def _walk(
        self,
        branch: Branch,
        first: int,
        share: float,
        before: tuple[int, ...],
        layers: int,
        nodes: list[Node],
        ways: list[tuple[float, tuple[int, ...]]],
    ) -> None:
        after = first + branch.layers
        if after > layers:
            raise ValueError(f"a path of {after} layers is longer than the model's {layers}; write fewer layers")
        way = (*before, len(nodes))
        seen = 1.0 if self.search == "entry" else share
        nodes.append(Node(first, branch.layers, share, seen, self._searches(branch, first)))
        for below in branch.branches:
            self._walk(below, after, share * float(below.share), way, layers, nodes, ways)
        if not branch.branches and share > 0:
            ways.append((share, way))

    def _searches(self, branch: Branch, first: int) -> tuple[int, ...]:
        """Ways that are told apart by each search in a node. A search at a fork belongs to the node before it."""
        after = first + branch.layers
        if self.search == "entry" or not branch.branches:
            return ()
        if self.search == "fork":
            return (len(branch.branches),)
        here = [s for s in self.search if first < s <= after or s == first == 0]
        ends = {s: min((later for later in self.search if later > s), default=inf) for s in here}
        widths = (_told_apart(branch, first, ends[s]) for s in here)
        return tuple(width for width in widths if width > 1)


def _told_apart(branch: Branch, first: int, until: float) -> int:
    """Ways from a node on through the forks before a depth."""
    after = first + branch.layers
    if not branch.branches or after >= until:
        return 1
    return sum(_told_apart(below, after, until) for below in branch.branches)
