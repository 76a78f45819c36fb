"""Replicas behind a router, fed by a workload: one run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from simpy.events import Event

from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, BOUNDARY, SECONDS_PER_TICK, Clock, ticks
from simulator.engine.exact import ExactReplica
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords, collect
from simulator.engine.replica import Replica
from simulator.engine.request_log import RequestLog
from simulator.engine.router import ROUTERS
from simulator.engine.sequence import Sequence
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
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunRecords:
    """Run the workload to its last token and return the records.

    Every request must fit the KV cache alone (`kv.longest`); the caller checks that. `exact` takes the stepping oracle
    in place of fast-forward. `progress(finished)` is called now and then.
    """
    # Views that give Python numbers, one at a time: a million requests are not kept twice.
    prompts, outputs = (
        memoryview(np.ascontiguousarray(tokens, dtype=np.int64))
        for tokens in (workload.input_tokens, workload.output_tokens)
    )
    requests = len(prompts)
    log = RequestLog(requests)
    clock = Clock()
    choose = ROUTERS[router]()

    def send(request: int, now: int) -> Replica | ExactReplica | None:
        """The replica that was idle and must be woken, if so."""
        log.arrival_s[request] = now * SECONDS_PER_TICK
        replica = fleet[choose(fleet)]
        return replica if replica.arrive(Sequence(request, prompts[request], outputs[request]), now) else None

    def open_loop() -> None:
        arrival_s = memoryview(np.ascontiguousarray(workload.arrival_s, dtype=np.float64))
        following, due = 0, ticks(arrival_s[0])

        def arrive(_event: Event) -> None:
            nonlocal following, due
            now = due
            idle = []
            while due == now:
                replica = send(following, now)
                if replica is not None:
                    idle.append(replica)
                following += 1
                due = ticks(arrival_s[following]) if following < requests else -1
            # Whatever else happens at this instant sends nothing here: no need to wait for it.
            for replica in idle:
                replica.wake(now)
            if due >= 0:
                clock.at(due, arrive, ARRIVAL)

        clock.at(due, arrive, ARRIVAL)

    def send_in_loop(request: int, now: int) -> None:
        replica = send(request, now)
        if replica is not None:  # others may finish at this instant, and send there too
            clock.at(now, lambda _event: replica.wake(now), BOUNDARY + replica.number)

    def closed_loop(users: int) -> None:
        nonlocal started
        started = min(users, requests)
        clock.at(0, lambda _event: [send_in_loop(request, 0) for request in range(started)], ARRIVAL)

    def finished(_request: int, now: int) -> None:
        nonlocal started
        if progress is not None and log.finished % REPORT_EVERY == 0:
            progress(log.finished)
        if workload.concurrency is not None and started < requests:
            request = started
            started += 1
            if workload.think_s:
                at = now + ticks(workload.think_s)
                clock.at(at, lambda _event: send_in_loop(request, at), ARRIVAL)
            else:
                send_in_loop(request, now)

    started = 0
    kind = ExactReplica if exact else Replica
    fleet: list[Replica | ExactReplica] = [
        kind(number, clock, step, batch, kv, log, finished) for number in range(replicas)
    ]
    if workload.concurrency is None:
        open_loop()
    else:
        closed_loop(workload.concurrency)
    with _collector_at_rest():
        clock.drain()
    if progress is not None:
        progress(log.finished)
    return collect(
        log,
        [replica.journal for replica in fleet],
        (np.asarray(prompts), np.asarray(outputs)),
        kv,
        step.windows,
        clock.events,
    )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection: a run leaves no cycles behind, and looking for them takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
