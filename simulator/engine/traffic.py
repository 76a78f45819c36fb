"""What is asked of the machine: when requests arrive, how long they are. Drawn before the run, in NumPy.

Arrivals and lengths come from separate random streams, so that a changed rate does not move the lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from simulator.errors import Problem, ScenarioError, TraceError, Where

MOST_TOKENS = 10**9
"""No request is longer; beyond it a length is a slip of the pen and not a workload."""

MOST_REQUESTS = 10**8
"""Beyond it the columns of a run alone would take more than 6 GB."""

Longer = Literal["error", "drop", "truncate"]
"""What becomes of a request that is longer than the model's context."""


@dataclass(frozen=True, eq=False)
class Workload:
    """The requests of a run, in order of arrival.

    arrival_s: [n] s since the run began, sorted; ignored in a closed loop.
    input_tokens, output_tokens: [n], each at least 1; the output's first token ends the prefill.
    concurrency: requests in flight in a closed loop; None is an open loop. think_s: s between an answer and its user's
    next request. note: what was done to the source (speed, jitter, limit). file, line: where each request was written.
    cached_tokens: [n], tokens at the start of each prompt, not all, whose keys and values the cache still has from
    earlier prompts; None: nothing is found.
    """

    arrival_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    concurrency: int | None = None
    think_s: float = 0.0
    note: str = ""
    file: str | None = None
    line: np.ndarray | None = None
    cached_tokens: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.input_tokens)


@dataclass(frozen=True, eq=False)
class Streams:
    """Independent random streams of one seed: each may be drawn from without moving the others."""

    arrivals: Generator
    inputs: Generator
    outputs: Generator


def streams(seed: int) -> Streams:
    """PCG64 children of the seed (NumPy's SeedSequence.spawn)."""
    return Streams(*(Generator(PCG64(child)) for child in SeedSequence(seed).spawn(3)))


# When requests arrive: float64 [n], sorted, s. Either `requests` or `duration_s` says how many.


def poisson(rate: float, rng: Generator, *, requests: int | None = None, duration_s: float | None = None) -> np.ndarray:
    """Poisson arrivals at `rate` per second: independent exponential gaps, the first before the first request."""
    _positive("request_rate", rate)
    return _renewals(rate, lambda size: rng.exponential(1.0 / rate, size), requests, duration_s)


def gamma(
    rate: float, burstiness: float, rng: Generator, *, requests: int | None = None, duration_s: float | None = None
) -> np.ndarray:
    """Gamma-distributed gaps of mean 1 / rate and shape `burstiness`, as vLLM's `--burstiness`.

    The squared coefficient of variation of a gap is 1 / burstiness: 1 is Poisson, below 1 is burstier, above is more
    regular. Source: vllm/benchmarks/serve.py, `theta = 1 / (request_rate * burstiness)`.
    """
    _positive("request_rate", rate)
    _positive("burstiness", burstiness)
    scale = 1.0 / (rate * burstiness)
    return _renewals(rate, lambda size: rng.gamma(burstiness, scale, size), requests, duration_s)


def fixed_rate(rate: float, *, requests: int | None = None, duration_s: float | None = None) -> np.ndarray:
    """One request every 1 / rate seconds, the first at 0: k / rate for k = 0, 1, ..."""
    _positive("request_rate", rate)
    count = _count(rate, requests, duration_s)
    if duration_s is not None:
        arrival_s = np.arange(count + 1, dtype=np.float64) / rate
        return arrival_s[arrival_s < duration_s]
    return np.arange(count, dtype=np.float64) / rate


def _renewals(
    rate: float, gaps: Callable[[int], np.ndarray], requests: int | None, duration_s: float | None
) -> np.ndarray:
    """Cumulative gaps: the first `requests`, or all before `duration_s`."""
    count = _count(rate, requests, duration_s)
    if duration_s is None:
        return np.cumsum(gaps(count))
    parts = [gaps(count + ceil(4.0 * sqrt(count)))]
    total = float(parts[0].sum())
    while total < duration_s:
        parts.append(gaps(ceil(sqrt(count)) + 16))
        total += float(parts[-1].sum())
    arrival_s = np.cumsum(np.concatenate(parts))
    arrival_s = arrival_s[arrival_s < duration_s]
    if not len(arrival_s):
        raise ScenarioError(
            Problem(f"no request arrives within {duration_s:g} s at {rate:g} /s", mend="give a longer duration")
        )
    return arrival_s


def _count(rate: float, requests: int | None, duration_s: float | None) -> int:
    """Requests asked for, or expected within the duration."""
    if requests is not None and duration_s is None:
        count = requests
    elif duration_s is not None and requests is None:
        _positive("duration", duration_s)
        count = ceil(rate * duration_s) if rate * duration_s <= MOST_REQUESTS else MOST_REQUESTS + 1
    else:
        what = "a request rate needs a number of requests or a duration" + ("" if requests is None else ", not both")
        raise ScenarioError(Problem(what, mend="write requests: 1000, or duration: 10 min"))
    if not 1 <= count <= MOST_REQUESTS:
        many = f"more than {MOST_REQUESTS:,}" if count > MOST_REQUESTS else f"{count}"
        raise ScenarioError(Problem(f"{many} requests were asked for", mend=f"ask for between 1 and {MOST_REQUESTS:,}"))
    return count


# How long requests are: int64 [n], tokens.


def fixed(tokens: int, count: int) -> np.ndarray:
    """Every request has the same length."""
    _tokens("length", tokens)
    return np.full(count, tokens, dtype=np.int64)


def uniform(low: int, high: int, count: int, rng: Generator) -> np.ndarray:
    """Whole numbers from low to high, both included, each as likely."""
    _tokens("uniform: the low end", low)
    _tokens("uniform: the high end", high)
    if high < low:
        raise ScenarioError(Problem(f"uniform: [{low}, {high}] runs backwards", mend=f"write [{high}, {low}]"))
    return rng.integers(low, high, count, endpoint=True, dtype=np.int64)


def lognormal(median: float, sigma: float, count: int, rng: Generator, *, maximum: int | None = None) -> np.ndarray:
    """Lengths median * exp(sigma * N(0, 1)), rounded, at least 1 and at most `maximum`.

    `median` is the median, not the mean, which is median * exp(sigma^2 / 2): [256, 0.8] has mean 353. Lengths outside
    of the bounds are set to the bound.
    """
    _positive("lognormal: the median", median)
    if not (isfinite(sigma) and sigma >= 0):
        raise ScenarioError(Problem(f"lognormal: sigma is {sigma:g}", mend="write a number of 0 or more, such as 0.8"))
    if maximum is not None:
        _tokens("lognormal: max", maximum)
    with np.errstate(over="ignore"):
        lengths = median * np.exp(sigma * rng.standard_normal(count))
    longest = float(lengths.max(initial=0.0))
    if maximum is None and longest > MOST_TOKENS:
        raise ScenarioError(
            Problem(
                f"lognormal: [{median:g}, {sigma:g}] draws a request of {longest:.3g} tokens",
                mend="write a smaller sigma, or a max",
            )
        )
    return np.clip(np.rint(lengths), 1, maximum if maximum is not None else MOST_TOKENS).astype(np.int64)


def resample(lengths: np.ndarray, count: int, rng: Generator) -> np.ndarray:
    """Lengths drawn from those of a trace, with replacement. For pairs, draw the row numbers of the trace instead."""
    return rng.choice(np.asarray(lengths, dtype=np.int64), count)


# Workloads.


def open_loop(arrival_s: np.ndarray, input_tokens: np.ndarray, output_tokens: np.ndarray, note: str = "") -> Workload:
    """Requests that come when they come, whatever the machine does."""
    return Workload(arrival_s, input_tokens, output_tokens, note=note)


def offline(input_tokens: np.ndarray, output_tokens: np.ndarray) -> Workload:
    """Every request at time 0."""
    return Workload(np.zeros(len(input_tokens)), input_tokens, output_tokens, note="all requests at once")


def closed_loop(
    concurrency: int, input_tokens: np.ndarray, output_tokens: np.ndarray, think_s: float = 0.0
) -> Workload:
    """`concurrency` users, each with one request in flight and `think_s` seconds from an answer to the next."""
    if concurrency < 1:
        raise ScenarioError(Problem(f"concurrency is {concurrency}", mend="write 1 or more"))
    if not (isfinite(think_s) and think_s >= 0):
        raise ScenarioError(Problem(f"the think time is {think_s:g} s", mend="write 0 s or more"))
    note = f"closed loop of {concurrency}" + (f", {think_s:g} s of thought between requests" if think_s else "")
    return Workload(np.zeros(len(input_tokens)), input_tokens, output_tokens, concurrency, think_s, note)


def check_context(workload: Workload, max_context: int, name: str, longer: Longer = "error") -> Workload:
    """The workload with no request of more than `max_context` tokens, prompt and answer together.

    name: the model, for the message. longer: "error" refuses; "drop" leaves such requests out; "truncate" keeps the
    answer (at most max_context - 1 tokens) and cuts the prompt to what is left. The note then says how many.
    Raises TraceError: what is too long and where; or nothing is left after dropping.
    """
    total = workload.input_tokens + workload.output_tokens
    over = total > max_context
    count = int(np.count_nonzero(over))
    if not count:
        return workload
    many = f"{count:,} of {len(over):,} requests are longer than the {max_context:,} tokens that {name} takes"
    if longer == "error":
        first = int(np.argmax(over))
        where = Where(workload.file, int(workload.line[first])) if workload.file and workload.line is not None else None
        example = "this one" if where else f"number {first + 1}"
        raise TraceError(
            Problem(
                f"{many}: {example} has {workload.input_tokens[first]:,} + {workload.output_tokens[first]:,}, "
                f"the longest {total.max():,}",
                where,
                "write longer: drop or longer: truncate, or take a model with a longer context",
            )
        )
    if longer == "drop":
        if count == len(over):
            raise TraceError(Problem(f"{many}, and none is left", mend="take a model with a longer context"))
        keep = ~over
        return replace(
            workload,
            arrival_s=workload.arrival_s[keep],
            input_tokens=workload.input_tokens[keep],
            output_tokens=workload.output_tokens[keep],
            line=None if workload.line is None else workload.line[keep],
            note=_and(workload.note, f"{many}: dropped"),
        )
    if max_context < 2:
        raise TraceError(
            Problem(f"{many}, which leaves no room for a prompt", mend="take a model with a longer context")
        )
    outputs = np.minimum(workload.output_tokens, max_context - 1)
    return replace(
        workload,
        input_tokens=np.minimum(workload.input_tokens, max_context - outputs),
        output_tokens=outputs,
        note=_and(workload.note, f"{many}: cut to fit"),
    )


def _and(note: str, more: str) -> str:
    return f"{note}; {more}" if note else more


def _positive(what: str, value: float) -> None:
    if not (isfinite(value) and value > 0):
        raise ScenarioError(Problem(f"{what} is {value:g}", mend="write a number above 0"))


def _tokens(what: str, value: int) -> None:
    if not 1 <= value <= MOST_TOKENS:
        raise ScenarioError(Problem(f"{what} is {value} tokens", mend=f"write a number from 1 to {MOST_TOKENS:,}"))
