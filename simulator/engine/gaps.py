"""Inter-token latencies of a run: every gap between two consecutive tokens of a sequence, pooled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.records import SegmentRecords, TokenGaps

EXACT_STEPS = 5_000_000
"""Steps up to which every gap is kept; longer runs keep classes of gaps."""

CLASS_WIDTH = 1e-4
"""Relative width of a class of gaps: percentiles of longer runs are off by no more than this, means not at all."""

ROWS_AT_ONCE = 200_000
"""Segments that are classed in one go, so that memory stays bounded."""


def token_gaps(steps: SegmentRecords, late: np.ndarray, exact_steps: int = EXACT_STEPS) -> TokenGaps:
    """Gaps of decoding sequences, and `late` ones: s, across a preemption or a move of the cache."""
    if int(steps.steps.sum()) > exact_steps:
        return _classed(steps, late)
    count = np.repeat(steps.decoding - steps.joined, steps.steps)
    some = count > 0
    return TokenGaps(
        np.concatenate([steps.step_seconds()[some], late]),
        np.concatenate([count[some], np.ones(len(late), dtype=np.int64)]),
    )


def _classed(steps: SegmentRecords, late: np.ndarray) -> TokenGaps:
    """A histogram on a logarithmic scale that knows the mean of each of its classes."""
    found: dict[int, tuple[float, int]] = {}
    for seconds, count in _parts(steps, late):
        classes, which = np.unique(np.floor(np.log(seconds) / CLASS_WIDTH).astype(np.int64), return_inverse=True)
        sums = np.bincount(which, weights=seconds * count)
        # Whole numbers below 2**53: exact as floats.
        counts = np.bincount(which, weights=count).astype(np.int64)
        for key, total, many in zip(classes.tolist(), sums.tolist(), counts.tolist(), strict=True):
            before = found.get(key, (0.0, 0))
            found[key] = (before[0] + total, before[1] + many)
    rows = [found[key] for key in sorted(found)]
    count = np.array([many for _, many in rows], dtype=np.int64)
    return TokenGaps(np.array([total for total, _ in rows]) / count, count)


def _parts(steps: SegmentRecords, late: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(mean gap, number of gaps): segments cut into parts in which no gap is CLASS_WIDTH longer than another."""
    if len(late):
        yield late, np.ones(len(late), dtype=np.int64)
    for row in range(0, len(steps.steps), ROWS_AT_ONCE):
        here = slice(row, row + ROWS_AT_ONCE)
        seeing = steps.decoding[here] - steps.joined[here]
        some = seeing > 0
        decoding = seeing[some]
        count, first, increment = (
            column[here][some] for column in (steps.steps, steps.first_ticks, steps.increment_ticks)
        )
        growth = increment * (count - 1.0) / first
        parts = np.minimum(np.ceil(growth / CLASS_WIDTH).astype(np.int64), count).clip(1)
        part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        count, decoding, first, increment, parts = (
            np.repeat(column, parts) for column in (count, decoding, first, increment, parts)
        )
        start, end = count * part // parts, count * (part + 1) // parts
        # A part's durations grow evenly: their mean is that of its first and its last.
        yield (first + increment * ((start + end - 1) / 2)) * SECONDS_PER_TICK, decoding * (end - start)
