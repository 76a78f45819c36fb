"""The ways of tokens through a model in which not all of them pass every layer, and how they are cut into stages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

import numpy as np


@dataclass(frozen=True)
class Node:
    """Layers that a token passes together.

    first   layer of the model whose shape the first of them has
    share   of the tokens, those that pass
    seen    share of the context that a query attends to there
    searches paths among which the token's is searched in here, for each search
    """

    first: int
    layers: int
    share: float = 1.0
    seen: float = 1.0
    searches: tuple[int, ...] = ()


@dataclass(frozen=True)
class Paths:
    """`nodes`, and the ways through them: (share of the tokens, places of its nodes in order)."""

    nodes: tuple[Node, ...]
    ways: tuple[tuple[float, tuple[int, ...]], ...]

    def cut(self, loads: Sequence[Sequence[float]], stages: int) -> tuple[Paths, tuple[tuple[int, ...], ...]]:
        """Nodes cut so that `stages` stages, each of consecutive layers in the order of the nodes, carry loads as equal
        as can be, and the nodes of each stage. loads[node][layer]: time that a layer takes of a token on average, those
        that do not pass counted."""
        layers = [(node, layer) for node, inside in enumerate(loads) for layer in range(len(inside))]
        edges = balanced([loads[node][layer] for node, layer in layers], stages)
        at = [(node, bisect_right(edges, place)) for place, (node, _) in enumerate(layers)]
        parts: list[Node] = []
        of_node: list[list[int]] = [[] for _ in self.nodes]
        of_stage: list[list[int]] = [[] for _ in range(stages)]
        for (number, stage), inside in groupby(at):
            node, size, before = self.nodes[number], len(list(inside)), sum(parts[p].layers for p in of_node[number])
            last = before + size == node.layers
            of_node[number].append(len(parts))
            of_stage[stage].append(len(parts))
            searches = node.searches if last else ()
            parts.append(replace(node, first=node.first + before, layers=size, searches=searches))
        ways = tuple((share, tuple(part for node in way for part in of_node[node])) for share, way in self.ways)
        return Paths(tuple(parts), ways), tuple(map(tuple, of_stage))


def balanced(loads: Sequence[float], parts: int) -> list[int]:
    """Where to cut a sequence into `parts` parts, none of them empty: the first places of all parts but the first. The
    largest sum of a part is the least possible, and of the ways to have that, the sum of the sums' squares is."""
    total = np.array([0.0, *accumulate(loads)])
    sums = total[None, 1:] - total[:-1, None]  # [first, last]
    sums[np.tril_indices(len(loads), -1)] = np.inf
    least = _best(sums, parts, np.maximum)[0]
    return _best(np.where(sums <= least * (1.0 + 1e-12), sums**2, np.inf), parts, np.add)[1]


def _best(costs: np.ndarray, parts: int, join: np.ufunc) -> tuple[float, list[int]]:
    """The least joined cost of cutting a sequence into parts, by dynamic programming, and the places of the cuts;
    costs[first, last] of a part."""
    reached, cuts = costs[0], []  # of the sequence up to each place, in so many parts
    for _ in range(parts - 1):
        whole = join(reached[:-1, None], costs[1:])
        cuts.append(np.argmin(whole, axis=0) + 1)
        reached = whole.min(axis=0)
    edges, end = [], len(costs) - 1
    for cut in reversed(cuts):
        edges.append(int(cut[end]))
        end = edges[-1] - 1
    return float(reached[-1]), edges[::-1]
