"""One training step for Perfetto (ui.perfetto.dev): a thread for each stage; what is empty is bubble."""

from __future__ import annotations

import gzip
import json
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
        slices = sorted(run.record.slices, key=lambda each: (each.start_s, each.stage))
        left_out += max(0, len(slices) - room)
        events += _heads(process, run)
        for each in slices[:room]:
            micro, chunk = each.task.micro, each.task.chunk
            events.append(
                {
                    "ph": "X",
                    "pid": process,
                    "tid": 1 + each.stage,
                    "ts": round(each.start_s * 1e6, 3),
                    "dur": round((each.end_s - each.start_s) * 1e6, 3),
                    "name": f"{each.task.kind}{micro}" + (f".{chunk}" if chunk else ""),
                    "cat": NAMES[each.task.kind],
                    "cname": COLOURS[each.task.kind],
                    "args": {"pass": NAMES[each.task.kind], "micro_batch": micro, "chunk": chunk},
                }
            )
        events += _tail(process, run)
    about = {"scenario": report.scenario, "seed": report.seed, "cut": left_out > 0, "events_left_out": left_out}
    return {"displayTimeUnit": "ms", "otherData": plain(about), "traceEvents": events}


def compressed(report: TrainingReport) -> bytes:
    """timeline.json.gz: the same report gives the same bytes."""
    text = json.dumps(trace(report), separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def _heads(process: int, run: TrainingRun) -> list[Event]:
    def head(kind: str, thread: int, **args: Any) -> Event:
        return {"ph": "M", "pid": process, "tid": thread, "name": kind, "args": args}

    s = run.summary
    name = f"{s['machine']} x {s['chips']}, {s['model']}, {s['layout']}"
    stages = range(len(run.record.busy_s))
    return [
        head("process_name", 0, name=name),
        head("process_sort_index", 0, sort_index=process),
        *(head("thread_name", 1 + stage, name=f"stage {stage}") for stage in stages),
    ]


def _tail(process: int, run: TrainingRun) -> list[Event]:
    """What follows the pipeline on every stage: waiting for stragglers, gradients, the optimiser."""
    step, now = run.step, run.record.seconds
    events: list[Event] = []
    stretches = (
        ("stragglers", step.pipeline + step.jitter - run.record.seconds),
        ("gradients", step.gradients),
        ("gradients between slices", step.slices),
        ("optimizer", step.optimizer),
    )
    for name, seconds in stretches:
        if seconds > 0:
            place = {"ph": "X", "pid": process, "ts": round(now * 1e6, 3), "dur": round(seconds * 1e6, 3), "name": name}
            events += [{**place, "tid": 1 + stage, "cat": name} for stage in range(len(run.record.busy_s))]
            now += seconds
    return events
