"""Prefill and decode in pools of their own, fed by a workload: one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import BOUNDARY, Clock
from simulator.engine.cluster import REPORT_EVERY, collector_at_rest, lengths_of, loop_of
from simulator.engine.collect import collect
from simulator.engine.exact_pools import ExactDecodeReplica, ExactPrefillReplica
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import Link, LinkLimits
from simulator.engine.pools import DecodeReplica, PrefillReplica
from simulator.engine.records import RunRecords
from simulator.engine.request_log import MovedLog, RequestLog
from simulator.engine.router import ROUTERS
from simulator.engine.sequence import Sequence as Request
from simulator.engine.sharing import Sharing
from simulator.engine.step_time import StepTime
from simulator.engine.traffic import Workload


@dataclass(frozen=True)
class Pool:
    """Equal replicas; `shared` and `beside` as `cluster.simulate` takes them."""

    step: StepTime
    batch: BatchLimits
    kv: KvLimits
    replicas: int = 1
    shared: Sequence[Sequence[StepTime]] = ()
    beside: int = 1

    def sharing(self) -> list[Sharing]:
        """What each of its replicas shares with its neighbours."""
        size = len(self.shared) + 1
        groups = [Sharing(((self.step,), *self.shared), self.beside) for _ in range(-(-self.replicas // size))]
        return [groups[number // size] for number in range(self.replicas)]


def simulate_pools(
    workload: Workload,
    prefill: Pool,
    decode: Pool,
    link: LinkLimits,
    *,
    router: str = "least_outstanding",
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunRecords:
    """Run the workload to its last token and return the records: `cluster.simulate` with two pools and a link.

    The first token is with its user once the cache is where the others are made: servers of both pools answer through
    the one that decodes (vLLM, SGLang, TensorRT-LLM). The prefill replicas come first in the records.
    """
    run = _Run(workload, prefill, decode, link, router, exact, progress)
    with collector_at_rest():
        run.clock.drain()
    if progress is not None:
        progress(run.log.finished)
    fleet = [*run.prefill, *run.decode]
    return collect(
        run.log,
        [replica.journal for replica in fleet],
        [prefill.kv] * prefill.replicas + [decode.kv] * decode.replicas,
        (np.asarray(run.prompts), np.asarray(run.outputs)),
        decode.step.windows,
        run.clock.events,
        run.moved,
    )


class _Run:
    """The way of a request: prefill replica, decode replica (a seat and blocks), link, decode replica (its steps)."""

    def __init__(
        self,
        workload: Workload,
        prefill: Pool,
        decode: Pool,
        limits: LinkLimits,
        router: str,
        exact: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.prompts, self.outputs = lengths_of(workload)
        self.log, self.moved = RequestLog(len(workload)), MovedLog(len(workload), prefill.replicas)
        self.clock = Clock()
        self._limits, self._link, self._progress = limits, Link(self.clock, limits), progress
        self._choose, self._choose_decode = ROUTERS[router](), ROUTERS[router]()
        self._held: dict[int, Request] = {}  # by request: what its prefill replica keeps for it
        first, second = (ExactPrefillReplica, ExactDecodeReplica) if exact else (PrefillReplica, DecodeReplica)
        self.prefill: list[PrefillReplica | ExactPrefillReplica] = []
        self.decode: list[DecodeReplica | ExactDecodeReplica] = []
        for number, sharing in enumerate(prefill.sharing()):
            self.prefill.append(
                first(number, self.clock, sharing, prefill.batch, prefill.kv, self.log, self._prefilled)
            )
            sharing.join(self.prefill[-1])
        for number, sharing in enumerate(decode.sharing(), prefill.replicas):
            common = number, self.clock, sharing, decode.batch, decode.kv, self.log, self._finished
            self.decode.append(second(*common, on_admit=self._admitted))
            sharing.join(self.decode[-1])
        self._loop = loop_of(workload, self.clock, self._send)

    def _send(self, request: int, now: int) -> PrefillReplica | ExactPrefillReplica | None:
        self.log.arrival_s[request] = now * SECONDS_PER_TICK
        replica = self.prefill[self._choose(self.prefill)]
        self.moved.replica[request] = replica.number
        prompt = Request(request, self.prompts[request], 1)
        prompt.onward = self.outputs[request] > 1
        return replica if replica.arrive(prompt, now) else None

    def _prefilled(self, prompt: Request, now: int) -> None:
        """A prompt is done, at the end of its replica's step: all replicas that decode end theirs of `now` later."""
        self.moved.prefilled_s[prompt.id] = now * SECONDS_PER_TICK
        if not prompt.onward:
            self._finished(prompt, now)
            return
        self._held[prompt.id] = prompt
        replica = self.decode[self._choose_decode(self.decode)]
        if replica.arrive(Request(prompt.id, prompt.prompt, self.outputs[prompt.id]), now):
            self._wake(replica, now)

    def _admitted(self, sequence: Request, now: int) -> None:
        self.moved.sent_s[sequence.id] = now * SECONDS_PER_TICK
        sender, receiver = self.moved.replica[sequence.id], self.log.replica[sequence.id]
        size = self._limits.size(sequence.prompt)
        self._link.transfer(size, sender, receiver, now, lambda there: self._arrived(sequence, there))

    def _arrived(self, sequence: Request, now: int) -> None:
        self.moved.arrived_s[sequence.id] = self.log.first_token_s[sequence.id] = now * SECONDS_PER_TICK
        sequence.last_token = now
        sender = self.prefill[self.moved.replica[sequence.id]]
        if sender.release(self._held.pop(sequence.id), now):
            self._wake(sender, now)
        receiver = self.decode[self.log.replica[sequence.id] - len(self.prefill)]
        if receiver.loaded(sequence, now):
            self._wake(receiver, now)

    def _wake(
        self, replica: PrefillReplica | DecodeReplica | ExactPrefillReplica | ExactDecodeReplica, now: int
    ) -> None:
        """At the end of the instant, when all that comes at it has come."""
        self.clock.at(now, lambda _event: replica.wake(now), BOUNDARY + replica.number)

    def _finished(self, request: Request, now: int) -> None:
        self.log.finish(request.id, now)
        if self._progress is not None and self.log.finished % REPORT_EVERY == 0:
            self._progress(self.log.finished)
        self._loop.answered(now)
