"""Hit rates of a near tier that caches a far one: closed forms for Zipf's law, and simulated for a sequence of uses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from simulator.cost.place import Policy
from simulator.model.operation import Array
from simulator.model.popularity import ranks
from simulator.model.routing import inclusion


def hit_rate(items: float, zipf: float, kept: float, policy: Policy = "pinned") -> float:
    """Share of independent uses that a cache of `kept` of `items` items serves, their popularity rank^-zipf.

    pinned, and lfu once it has counted long enough: the kept items are the hottest, h = sum of their p_i.
    lru: Che's approximation (Che, Tung, Wang 2002): an item stays for a time T after its use, the same T for all,
    with sum of 1 - exp(-p_i T) = kept; h = sum of p_i (1 - exp(-p_i T)).
    """
    if kept >= items:
        return 1.0
    if kept <= 0:
        return 0.0
    counts, probability = ranks(float(items), float(zipf))
    if policy != "lru":
        before = np.concatenate([[0.0], np.cumsum(counts)])
        return float(np.interp(kept, before, np.concatenate([[0.0], np.cumsum(counts * probability)])))
    low, high = 0.0, 1.0
    while (counts * -np.expm1(-probability * high)).sum() < kept:
        low, high = high, 2.0 * high
    for _ in range(100):
        middle = (low + high) / 2.0
        if (counts * -np.expm1(-probability * middle)).sum() < kept:
            low = middle
        else:
            high = middle
    return float((counts * probability * -np.expm1(-probability * high)).sum())


def chosen_hits(choices: float, chosen: float, zipf: float, kept: float, policy: Policy, tokens: Array) -> Array:
    """Share of the distinct experts that `tokens` tokens touch which a cache of `kept` of them holds.

    pinned, lfu: the hottest are held, so sum of 1 - (1 - p_i)^T over the kept ones over the same sum over all. lru: its
    hit rate for one token after the other, which is also what a batch finds of the batch before.
    """
    if policy == "lru":
        return hit_rate(choices, zipf, kept, "lru")
    miss = 1.0 - inclusion(int(choices), int(chosen), float(zipf))
    inside = np.clip(kept - np.arange(len(miss)), 0.0, 1.0)  # the last one may be held in part
    count = np.atleast_1d(np.asarray(tokens, dtype=float))
    touched = 1.0 - miss ** np.maximum(count, 1.0)[:, None]
    share = (touched * inside).sum(axis=1) / touched.sum(axis=1)
    return share if np.ndim(tokens) else float(share[0])


def hits(uses: Iterable[int], kept: int, policy: Policy = "lru", hot: Iterable[int] = ()) -> np.ndarray:
    """Which of a sequence of uses a cache of `kept` items serves.

    It starts empty, or for `pinned` with the first of the items `hot`. lru drops the item unused for longest, lfu the
    one used least often so far (the older of two alike). A miss is always let in.
    """
    sequence = list(uses)
    if policy == "pinned":
        inside = set(list(hot)[:kept])
        return np.array([item in inside for item in sequence], dtype=bool)
    found = np.zeros(len(sequence), dtype=bool)
    cache: OrderedDict[int, None] = OrderedDict()
    used: dict[int, int] = {}
    for at, item in enumerate(sequence):
        used[item] = used.get(item, 0) + 1
        if item in cache:
            found[at] = True
            if policy == "lru":
                cache.move_to_end(item)
        elif kept > 0:
            if len(cache) >= kept:
                cache.pop(min(cache, key=used.__getitem__) if policy == "lfu" else next(iter(cache)))
            cache[item] = None
    return found
