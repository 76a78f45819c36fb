"""Steady state: where the warm-up ends, how sure a mean is, and whether there is a steady state at all."""

from __future__ import annotations

from math import cos, pi, sin, sqrt, tan
from typing import NamedTuple

import numpy as np

from simulator.engine.records import RequestRecords
from simulator.metrics.latency import e2el_s, tpot_s, ttft_s

MSER_BATCH = 5
BATCHES = 20
"""Batches of a mean, as Law (Simulation Modeling and Analysis, 2015, section 9.5) advises: 10 to 30 long ones."""

FEWEST = 5 * BATCHES
"""Requests after the warm-up without which no interval is given: five to a batch."""


class WarmUp(NamedTuple):
    """observations: how many to drop. unfinished: the best cut is at the half-way guard, so the run is too short."""

    observations: int
    unfinished: bool


class Mean(NamedTuple):
    """A mean and the half width of its 95 % confidence interval."""

    mean: float
    half_width: float


def mser5(series: np.ndarray) -> WarmUp:
    """Where the warm-up of a series ends, by MSER-5.

    Means of 5 consecutive observations Z_1..Z_m; the cut d minimises the squared standard error of what is left,
    sum_{i>d} (Z_i - mean_d)^2 / (m - d)^2, over the first half. A minimum on the half-way guard says that the series
    had not settled. Fewer than 4 means: nothing to drop, unfinished.
    Source: White, SIMULATION 69 (1997) 323; in fives: White, Cobb and Spratt, Winter Simulation Conference 2000, 755.
    """
    count = len(series) // MSER_BATCH
    if count < 4:
        return WarmUp(0, True)
    means = np.asarray(series[: count * MSER_BATCH], dtype=np.float64).reshape(count, MSER_BATCH).mean(axis=1)
    largest = float(np.abs(means).max())
    means = means - means[count // 2 :].mean()  # sums of squares cancel least about what is left in the end
    # Sums over what is left after each cut, from the end.
    total, squares = (np.cumsum(part[::-1])[::-1] for part in (means, means**2))
    left = np.arange(count, 0, -1)
    # Rounding is no scatter: of cuts that leave a constant the first is taken.
    scatter = np.maximum(squares - total**2 / left, left * (1e-9 * largest) ** 2)
    error = scatter / left.astype(np.float64) ** 2
    guard = count // 2
    cut = int(np.argmin(error[: guard + 1]))
    return WarmUp(cut * MSER_BATCH, cut == guard)


def batch_means(series: np.ndarray, batches: int = BATCHES) -> Mean:
    """Mean of a correlated series with its 95 % half width t(0.975, batches - 1) * s / sqrt(batches).

    s is the standard deviation of the means of `batches` consecutive stretches; the up to batches - 1 observations that
    do not fill a stretch are left out at the start. Source: Law, section 9.5.3.
    """
    size = len(series) // batches
    if size < 1 or batches < 2:
        raise ValueError(f"{len(series)} observations do not make {batches} batches")
    means = np.asarray(series, dtype=np.float64)[len(series) - size * batches :].reshape(batches, size).mean(axis=1)
    spread = float(means.std(ddof=1))
    return Mean(float(means.mean()), student_t(batches - 1) * spread / sqrt(batches))


def student_t(freedom: int, confidence: float = 0.95) -> float:
    """The two-sided quantile of Student's t: P(|T| <= t) = confidence. Exact for every whole number of degrees.

    Source: Abramowitz and Stegun 26.7.3 and 26.7.4, inverted by bisection over the angle atan(t / sqrt(freedom)).
    """
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < confidence else (low, middle)
    return sqrt(freedom) * tan((low + high) / 2)


def _t_within(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle))."""
    sine, cosine = sin(angle), cos(angle)
    term = total = cosine if freedom % 2 else 1.0
    for index in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= (index - 1) / index * cosine**2
        total += term
    if freedom % 2:
        return 2 / pi * (angle + (sine * total if freedom > 1 else 0.0))
    return sine * total


class Saturation(NamedTuple):
    """saturated: the queue grew without bound. sustainable_rate: req/s it served meanwhile; None unless saturated."""

    saturated: bool
    sustainable_rate: float | None


def littles_law(requests: RequestRecords) -> tuple[float, float]:
    """(L, lambda W): the time average of requests in the system, integrated, and arrival rate times mean time in it.

    Over finished requests, from the first arrival to the last finish; the two are equal.
    """
    done = requests.completed
    arrival, finish = np.sort(requests.arrival_s[done]), np.sort(requests.finish_s[done])
    times = np.concatenate([arrival, finish])
    order = np.argsort(times, kind="stable")
    inside = np.cumsum(np.concatenate([np.ones(len(arrival)), -np.ones(len(finish))])[order])
    span = finish[-1] - arrival[0]
    number = float(np.dot(inside[:-1], np.diff(times[order]))) / span
    return number, len(arrival) / span * float(np.mean(requests.finish_s[done] - requests.arrival_s[done]))


def steady_state(requests: RequestRecords) -> tuple[dict[str, float | None] | None, str | None]:
    """Means without the warm-up, with 95 % intervals; or None and why there are none.

    warmup_requests, warmup_s: what was cut, the longest MSER-5 cut of ttft, tpot and e2el; the drain after the last
    arrival is left out too. {ttft,tpot,e2el}_mean_ms and _mean_ci95_ms (half widths), by batch means over requests;
    output_throughput and _ci95 by batch means over time, tokens spread evenly from first to last of each request.
    """
    done = np.flatnonzero(requests.completed)
    arrival = requests.arrival_s[done]
    if not len(done) or arrival[-1] <= arrival[0]:
        return None, "all requests arrive at once"
    if len(done) < FEWEST:
        return None, f"{len(done)} requests are too few; {FEWEST} are needed"
    series = {"ttft": ttft_s(requests)[done], "tpot": tpot_s(requests)[done], "e2el": e2el_s(requests)[done]}
    cut = 0
    for name, values in series.items():
        known = np.flatnonzero(np.isfinite(values))
        if len(known) < FEWEST:
            continue
        warm_up = mser5(values[known])
        if warm_up.unfinished:
            return None, f"{name} had not settled by half of the run; a longer run may"
        cut = max(cut, int(known[warm_up.observations]))
    if len(done) - cut < FEWEST:
        return None, f"{len(done) - cut} requests after the warm-up are too few; {FEWEST} are needed"
    figures: dict[str, float | None] = {"warmup_requests": cut, "warmup_s": float(arrival[cut] - arrival[0])}
    for name, values in series.items():
        left = values[cut:][np.isfinite(values[cut:])]
        mean = batch_means(left) if len(left) >= FEWEST else None
        figures[f"{name}_mean_ms"] = mean.mean * 1e3 if mean else None
        figures[f"{name}_mean_ci95_ms"] = mean.half_width * 1e3 if mean else None
    edges = np.linspace(arrival[cut], arrival[-1], BATCHES + 1)
    if edges[-1] > edges[0]:
        rate = batch_means(np.diff(_tokens_by(requests, done, edges)) / np.diff(edges))
        figures["output_throughput"], figures["output_throughput_ci95"] = rate
    else:
        figures["output_throughput"] = figures["output_throughput_ci95"] = None
    return figures, None


def _tokens_by(requests: RequestRecords, done: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Output tokens of the requests `done` by each time, the later ones spread evenly over the decode."""
    first, last, later = requests.first_token_s[done], requests.finish_s[done], requests.output_tokens[done] - 1
    span = np.where(last > first, last - first, 1.0)
    return np.array(
        [np.sum((first <= time) + np.clip((time - first) / span, 0.0, 1.0) * later) for time in times.tolist()]
    )


SLICES = 480
"""Evenly spaced instants of the arrival window at which the backlog is read."""

BLOCKS = 32
"""Stretches of the arrival window whose growth is compared, to tell a trend from chance."""

LEAST_GROWTH = 8.0
"""Requests by which a backlog must grow before anything is called a trend."""

LASTING = 0.05
"""Share of all requests that is waiting throughout the second half when a backlog lasts without a trend."""

SLOWER = 0.98
"""A lasting backlog without a trend counts when less than this share of the arrival rate is served."""


def saturation(requests: RequestRecords) -> Saturation:
    """Whether the queue of an open loop grew without bound, and what rate the machine then holds.

    The backlog is the requests that have arrived and have no first token. Over the arrival window it must
    (1) grow: its mean over the last quarter exceeds that over the second by more than chance explains, which is the
        scatter of its increments over 32 stretches times the square root of the stretches between the two quarters;
        or, where the trace's own rate changes too much to tell, hold 5 % of all requests throughout the second half;
    (2) never come back: at no time in the second half is it down to its mean over the second eighth;
    (3) be served slower than requests arrive, by 2 % where there is no trend.
    So a burst that drains, a burst at the end, a queue that shrinks, and requests that all come at once are no
    saturation. The rate is first tokens per second while the backlog lasted, the drain after the last arrival included.
    Of 100 M/D/1 queues of 10,000 requests at loads up to 0.97 none is flagged, from 1.05 on all are. Where service
    times vary much (squared coefficient of variation 3) 3 are at 0.97, 75 at 1.05 and all at 1.1.
    """
    came = requests.arrival_s[np.isfinite(requests.arrival_s)]
    served = np.sort(requests.first_token_s[np.isfinite(requests.first_token_s)])
    if not len(served) or came[-1] <= came[0]:
        return Saturation(False, None)
    start, end = float(came[0]), float(came[-1])
    at = np.linspace(start, end, SLICES + 1)
    backlog = _backlog(came, served, at)
    quarter = SLICES // 4
    growth = backlog[3 * quarter :].mean() - backlog[quarter : 2 * quarter].mean()
    steps = np.diff(backlog[:: SLICES // BLOCKS])
    chance = float(steps.std(ddof=1)) * sqrt(BLOCKS / 2)
    floor = backlog[quarter // 2 : quarter].mean()
    trend = growth > max(LEAST_GROWTH, chance)
    least = backlog[2 * quarter :].min()
    if least <= floor or not (trend or least > max(LEAST_GROWTH, LASTING * len(came))):
        return Saturation(False, None)
    low = at[np.flatnonzero(backlog <= floor)[-1]]
    rate = _served_rate(requests, served, float(low), float(backlog[-1]))
    offered = (len(came) - 1) / (end - start)
    return Saturation(True, rate) if rate < offered * (1.0 if trend else SLOWER) else Saturation(False, None)


def _backlog(came: np.ndarray, served: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Requests that have arrived and not been served by each time; all columns sorted."""
    arrived = np.searchsorted(came, times, side="right") - np.searchsorted(served, times, side="right")
    return arrived.astype(np.float64)


def _served_rate(requests: RequestRecords, served: np.ndarray, low: float, left: float) -> float:
    """First tokens per second from `low` (s) until 5 % of the backlog `left` at the end of the arrivals is left.

    The start is put off by two median times in decode, while seats fill faster than they empty. Where that is past the
    middle there is no steady stretch: then finished requests over the whole makespan, filling and draining included.
    """
    last = min(len(served), max(len(requests) - int(0.05 * left), 1)) - 1
    if served[last] <= low:
        return 0.0
    decode = requests.finish_s - requests.first_token_s
    decode = decode[np.isfinite(decode)]
    filled = float(requests.arrival_s[0]) + (2.0 * float(np.median(decode)) if len(decode) else 0.0)
    since = max(low, filled)
    if since > (low + float(served[last])) / 2.0:
        finish = requests.finish_s[requests.completed]
        return len(finish) / float(finish.max() - requests.arrival_s[0]) if len(finish) else 0.0
    begin = float(served[np.searchsorted(served, since)])
    count = np.searchsorted(served, served[last], side="right") - np.searchsorted(served, begin, side="right")
    span = float(served[last]) - begin
    return float(count) / span if span > 0 else 0.0
