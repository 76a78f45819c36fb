"""Turns what replicas wrote down while they ran into the records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np

from simulator.engine.gaps import token_gaps
from simulator.engine.journal import COLUMNS, Journal
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RequestRecords, RunRecords, Samples, Segment, SegmentRecords
from simulator.engine.request_log import RequestLog

SAMPLES = 1000
"""Points in time at which each replica's state is sampled for plots."""

TIMELINE_SEGMENTS = 20_000
"""Segments kept as objects for the timeline, the earliest ones; the columns hold all of them."""


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
        kv_used_max=1.0 - min(journal.least_free for journal in journals) / kv.blocks,
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
    return SegmentRecords(
        replica=np.repeat(np.arange(len(journals)), sizes),
        start_s=start_s,
        keys=columns[fixed : fixed + windows].T,
        pairs=columns[fixed + windows :].T,
        **dict(zip(COLUMNS, columns, strict=False)),
    )


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
