"""Replicas behind a router, fed by a workload: one run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from simpy.events import Event

from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, SECONDS_PER_TICK, Clock, ticks
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
    prompts, outputs = workload.input_tokens.tolist(), workload.output_tokens.tolist()
    log = RequestLog(len(prompts))
    clock = Clock()
    choose = ROUTERS[router]()

    def send(request: int, now: int) -> None:
        log.arrival_s[request] = now * SECONDS_PER_TICK
        fleet[choose(fleet)].arrive(Sequence(request, prompts[request], outputs[request]), now)

    def open_loop() -> None:
        arrivals = [ticks(second) for second in workload.arrival_s.tolist()]

        def arrive(_event: Event | None) -> None:
            nonlocal following
            request = following
            following += 1
            if following < len(arrivals):
                clock.at(arrivals[following], arrive, ARRIVAL)
            send(request, arrivals[request])

        following = 0
        clock.at(arrivals[0], arrive, ARRIVAL)

    def closed_loop(users: int) -> None:
        nonlocal started
        for request in range(min(users, len(prompts))):
            clock.at(0, lambda _event, request=request: send(request, 0), ARRIVAL)
            started += 1

    def finished(_request: int, now: int) -> None:
        nonlocal started
        if progress is not None and log.finished % REPORT_EVERY == 0:
            progress(log.finished)
        if workload.concurrency is not None and started < len(prompts):
            request = started
            started += 1
            if workload.think_s:
                at = now + ticks(workload.think_s)
                clock.at(at, lambda _event: send(request, at), ARRIVAL)
            else:
                send(request, now)

    started = 0
    kind = ExactReplica if exact else Replica
    fleet: list[Replica | ExactReplica] = [
        kind(number, clock, step, batch, kv, log, finished) for number in range(replicas)
    ]
    if workload.concurrency is None:
        open_loop()
    else:
        closed_loop(workload.concurrency)
    clock.run()
    if progress is not None:
        progress(log.finished)
    return collect(
        log,
        [replica.journal for replica in fleet],
        (np.asarray(workload.input_tokens), np.asarray(workload.output_tokens)),
        kv,
        step.windows,
        clock.events,
    )
