"""What a run leaves behind: flat columns, an entry a request, a segment or a sample. Metrics are functions of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np

from simulator.engine.clock import SECONDS_PER_TICK
from simulator.engine.gaps import TokenGaps, token_gaps
from simulator.engine.journal import COLUMNS, Journal
from simulator.engine.kv_cache import KvLimits
from simulator.engine.request_log import RequestLog

SAMPLES = 1000
"""Points in time at which each replica's state is sampled for plots."""

TIMELINE_SEGMENTS = 20_000
"""Segments kept as objects for the timeline, the earliest ones; the columns hold all of them."""


@dataclass(frozen=True)
class RequestRecords:
    """One entry a request, in order of arrival. Times in seconds since the run began; NaN where it never happened."""

    arrival_s: np.ndarray
    scheduled_s: np.ndarray  # first time any of its tokens entered a step
    first_token_s: np.ndarray
    finish_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    preemptions: np.ndarray
    replica: np.ndarray

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def completed(self) -> np.ndarray:
        """Mask of requests that ran to their last token."""
        return np.isfinite(self.finish_s)


@dataclass(frozen=True)
class SegmentRecords:
    """One entry a segment: `steps` steps with an unchanged batch, whose durations grow evenly.

    keys[i, w]: keys read by decoding sequences, window w, summed over the segment's steps; pairs[i, w]: query-key
    pairs of prompt chunks, likewise.
    """

    replica: np.ndarray
    start_s: np.ndarray
    steps: np.ndarray
    decoding: np.ndarray
    prefill_tokens: np.ndarray  # in each step
    outputs: np.ndarray  # sequences that emit a token, in each step
    free_blocks: np.ndarray  # when the segment began
    first_ticks: np.ndarray  # duration of the first step
    increment_ticks: np.ndarray  # from step to step
    keys: np.ndarray
    pairs: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """How long each segment lasted. In floats: 64 bits of ticks are 8,192 s, and a segment may last longer."""
        middle = self.steps * (self.steps - 1) // 2
        return self.steps * (self.first_ticks * SECONDS_PER_TICK) + middle * (self.increment_ticks * SECONDS_PER_TICK)

    @property
    def end_s(self) -> np.ndarray:
        """When each segment ended."""
        return self.start_s + self.seconds

    def step_seconds(self) -> np.ndarray:
        """Duration of every step of every segment, one after the other."""
        ahead = np.arange(self.steps.sum()) - np.repeat(np.cumsum(self.steps) - self.steps, self.steps)
        ticks = np.repeat(self.first_ticks, self.steps) + np.repeat(self.increment_ticks, self.steps) * ahead
        return ticks * SECONDS_PER_TICK


@dataclass(frozen=True)
class Samples:
    """State at evenly spaced times, replica after replica."""

    time_s: np.ndarray
    replica: np.ndarray
    waiting: np.ndarray
    running: np.ndarray
    kv_used: np.ndarray  # fraction of the KV blocks


class Segment(NamedTuple):
    """A stretch of steps with an unchanged batch, for the timeline."""

    replica: int
    start_s: float
    end_s: float
    steps: int
    decoding: int
    prefill_tokens: int


@dataclass(frozen=True)
class RunRecords:
    """Everything that the engine knows after a run."""

    requests: RequestRecords
    steps: SegmentRecords
    gaps: TokenGaps
    samples: Samples
    segments: tuple[Segment, ...]
    end_s: float  # when the last request finished (never the clock's last event)
    events: int
    replicas: int
    kv_blocks: int  # of one replica
    kv_used_max: float  # fraction
    windows: tuple[int | None, ...]


def collect(
    log: RequestLog,
    journals: Sequence[Journal],
    lengths: tuple[np.ndarray, np.ndarray],
    kv: KvLimits,
    windows: tuple[int | None, ...],
    events: int,
) -> RunRecords:
    """Turn the buffers of a run into columns. The journals' rows are gone afterwards."""
    times = [np.frombuffer(column) for column in (log.arrival_s, log.scheduled_s, log.first_token_s, log.finish_s)]
    order = np.argsort(times[0], kind="stable")
    counts = (np.frombuffer(column, dtype=np.int32) for column in (log.preemptions, log.replica))
    requests = RequestRecords(*(column[order] for column in (*times, *lengths, *counts)))
    steps = _segments(journals, len(windows))
    finished = times[3][np.isfinite(times[3])]
    return RunRecords(
        requests=requests,
        steps=steps,
        gaps=token_gaps(steps, np.concatenate([journal.late_gaps for journal in journals])),
        samples=_samples(requests, steps, kv.blocks, len(journals)),
        segments=_timeline(steps),
        end_s=float(finished.max()) if len(finished) else nan,
        events=events,
        replicas=len(journals),
        kv_blocks=kv.blocks,
        kv_used_max=1.0 - min(journal.least_free for journal in journals if journal.least_free is not None) / kv.blocks,
        windows=windows,
    )


def _segments(journals: Sequence[Journal], windows: int) -> SegmentRecords:
    sizes = [len(journal) for journal in journals]
    fixed = len(COLUMNS)
    columns = np.empty((fixed + 2 * windows, sum(sizes)), dtype=np.int64)
    start_s = np.empty(sum(sizes))
    end = 0
    for journal, size in zip(journals, sizes, strict=True):
        start, end = end, end + size
        columns[:, start:end] = journal.rows.T
        start_s[start:end] = journal.starts
        journal.clear()
    keys, pairs = columns[fixed : fixed + windows].T, columns[fixed + windows :].T
    return SegmentRecords(np.repeat(np.arange(len(journals)), sizes), start_s, *columns[:fixed], keys, pairs)


def _samples(requests: RequestRecords, steps: SegmentRecords, blocks: int, replicas: int) -> Samples:
    end = float(steps.end_s.max()) if len(steps.end_s) else 0.0
    times = np.linspace(0.0, end, SAMPLES)
    parts = []
    for replica in range(replicas):
        mine = requests.replica == replica
        arrived, scheduled, finished = (
            np.searchsorted(np.sort(column[mine & np.isfinite(column)]), times, side="right")
            for column in (requests.arrival_s, requests.scheduled_s, requests.finish_s)
        )
        here = steps.replica == replica
        at = np.searchsorted(steps.start_s[here], times, side="right") - 1
        if here.any():
            used = np.where(at >= 0, 1.0 - steps.free_blocks[here][np.maximum(at, 0)] / blocks, 0.0)
        else:
            used = np.zeros(SAMPLES)
        parts.append((times, np.full(SAMPLES, replica), arrived - scheduled, scheduled - finished, used))
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _timeline(steps: SegmentRecords) -> tuple[Segment, ...]:
    first = np.argsort(steps.start_s, kind="stable")[:TIMELINE_SEGMENTS]
    columns = (steps.replica, steps.start_s, steps.end_s, steps.steps, steps.decoding, steps.prefill_tokens)
    return tuple(map(Segment, *(column[first].tolist() for column in columns)))
