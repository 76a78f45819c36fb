"""The server before the scheduler: prompts come as text, and one thread makes tokens of them.

It takes the prompts that wait, works on one after the other, and hands all of them over together (vLLM's
AsyncMicrobatchTokenizer: the first prompt waits WAIT_S for others, at most MOST of them). Long prompts that were sent
together so reach the scheduler together, and step on together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from simulator.cost.ticks import ticks
from simulator.engine.arrivals import Send, Sleeper
from simulator.engine.clock import ARRIVAL, BOUNDARY, Action, Clock

WAIT_S = 0.002
MOST = 32


class FrontEnd:
    """`servers` threads, each `seconds` a token; a request goes to the one with the fewest prompts."""

    def __init__(self, clock: Clock, servers: int, seconds: float, prompts: Sequence[int], deliver: Send) -> None:
        self._clock, self._prompts, self._deliver = clock, prompts, deliver
        self._seconds, self._wait = seconds, ticks(WAIT_S)
        self._queues: list[deque[int]] = [deque() for _ in range(servers)]
        self._working = [0] * servers  # prompts of the batch in hand; 0: idle

    def take(self, request: int, now: int) -> None:
        """A prompt comes."""
        loads = [len(queue) + working for queue, working in zip(self._queues, self._working, strict=True)]
        server = loads.index(min(loads))
        self._queues[server].append(request)
        if not loads[server]:
            self._gather(server, now)

    def _gather(self, server: int, now: int) -> None:
        """The first of a batch waits for others."""
        begin = now + self._wait
        self._clock.at(begin, lambda _event: self._begin(server, begin), ARRIVAL)

    def _begin(self, server: int, now: int) -> None:
        queue = self._queues[server]
        batch = [queue.popleft() for _ in range(min(len(queue), MOST))]
        self._working[server] = len(batch)
        end = now + ticks(self._seconds * sum(self._prompts[request] for request in batch))
        self._clock.at(end, lambda _event: self._hand_over(server, batch, end), ARRIVAL)

    def _hand_over(self, server: int, batch: list[int], now: int) -> None:
        self._working[server] = 0
        for request in batch:
            replica = self._deliver(request, now)
            if replica is not None:
                self._clock.at(now, self._waking(replica, now), BOUNDARY + replica.number)
        if self._queues[server]:
            self._gather(server, now)

    @staticmethod
    def _waking(replica: Sleeper, now: int) -> Action:
        return lambda _event: replica.wake(now)
