"""How unevenly the kernel tables load the experts: their own recipe of a power law, drawn again."""

from __future__ import annotations

from functools import cache

import numpy as np

DRAWS = 32
SEED = 20


@cache
def skewed(exponent: float, tokens: int, top_k: int, experts: int, ranks: int) -> tuple[float, float]:
    """(tokens of the slowest rank over the mean rank, distinct experts that it runs), the mean over some draws.

    Loads of the experts are drawn from a density x^-exponent on [1, 0.8 T], or on [0.01, 2] while fewer tokens are
    routed than there are experts, and scaled to T k in all (AIConfigurator's collector of these tables).
    """
    slots = float(tokens * top_k)
    low, high = (0.01, 2.0) if slots <= experts else (1.0, max(0.8 * tokens, 1.0 + 1e-9))
    random = np.random.default_rng(SEED)
    u = random.random((DRAWS, experts))
    power = 1.0 - exponent
    loads = (low**power + u * (high**power - low**power)) ** (1.0 / power)
    loads = np.minimum(loads * (slots / loads.sum(axis=1, keepdims=True)), tokens)
    each = loads.reshape(DRAWS, ranks, experts // ranks)
    sums = each.sum(axis=2)
    hottest = sums.argmax(axis=1)
    hot = sums.max(axis=1) * ranks / sums.sum(axis=1)
    counts = np.round(each[np.arange(DRAWS), hottest])
    touched = np.clip((counts > 0).sum(axis=1), 1, None)
    return float(hot.mean()), float(touched.mean())


def balanced(tokens: int, top_k: int, experts: int, ranks: int) -> tuple[float, float]:
    """The same where tokens go round the experts in turn."""
    held = experts / ranks
    return 1.0, min(held, max(1.0, tokens * top_k / ranks))
