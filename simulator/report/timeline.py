"""A timeline for Perfetto (ui.perfetto.dev) or chrome://tracing: what every replica did, step by step.

One process for each run, one thread for each replica; slices are stretches of steps with an unchanged batch, and
counters show waiting and running requests and the KV cache. The trace format counts time in microseconds.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.report.names import run_names
from simulator.report.plain import plain
from simulator.report.result import Report, RunResult
from simulator.report.state import state

if TYPE_CHECKING:
    from simulator.engine.records import Segment

MAX_EVENTS = 50_000
Event = dict[str, Any]


def trace(report: Report, max_events: int = MAX_EVENTS) -> dict[str, Any]:
    """The trace as JSON data. Beyond `max_events` it is cut at one moment for all runs; "otherData" says where."""
    heads: list[Event] = []
    starts = [np.empty(0)]
    known = np.inf  # every run is known up to here
    left_out = 0
    for number, (name, run) in enumerate(zip(run_names(report), report.runs, strict=True), start=1):
        heads += _names(number, name, run)
        begins = np.array([segment.start_s for segment in run.records.segments], dtype=float)
        starts += [begins, np.repeat(state(run).time_s, 2)]  # two counters a sample
        unseen = len(run.records.steps.start_s) - len(begins)
        if unseen > 0:  # the engine keeps the earliest ones
            left_out += unseen
            known = min(known, float(begins.max(initial=0.0)))
    moments = np.sort(np.concatenate(starts))
    room = max(0, max_events - len(heads))
    until = min(known, float(moments[room]) if len(moments) > room else np.inf)
    events = list(heads)
    for number, run in enumerate(report.runs, start=1):
        events += [_slice(number, segment) for segment in run.records.segments if segment.start_s < until]
        events += _counters(number, run, until)
    left_out += len(heads) + len(moments) - len(events)
    about = {"scenario": report.scenario, "seed": report.seed, "cut": left_out > 0, "events_left_out": left_out}
    if left_out:
        about["window_s"] = until
    return {"displayTimeUnit": "ms", "otherData": plain(about), "traceEvents": events}


def compressed(report: Report, max_events: int = MAX_EVENTS) -> bytes:
    """timeline.json.gz: the same report gives the same bytes."""
    text = json.dumps(trace(report, max_events), separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def _names(process: int, name: str, run: RunResult) -> list[Event]:
    def head(kind: str, thread: int, **args: Any) -> Event:
        return {"ph": "M", "pid": process, "tid": thread, "name": kind, "args": args}

    heads = [
        head("process_name", 0, name=f"{name}, {run.summary['model']}"),
        head("process_sort_index", 0, sort_index=process),
    ]
    if run.saturated:
        heads.append(head("process_labels", 0, labels="saturated"))
    replicas = sorted({segment.replica for segment in run.records.segments})
    return heads + [head("thread_name", 1 + replica, name=_replica(run, replica)) for replica in replicas]


def _replica(run: RunResult, number: int) -> str:
    """What the timeline calls a replica; the first ones of several pools prefill."""
    transfers = run.records.transfers
    if transfers is None:
        return f"replica {number}"
    first = transfers.replicas
    return f"prefill {number}" if number < first else f"decode {number - first}"


def _slice(process: int, segment: Segment) -> Event:
    parts = []
    if segment.prefill_tokens:
        parts.append(f"prefill {segment.prefill_tokens}")
    if segment.decoding:
        parts.append(f"decode {segment.decoding}" if parts else f"decode x{segment.decoding}")
    args = {"steps": segment.steps, "decoding": segment.decoding, "prefill_tokens": segment.prefill_tokens}
    args["tokens"] = segment.steps * (segment.decoding + segment.prefill_tokens)
    length = segment.end_s - segment.start_s
    return {
        "ph": "X",
        "pid": process,
        "tid": 1 + segment.replica,
        "ts": round(segment.start_s * 1e6, 3),
        "dur": round(length * 1e6, 3),
        "name": " + ".join(parts) or "idle step",
        "args": plain(args | {"step_ms": round(length * 1e3 / segment.steps, 6) if segment.steps else None}),
    }


def _counters(process: int, run: RunResult, until: float) -> list[Event]:
    over = state(run)
    events: list[Event] = []
    columns = (
        column[over.time_s < until].tolist() for column in (over.time_s, over.waiting, over.running, over.kv_used)
    )
    for moment, queue, batch, used in zip(*columns, strict=True):
        place = {"ph": "C", "pid": process, "ts": round(moment * 1e6, 3)}
        events.append({**place, "name": "requests", "args": {"waiting": round(queue), "running": round(batch)}})
        events.append({**place, "name": "KV cache (%)", "args": {"used": round(100 * used, 3)}})
    return events
