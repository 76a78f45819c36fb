"""Prefill and decode in pools of their own, fed by a workload: one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, BOUNDARY, Clock
from simulator.engine.cluster import REPORT_EVERY, collector_at_rest, lengths_of, loop_of
from simulator.engine.collect import collect
from simulator.engine.exact_pools import ExactDecodeReplica, ExactPrefillReplica
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import Arrived, Link, LinkLimits
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
    """The way of a request: prefill replica, decode replica (a seat and blocks), link, decode replica (its steps).
    Where layers move while a prompt is computed: decode replica (a seat and blocks), prefill replica and link, steps.
    """

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
        self.cached = None if workload.cached_tokens is None else workload.cached_tokens.tolist()
        self.log, self.moved = RequestLog(len(workload)), MovedLog(len(workload), prefill.replicas)
        self.clock = Clock()
        self._limits, self._link, self._progress = limits, Link(self.clock, limits), progress
        self._choose, self._choose_decode = ROUTERS[router](), ROUTERS[router]()
        self._moves: dict[int, _Move] = {}  # by request
        first, second = (ExactPrefillReplica, ExactDecodeReplica) if exact else (PrefillReplica, DecodeReplica)
        self.prefill: list[Prefill] = []
        self.decode: list[Decode] = []
        for number, sharing in enumerate(prefill.sharing()):
            common = number, self.clock, sharing, prefill.batch, prefill.kv, self.log
            self.prefill.append(first(*common, self._prefilled, on_admit=self._begun))
            sharing.join(self.prefill[-1])
        # What a decode replica recomputes shares its steps, and waits for nobody.
        recomputing = replace(decode.batch, chunked_prefill=True, admission_least=1)
        for number, sharing in enumerate(decode.sharing(), prefill.replicas):
            common = number, self.clock, sharing, recomputing, decode.kv, self.log
            self.decode.append(second(*common, self._finished, on_admit=self._admitted))
            sharing.join(self.decode[-1])
        self._loop = loop_of(workload, self.clock, self._send)

    def _send(self, request: int, now: int) -> Prefill | Decode | None:
        self.log.arrival_s[request] = now * SECONDS_PER_TICK
        prompt = Request(request, self.prompts[request], 1, self.cached[request] if self.cached else 0)
        prompt.onward = self.outputs[request] > 1
        if self._limits.layers and prompt.onward:
            return self._reserve(prompt, now)
        return self._compute(prompt, now)

    def _compute(self, prompt: Request, now: int) -> Prefill | None:
        """Send a prompt to a prefill replica, which is to be woken if it is returned."""
        replica = self.prefill[self._choose(self.prefill)]
        idle = replica.arrive(prompt, now)
        self.moved.replica[prompt.id] = replica.number
        if prompt.id in self._moves:
            self.log.replica[prompt.id] = self._moves[prompt.id].receiver.number
        return replica if idle else None

    def _reserve(self, prompt: Request, now: int) -> Decode | None:
        """Ask a decode replica for a seat and blocks; it is to be woken if it is returned."""
        replica = self.decode[self._choose_decode(self.decode)]
        self._moves[prompt.id] = _Move(prompt, replica)
        idle = replica.arrive(Request(prompt.id, prompt.prompt, self.outputs[prompt.id]), now)
        return replica if idle else None

    def _prefilled(self, prompt: Request, now: int) -> None:
        """A prompt is done, at the end of its replica's step: all replicas that decode end theirs of `now` later."""
        self.moved.prefilled_s[prompt.id] = now * SECONDS_PER_TICK
        if not prompt.onward:
            self._finished(prompt, now)
        elif self._limits.layers:
            self._rest(prompt, now)
        else:
            self._wake(self._reserve(prompt, now), now)

    def _admitted(self, sequence: Request, now: int) -> None:
        """The decode replica has room."""
        move = self._moves[sequence.id]
        move.sequence = sequence
        if self._limits.layers:  # a tick later: the prefill replicas' steps that end now have ended
            self.clock.at(now + 1, lambda _event: self._wake(self._compute(move.prompt, now + 1), now + 1), ARRIVAL)
        else:
            self._transfer(move, self._limits.size(sequence.prompt), now, lambda there: self._arrived(move, there))

    def _begun(self, prompt: Request, now: int) -> None:
        """A prompt begins: where they move meanwhile, the layers of its cache but the last."""
        if self._limits.layers and prompt.onward:
            size = self._limits.size(prompt.prompt) - self._limits.after(prompt.prompt)
            self._transfer(self._moves[prompt.id], size, now, lambda there: self._rest(prompt, there))

    def _rest(self, prompt: Request, now: int) -> None:
        """The prompt is done, or all layers but the last are there: after both, the last one moves."""
        move = self._moves[prompt.id]
        move.ready += 1
        if move.ready == 2:
            size = self._limits.after(prompt.prompt)
            self._link_of(move, size, now, lambda there: self._arrived(move, there))

    def _transfer(self, move: _Move, size: float, now: int, arrived: Arrived) -> None:
        self.moved.sent_s[move.prompt.id] = now * SECONDS_PER_TICK
        self._link_of(move, size, now, arrived)

    def _link_of(self, move: _Move, size: float, now: int, arrived: Arrived) -> None:
        self._link.transfer(size, self.moved.replica[move.prompt.id], move.receiver.number, now, arrived)

    def _arrived(self, move: _Move, now: int) -> None:
        """All of the cache is there."""
        request = move.prompt.id
        assert move.sequence is not None
        self.moved.arrived_s[request] = self.log.first_token_s[request] = now * SECONDS_PER_TICK
        move.sequence.last_token = now
        del self._moves[request]
        sender = self.prefill[self.moved.replica[request]]
        if sender.release(move.prompt, now):
            self._wake(sender, now)
        if move.receiver.loaded(move.sequence, now):
            self._wake(move.receiver, now)

    def _wake(self, replica: Prefill | Decode | None, now: int) -> None:
        """At the end of the instant, when all that comes at it has come."""
        if replica is not None:
            self.clock.at(now, lambda _event: replica.wake(now), BOUNDARY + replica.number)

    def _finished(self, request: Request, now: int) -> None:
        self.log.finish(request.id, now)
        if self._progress is not None and self.log.finished % REPORT_EVERY == 0:
            self._progress(self.log.finished)
        self._loop.answered(now)


Prefill = PrefillReplica | ExactPrefillReplica
Decode = DecodeReplica | ExactDecodeReplica


@dataclass(eq=False)
class _Move:
    """A cache on its way: `ready` counts what the last layer waits for (its prompt, the layers before it)."""

    prompt: Request
    receiver: Decode
    sequence: Request | None = None  # at the receiver
    ready: int = 0
