"""Copies of busy experts, and how evenly ranks then share the tokens: expert-parallel load balancing (EPLB) with
redundant experts, DeepSeek-V3 section 3.4."""

from __future__ import annotations

import heapq

import numpy as np

PLACEMENTS = 64
"""Random placements over which experts without copies are averaged: as many layers, each with busy experts of its
own."""


def copies(chances: np.ndarray, redundant: int) -> np.ndarray:
    """[experts] slots of each expert: one, and `redundant` times one more for the expert whose copies are busiest.

    chances: probability that a token uses each expert; each of n copies meets it with a probability of 1/n of that.
    """
    counts = np.ones(len(chances), dtype=int)
    busy = [(-chance, expert) for expert, chance in enumerate(chances.tolist())]
    heapq.heapify(busy)
    for _ in range(redundant):
        _, expert = busy[0]
        counts[expert] += 1
        heapq.heapreplace(busy, (-float(chances[expert]) / int(counts[expert]), expert))
    return counts


def in_slots(chances: np.ndarray, redundant: int) -> np.ndarray:
    """[experts + redundant] probability that a token uses each slot."""
    counts = copies(chances, redundant)
    return np.repeat(chances / counts, counts)


def balanced(slots: np.ndarray, ranks: int) -> np.ndarray:
    """[ranks] tokens of each, where slots, the busiest first, go to the rank that has least to do of those with room:
    all hold equally many (`ranks` divides them)."""
    room = len(slots) // ranks
    free = [(0.0, rank, 0) for rank in range(ranks)]
    loads = np.zeros(ranks)
    for slot in sorted(slots.tolist(), reverse=True):
        load, rank, held = heapq.heappop(free)
        loads[rank] = load + slot
        if held + 1 < room:
            heapq.heappush(free, (load + slot, rank, held + 1))
    return loads


def busiest(chances: np.ndarray, ranks: int, redundant: int = 0) -> float:
    """Tokens of the busiest of `ranks` ranks over the mean.

    With copies they are `balanced`; without, experts lie as they come: the mean over random placements (a fixed seed).
    """
    if redundant:
        loads = balanced(in_slots(chances, redundant), ranks)[None]
    else:
        shuffled = np.random.default_rng(0).permuted(np.tile(chances, (PLACEMENTS, 1)), axis=1)
        loads = shuffled.reshape(PLACEMENTS, ranks, -1).sum(axis=2)
    return float((loads.max(axis=1) / loads.mean(axis=1)).mean())
