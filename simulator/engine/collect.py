"""Turns what replicas wrote down while they ran into the records of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import numpy as np

from simulator.engine.gaps import token_gaps
from simulator.engine.journal import COLUMNS, Journal
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RequestRecords, RunRecords, Samples, Segment, SegmentRecords, TransferRecords
from simulator.engine.request_log import MovedLog, RequestLog

SAMPLES = 1000
"""Points in time at which each replica's state is sampled for plots."""

TIMELINE_SEGMENTS = 20_000
"""Segments kept as objects for the timeline, the earliest ones; the columns hold all of them."""


def collect(
    log: RequestLog,
    journals: Sequence[Journal],
    caches: Sequence[KvLimits],
    lengths: tuple[np.ndarray, np.ndarray],
    windows: tuple[int | None, ...],
    events: int,
    moved: MovedLog | None = None,
) -> RunRecords:
    """Turn the buffers of a run into columns. The journals' rows are gone afterwards. `caches`: one a journal; `moved`:
    where the last ones of them decode what the first ones have prefilled."""
    times = [np.frombuffer(column) for column in (log.arrival_s, log.scheduled_s, log.first_token_s, log.finish_s)]
    order = np.argsort(times[0], kind="stable")
    counts = (np.frombuffer(column, dtype=np.int32) for column in (log.preemptions, log.replica))
    requests = RequestRecords(*(column[order] for column in (*times, *lengths, *counts)))
    transfers = None if moved is None else _transfers(moved, order)
    steps = _segments(journals, len(windows))
    finished = times[3][np.isfinite(times[3])]
    return RunRecords(
        requests=requests,
        steps=steps,
        gaps=token_gaps(steps, np.concatenate([journal.late_gaps for journal in journals])),
        samples=_samples(requests, transfers, steps, [kv.blocks for kv in caches]),
        segments=_timeline(steps),
        end_s=float(finished.max()) if len(finished) else nan,
        events=events,
        replicas=len(journals),
        kv_blocks=caches[-1].blocks,
        kv_used_max=max(1.0 - journal.least_free / kv.blocks for journal, kv in zip(journals, caches, strict=True)),
        windows=windows,
        transfers=transfers,
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


def _transfers(moved: MovedLog, order: np.ndarray) -> TransferRecords:
    replica = np.frombuffer(moved.replica, dtype=np.int32)[order]
    prefilled, sent, arrived = (
        np.frombuffer(column)[order] for column in (moved.prefilled_s, moved.sent_s, moved.arrived_s)
    )
    return TransferRecords(replica, prefilled, sent, arrived, moved.replicas)


def _samples(
    requests: RequestRecords, transfers: TransferRecords | None, steps: SegmentRecords, blocks: Sequence[int]
) -> Samples:
    end = float(steps.end_s.max()) if len(steps.end_s) else 0.0
    times = np.linspace(0.0, end, SAMPLES)
    parts = []
    for replica, held in enumerate(blocks):
        mine = requests.replica == replica
        columns = [requests.arrival_s, requests.scheduled_s, requests.finish_s]
        if transfers is not None and replica < transfers.replicas:
            mine = transfers.replica == replica
            columns[2] = transfers.prefilled_s
        elif transfers is not None:
            columns[:2] = transfers.prefilled_s, transfers.arrived_s
        arrived, scheduled, finished = (
            np.searchsorted(np.sort(column[mine & np.isfinite(column)]), times, side="right") for column in columns
        )
        here = steps.replica == replica
        at = np.searchsorted(steps.start_s[here], times, side="right") - 1
        if here.any():
            used = np.where(at >= 0, 1.0 - steps.free_blocks[here][np.maximum(at, 0)] / held, 0.0)
        else:
            used = np.zeros(SAMPLES)
        parts.append((times, np.full(SAMPLES, replica), arrived - scheduled, scheduled - finished, used))
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _timeline(steps: SegmentRecords) -> tuple[Segment, ...]:
    first = np.argsort(steps.start_s, kind="stable")[:TIMELINE_SEGMENTS]
    columns = (steps.replica, steps.start_s, steps.end_s, steps.steps, steps.decoding, steps.prefill_tokens)
    return tuple(map(Segment, *(column[first].tolist() for column in columns)))
