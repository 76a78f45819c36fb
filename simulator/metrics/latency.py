"""Latencies as a user feels them: ttft, tpot, itl, e2el.

    ttft  arrival -> first output token, queueing included
    tpot  (e2el - ttft) / (output tokens - 1), one value a request; those of one output token have none
    itl   every gap between two consecutive tokens, all requests pooled
    e2el  arrival -> last output token

Percentiles interpolate linearly between order statistics (NumPy's default).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.engine.records import RequestRecords, TokenGaps

PERCENTILES = (50, 90, 99)


def latency(requests: RequestRecords, gaps: TokenGaps) -> dict[str, float | None]:
    """{ttft,tpot,itl,e2el}_{mean,p50,p90,p99}_ms; None where there is nothing to measure."""
    return {
        **_summary("ttft", ttft_s(requests)),
        **_summary("tpot", tpot_s(requests)),
        **_summary("itl", gaps.seconds, gaps.count),
        **_summary("e2el", e2el_s(requests)),
    }


def ttft_s(requests: RequestRecords) -> np.ndarray:
    """[n] s; NaN where no token came."""
    return np.asarray(requests.first_token_s - requests.arrival_s)


def e2el_s(requests: RequestRecords) -> np.ndarray:
    """[n] s; NaN for a request that did not finish."""
    return np.asarray(requests.finish_s - requests.arrival_s)


def tpot_s(requests: RequestRecords) -> np.ndarray:
    """[n] s; NaN for a request that did not finish or has one output token."""
    later = requests.output_tokens - 1
    seconds = np.full(len(requests), np.nan)
    np.divide(requests.finish_s - requests.first_token_s, later, out=seconds, where=later > 0)
    return seconds


def weighted_percentiles(values: np.ndarray, counts: np.ndarray, ranks: Sequence[float]) -> np.ndarray:
    """`np.percentile(np.repeat(values, counts), ranks)` to the bit, without writing the repetition out.

    values: [n]; counts: [n] integers, 0 or more, not all 0; ranks: [r] percent. -> [r].
    """
    order = np.argsort(values, kind="stable")
    values, last = values[order], np.cumsum(counts[order])
    position = (last[-1] - 1) * (np.asarray(ranks, dtype=np.float64) / 100.0)
    below = np.floor(position)
    part = position - below
    low, high = (
        values[np.searchsorted(last, index, side="right")] for index in (below, np.minimum(below + 1, last[-1] - 1))
    )
    # NumPy's own lerp, which starts from the nearer end.
    step = high - low
    return np.asarray(np.where(part >= 0.5, high - step * (1.0 - part), low + step * part))


def _summary(name: str, seconds: np.ndarray, counts: np.ndarray | None = None) -> dict[str, float | None]:
    keys = [f"{name}_{what}_ms" for what in ("mean", *(f"p{rank}" for rank in PERCENTILES))]
    if counts is None:
        seconds = seconds[np.isfinite(seconds)]
        if not len(seconds):
            return dict.fromkeys(keys)
        figures = [np.mean(seconds), *np.percentile(seconds, PERCENTILES)]
    else:
        total = counts.sum()
        if not total:
            return dict.fromkeys(keys)
        figures = [np.dot(seconds, counts) / total, *weighted_percentiles(seconds, counts, PERCENTILES)]
    return {key: float(figure) * 1e3 for key, figure in zip(keys, figures, strict=True)}
