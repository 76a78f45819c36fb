"""A chip in events: one pass of compute at a time, and links that its traffic shares alike (processor sharing).

Of k transfers and a pass on one link each transfer gets 1/(k+1) of it while the pass is on it, and 1/k while it is not.
A pass of many layers computes for C seconds, in which H seconds of its own traffic are hidden, and waits for X seconds
of traffic; beside k transfers it takes

    D(k) = max(C, (1 + k) H) + (1 + k) X,     and is on the link for (1 + k) (X + H) / D(k) of that time

so a pass that has its links for itself takes C + X. One timer a chip, set anew whenever something begins or ends; a
transfer that is alone on a link has a timer of its own until something joins it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from simulator.cost.training.machine import FAR, NEAR
from simulator.cost.training.traffic import Traffic

LINKS = (NEAR, FAR)
INSTANT = 1e-12
"""Seconds that are left of what is done, by rounding."""

Mark = tuple[float, Callable[[], simpy.Event | None]]
"""A share of a pass, and what happens there; the pass waits for the event that it returns."""


@dataclass
class Transfer:
    """Bytes on their way over a link, as seconds at its full rate. Its event has the second of its beginning."""

    link: str
    seconds: float
    done: simpy.Event
    left: float = field(init=False)
    began: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.seconds


@dataclass
class _Pass:
    """`marks`: (share of the pass, what happens there), the last one first; `left`: share that is still to do."""

    compute: float
    traffic: Sequence[Traffic]
    marks: list[Mark]
    done: simpy.Event
    left: float = 1.0
    waits: bool = False
    waited: float = 0.0

    @property
    def stop(self) -> float:
        """What is left where the pass comes to its next mark, or to its end."""
        return 1.0 - self.marks[-1][0] if self.marks else 0.0


class Device:
    """One chip. Transfers run at once (`send`) or one after the other in the order of their call (`queue`)."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._pass: _Pass | None = None
        self._on: dict[str, list[Transfer]] = {name: [] for name in LINKS}
        self._alone: dict[str, Transfer] = {}
        self._queue: deque[Transfer] = deque()
        self._seen = 0.0  # until when everything is accounted for
        self._timer = 0  # generation; earlier timers are ignored
        self._due: list[Transfer | _Pass] = []  # what is done when the timer rings
        self._idle: list[simpy.Event] = []  # who waits for an empty queue

    def run(
        self,
        compute: float,
        traffic: Sequence[Traffic] = (),
        marks: Sequence[Mark] = (),
    ) -> simpy.Event:
        """A pass; one at a time. The event of its end, with the seconds that it has waited at its marks."""
        self._advance()
        done = self._env.event()
        for own in traffic:
            self._join(own.link)
        self._pass = _Pass(compute, traffic, sorted(marks, key=lambda mark: -mark[0]), done)
        self._settle()
        return done

    def send(self, link: str, seconds: float) -> simpy.Event:
        """A transfer that begins now; the event of its end."""
        transfer = Transfer(link, seconds, self._env.event())
        passes = self._pass is not None and any(own.link == link for own in self._pass.traffic)
        if self._on[link] or link in self._alone or passes:
            return self._begin(transfer)
        transfer.began = self._env.now
        self._alone[link] = transfer
        self._env.timeout(seconds, transfer).callbacks.append(self._lone_end)
        return transfer.done

    def _lone_end(self, timer: Any) -> None:
        transfer: Transfer = timer.value
        if self._alone.get(transfer.link) is transfer:
            del self._alone[transfer.link]
            transfer.done.succeed(transfer.began)

    def _join(self, link: str) -> None:
        """Something else comes to a link: what was alone on it has to share."""
        transfer = self._alone.pop(link, None)
        if transfer is not None:
            transfer.left = max(0.0, transfer.began + transfer.seconds - self._env.now)
            self._on[link].append(transfer)

    def queue(self, link: str, seconds: float) -> simpy.Event:
        """A transfer that begins when all that were queued before it are done; the event of its end."""
        transfer = Transfer(link, seconds, self._env.event())
        self._queue.append(transfer)
        if len(self._queue) == 1:
            self._begin(transfer)
        return transfer.done

    @property
    def busy(self) -> bool:
        """Whether anything is queued."""
        return bool(self._queue)

    def drained(self) -> simpy.Event:
        """The event of its queue being empty again."""
        event = self._env.event()
        self._idle.append(event)
        return event

    def _begin(self, transfer: Transfer) -> simpy.Event:
        self._advance()
        self._put(transfer)
        self._settle()
        return transfer.done

    def _put(self, transfer: Transfer) -> None:
        self._join(transfer.link)
        transfer.began = self._env.now
        self._on[transfer.link].append(transfer)

    def _seconds(self) -> float:
        """Seconds of the whole pass at the present number of transfers."""
        assert self._pass is not None
        compute, waited = self._pass.compute, 0.0
        longest = compute
        for own in self._pass.traffic:
            users = 1 + len(self._on[own.link])
            longest = max(longest, users * min(own.beside, compute))
            waited += users * own.waited
        return longest + waited

    def _rate(self, link: str) -> float:
        """Share of the link that each transfer on it gets."""
        count, taken = len(self._on[link]), 0.0
        if self._pass is not None and not self._pass.waits:
            own = sum(
                each.waited + min(each.beside, self._pass.compute) for each in self._pass.traffic if each.link == link
            )
            taken = (1 + count) * own / self._seconds() if own else 0.0
        return (1.0 - taken) / count + taken / (1 + count)

    def _advance(self) -> None:
        """Account for the time since it was last done."""
        passed = self._env.now - self._seen
        self._seen = self._env.now
        if not passed:
            return
        rates = {link: self._rate(link) for link in LINKS if self._on[link]}
        if self._pass is not None and self._pass.waits:
            self._pass.waited += passed
        elif self._pass is not None:
            self._pass.left = max(self._pass.stop, self._pass.left - passed / self._seconds())
        for link, rate in rates.items():
            for transfer in self._on[link]:
                transfer.left -= passed * rate

    def _settle(self) -> None:
        """Set the timer for what happens next."""
        after: list[tuple[float, Transfer | _Pass]] = []
        running = self._pass
        if running is not None and not running.waits:
            after.append(((running.left - running.stop) * self._seconds(), running))
        for link in LINKS:
            if self._on[link]:
                rate = self._rate(link)
                after += [(transfer.left / rate, transfer) for transfer in self._on[link]]
        self._timer += 1
        if after:
            soonest = max(0.0, min(seconds for seconds, _ in after))
            self._due = [each for seconds, each in after if seconds <= soonest + INSTANT]
            self._env.timeout(soonest, self._timer).callbacks.append(self._fire)

    def _fire(self, timer: Any) -> None:
        if timer.value != self._timer:
            return
        self._advance()
        for each in self._due:
            if isinstance(each, Transfer):
                self._on[each.link].remove(each)
                each.done.succeed(each.began)
                self._follow(each)
            else:
                each.left = each.stop
        self._reach()
        self._settle()

    def _follow(self, transfer: Transfer) -> None:
        """The next of the queue, when its first one is done."""
        if self._queue and self._queue[0] is transfer:
            self._queue.popleft()
            if self._queue:
                self._put(self._queue[0])
            else:
                for event in self._idle:
                    event.succeed()
                self._idle.clear()

    def _reach(self) -> None:
        """What happens where the pass is; at its end it is over."""
        running = self._pass
        while running is not None and not running.waits and running.left <= running.stop:
            if not running.marks:
                self._pass = None
                running.done.succeed(running.waited)
                return
            awaited = running.marks.pop()[1]()
            if awaited is not None and not awaited.processed:
                running.waits = True
                awaited.callbacks.append(self._go_on)

    def _go_on(self, _: simpy.Event) -> None:
        """What the pass has waited for is there."""
        self._advance()
        if self._pass is not None:
            self._pass.waits = False
        self._reach()
        self._settle()
