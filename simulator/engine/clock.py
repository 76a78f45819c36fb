"""The clock: a SimPy environment in whole ticks (cost/ticks.py)."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import simpy
from simpy.events import NORMAL, URGENT, Event

ARRIVAL = URGENT
"""Arrivals at an instant come before the step boundary at the same instant, and so can join its next step."""

BOUNDARY = NORMAL
"""Boundaries at the same instant come in the order of their replicas: add the replica's number."""

Action = Callable[[Event], None]


class _Instant(Event):
    """Born triggered, as simpy.Timeout is; the constructor of that would only take a delay from now."""

    _ok = True
    _value = None

    def __init__(self, env: simpy.Environment, action: Action) -> None:
        self.env = env
        self.callbacks = [action]


class Clock(simpy.Environment):
    """`simpy.Environment` with `at`, which takes an absolute time and can be cancelled."""

    def __init__(self) -> None:
        super().__init__(0)
        self.events = 0

    def at(self, time: int, action: Action, priority: int = BOUNDARY) -> Event:
        """Call `action(event)` at `time` (ticks, not before now). Cancel with `Clock.cancel`."""
        event = _Instant(self, action)
        self.events += 1
        heappush(self._queue, (time, priority, next(self._eid), event))  # type: ignore[misc]
        return event

    def cancel(self, event: Event) -> None:
        """Take the action off a pending event; it passes without effect and does not count."""
        if event.callbacks:
            event.callbacks.clear()
            self.events -= 1

    def drain(self) -> None:
        """Run until nothing is pending: `simpy.Environment.run` for events that cannot fail and that nobody awaits."""
        queue = self._queue
        while queue:
            self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for action in callbacks:
                action(event)
