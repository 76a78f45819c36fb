"""One training step for Perfetto (ui.perfetto.dev): a thread for each stage, on which what is empty is bubble, and
threads below for what its links carry."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simulator.report.plain import plain

if TYPE_CHECKING:
    from simulator.report.training.result import TrainingReport, TrainingRun

MAX_EVENTS = 50_000
NAMES = {"F": "forward", "B": "backward", "W": "weight gradients"}
COLOURS = {"F": "thread_state_running", "B": "thread_state_iowait", "W": "thread_state_runnable"}
Event = dict[str, Any]


def trace(report: TrainingReport, max_events: int = MAX_EVENTS) -> dict[str, Any]:
    """The trace as JSON data; of long steps the beginning, and "otherData" says how many events are left out."""
    room = max_events // max(1, len(report.runs))
    events: list[Event] = []
    left_out = 0
    for process, run in enumerate(report.runs, start=1):
        threads, carried = _carried(process, run)
        found = sorted([*_passes(process, run), *carried], key=lambda event: (event["ts"], event["tid"]))
        left_out += max(0, len(found) - room)
        events += [*_heads(process, run, threads), *found[:room], *_tail(process, run)]
    about = {"scenario": report.scenario, "seed": report.seed, "cut": left_out > 0, "events_left_out": left_out}
    return {"displayTimeUnit": "ms", "otherData": plain(about), "traceEvents": events}


def _slice(process: int, thread: int, start: float, end: float, **more: Any) -> Event:
    place = {"ph": "X", "pid": process, "tid": thread}
    return {**place, "ts": round(start * 1e6, 3), "dur": round((end - start) * 1e6, 3), **more}


def _passes(process: int, run: TrainingRun) -> Iterator[Event]:
    for each in run.record.slices:
        kind, micro, chunk = each.task
        yield _slice(
            process,
            1 + each.stage,
            each.start_s,
            each.end_s,
            name=f"{kind}{micro}" + (f".{chunk}" if chunk else ""),
            cat=NAMES[kind],
            cname=COLOURS[kind],
            args={"pass": NAMES[kind], "micro_batch": micro, "chunk": chunk},
        )


def _carried(process: int, run: TrainingRun) -> tuple[dict[int, str], list[Event]]:
    """Threads of the links, and what they carry: what is on a link at the same time stands on threads of its own."""
    stages = len(run.record.busy_s)
    free: dict[tuple[int, str], list[tuple[int, float]]] = {}  # stage and link -> (thread, free from) of each lane
    threads: dict[int, str] = {}
    events = []
    for each in sorted(run.record.carried, key=lambda each: (each.stage, each.link, each.start_s, each.end_s)):
        lanes = free.setdefault((each.stage, each.link), [])
        lane = next((index for index, (_, until) in enumerate(lanes) if until <= each.start_s), len(lanes))
        thread = lanes[lane][0] if lane < len(lanes) else 1 + stages + len(threads)
        lanes[lane : lane + 1] = [(thread, each.end_s)]
        threads.setdefault(thread, f"stage {each.stage}, {each.link}")
        events.append(_slice(process, thread, each.start_s, each.end_s, name=each.name, cat=each.link))
    return threads, events


def compressed(report: TrainingReport) -> bytes:
    """timeline.json.gz: the same report gives the same bytes."""
    text = json.dumps(trace(report), separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def _heads(process: int, run: TrainingRun, threads: dict[int, str]) -> list[Event]:
    def head(kind: str, thread: int, **args: Any) -> Event:
        return {"ph": "M", "pid": process, "tid": thread, "name": kind, "args": args}

    s = run.summary
    name = f"{s['machine']} x {s['chips']}, {s['model']}, {s['layout']}"
    stages = range(len(run.record.busy_s))
    return [
        head("process_name", 0, name=name),
        head("process_sort_index", 0, sort_index=process),
        *(head("thread_name", 1 + stage, name=f"stage {stage}") for stage in stages),
        *(head("thread_name", thread, name=title) for thread, title in threads.items()),
    ]


def _tail(process: int, run: TrainingRun) -> list[Event]:
    """What follows the pipeline on every stage: waiting for others (jitter), and the optimiser."""
    step, now = run.step, run.record.seconds
    events: list[Event] = []
    stretches = (
        ("jitter", step.jitter),
        ("optimizer", step.optimizer),
    )
    for name, seconds in stretches:
        if seconds > 0:
            stages = range(len(run.record.busy_s))
            events += [_slice(process, 1 + stage, now, now + seconds, name=name, cat=name) for stage in stages]
            now += seconds
    return events
