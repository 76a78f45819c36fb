"""Replicas behind a router, fed by a workload: one run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.arrivals import ClosedLoop, OpenLoop, Send
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import Clock
from simulator.engine.collect import collect
from simulator.engine.exact import ExactReplica
from simulator.engine.front_end import FrontEnd
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.replica import Replica
from simulator.engine.request_log import RequestLog
from simulator.engine.router import ROUTERS
from simulator.engine.sequence import Sequence as Request
from simulator.engine.sharing import Sharing
from simulator.engine.step_time import StepTime
from simulator.engine.traffic import Workload

REPORT_EVERY = 512
"""Requests between two calls of `progress`."""


def simulate(
    workload: Workload,
    step: StepTime,
    batch: BatchLimits,
    kv: KvLimits,
    *,
    replicas: int = 1,
    router: str = "least_outstanding",
    shared: Sequence[Sequence[StepTime]] = (),
    beside: int = 1,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunRecords:
    """Run the workload to its last token and return the records.

    Every request must fit the KV cache alone (`kv.longest`); the caller checks that. `exact` takes the stepping oracle
    in place of fast-forward. `shared`: the step times while 2, 3, ... replicas are at work on what each len(shared) + 1
    of them share, in the order of their numbers, and 1, 2, ... of them on one link, of each `beside` replicas.
    `progress(finished)` is called now and then.
    """
    prompts, outputs = lengths_of(workload)
    log = RequestLog(len(prompts))
    clock = Clock()
    choose = ROUTERS[router]()

    def send(request: int, now: int) -> Replica | ExactReplica | None:
        log.arrival_s[request] = now * SECONDS_PER_TICK
        if front is None:
            return deliver(request, now)
        front.take(request, now)
        return None

    def deliver(request: int, now: int) -> Replica | ExactReplica | None:
        replica = fleet[choose(fleet)]
        sequence = Request(request, prompts[request], outputs[request], cached[request] if cached else 0)
        return replica if replica.arrive(sequence, now) else None

    def finished(request: Request, now: int) -> None:
        log.finish(request.id, now)
        if progress is not None and log.finished % REPORT_EVERY == 0:
            progress(log.finished)
        loop.answered(now)

    front = FrontEnd(clock, replicas, batch.tokenization, prompts, deliver) if batch.tokenization else None
    cached = None if workload.cached_tokens is None else workload.cached_tokens.tolist()
    loop = loop_of(workload, clock, send)
    kind = ExactReplica if exact else Replica
    fleet: list[Replica | ExactReplica] = []
    for number in range(replicas):
        if number % (len(shared) + 1) == 0:
            sharing = Sharing(((step,), *shared), beside)
        fleet.append(kind(number, clock, sharing, batch, kv, log, finished))
        sharing.join(fleet[-1])
    with collector_at_rest():
        clock.drain()
    if progress is not None:
        progress(log.finished)
    return collect(
        log,
        [replica.journal for replica in fleet],
        [kv] * replicas,
        (np.asarray(prompts), np.asarray(outputs)),
        step.windows,
        clock.events,
    )


def lengths_of(workload: Workload) -> tuple[memoryview, memoryview]:
    """Prompt and output tokens as columns that give Python numbers."""
    prompts, outputs = (
        np.ascontiguousarray(tokens, dtype=np.int64).data for tokens in (workload.input_tokens, workload.output_tokens)
    )
    return prompts, outputs


def loop_of(workload: Workload, clock: Clock, send: Send) -> OpenLoop | ClosedLoop:
    """Who sends the requests."""
    if workload.concurrency is None:
        return OpenLoop(clock, workload.arrival_s, send)
    return ClosedLoop(clock, len(workload), workload.concurrency, workload.think_s, send)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No garbage collection: a run leaves no cycles behind, and looking for them takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
