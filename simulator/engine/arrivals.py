"""Who sends requests when: an open loop by the clock, a closed loop by the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from simpy.events import Event

from simulator.cost.ticks import ticks
from simulator.engine.clock import ARRIVAL, BOUNDARY, Clock


class Sleeper(Protocol):
    """A replica that was idle when a request came."""

    number: int

    def wake(self, now: int) -> None:
        """Decide the first step."""


Send = Callable[[int, int], Sleeper | None]
"""(request, now) -> the replica that took it, if it was idle and must be woken."""


class OpenLoop:
    """Requests that come when they come. All of an instant take one event."""

    def __init__(self, clock: Clock, arrival_s: np.ndarray, send: Send) -> None:
        self._clock, self._send = clock, send
        # A view that gives Python numbers one at a time: a million requests are not kept twice.
        self._arrival_s = np.ascontiguousarray(arrival_s, dtype=np.float64).data
        self._following = 0
        self._due = ticks(self._arrival_s[0])
        clock.at(self._due, self._arrive, ARRIVAL)

    def _arrive(self, _event: Event) -> None:
        now = due = self._due
        request, arrival_s = self._following, self._arrival_s
        idle = []
        while due == now:
            replica = self._send(request, now)
            if replica is not None:
                idle.append(replica)
            request += 1
            due = ticks(arrival_s[request]) if request < len(arrival_s) else -1
        # Nothing else that happens at this instant sends anything: no need to wait for it.
        for replica in idle:
            replica.wake(now)
        self._following, self._due = request, due
        if due >= 0:
            self._clock.at(due, self._arrive, ARRIVAL)

    def answered(self, now: int) -> None:
        """An answer brings no request."""


class ClosedLoop:
    """Users with one request in flight each; the next follows `think_s` after the answer."""

    def __init__(self, clock: Clock, requests: int, users: int, think_s: float, send: Send) -> None:
        self._clock, self._send = clock, send
        self._think = ticks(think_s)
        self._users = min(users, requests)
        self._left = requests - self._users  # requests that no user has taken yet
        self._following = 0
        clock.at(0, self._start, ARRIVAL)

    def _start(self, _event: Event) -> None:
        for _ in range(self._users):
            self._next(0)

    def _next(self, now: int) -> None:
        request = self._following
        self._following += 1
        replica = self._send(request, now)
        if replica is not None:  # others may answer at this instant, and their users send there too
            self._clock.at(now, lambda _event: replica.wake(now), BOUNDARY + replica.number)

    def answered(self, now: int) -> None:
        """The user of this answer sends the next request after some thought, of a tick at least: what another replica
        does at the instant of the answer has nothing to do with it, in whatever order."""
        if not self._left:
            return
        self._left -= 1
        at = now + max(1, self._think)
        self._clock.at(at, lambda _event: self._next(at), ARRIVAL)
