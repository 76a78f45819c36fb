"""Replicas that share a memory, a host or a link: each is slower while others work too (processor sharing)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simulator.engine.step_time import StepTime

_NEVER = -1
_WORKING = 1 << 62


class Member(Protocol):
    """A replica that shares."""

    number: int

    def reconsider(self, now: int) -> None:
        """How many work has changed at `now`: steps that begin later take another time."""
        ...


class Sharing:
    """The step times of replicas. steps[n - 1][k - 1] holds while n of those that share are at work, k of them beside
    each other on one link (each `beside` in the order of their numbers); one alone: no sharing.

    What is shared is shared out alike, and a step keeps the share that it began with: the one of all that were at work
    just before. So the order of what happens at one instant changes nothing.
    """

    def __init__(self, steps: Sequence[Sequence[StepTime]], beside: int = 1) -> None:
        self._steps, self._beside = steps, beside
        self.alone = len(steps) == 1
        self.windows = steps[0][0].windows
        self.changed_at = _NEVER  # steps that begin then keep the share of before for one step
        self._members: list[Member] = []
        self._link: dict[int, int] = {}  # member -> which of the links
        self._work: dict[int, tuple[int, int]] = {}  # member -> (from, until) of its last spell of work

    def join(self, member: Member) -> None:
        """One more replica that shares."""
        self._link[member.number] = len(self._members) // self._beside
        self._members.append(member)
        self._work[member.number] = (_NEVER, _NEVER)

    def at(self, member: Member, now: int) -> StepTime:
        """The step times for a step of `member` that begins at `now`."""
        if self.alone:
            return self._steps[0][0]
        link, busy, near = self._link[member.number], 0, 0
        for number, (start, end) in self._work.items():
            if start < now <= end and number != member.number:
                busy += 1
                near += self._link[number] == link
        return self._steps[busy][near]

    def work(self, member: Member, now: int) -> None:
        """A member begins to work; at the instant at which it stopped, it goes on."""
        start, end = self._work[member.number]
        self._work[member.number] = (start if end == now else now, _WORKING)
        self._tell(member, now)

    def rest(self, member: Member, now: int) -> None:
        """A member has nothing to do."""
        self._work[member.number] = (self._work[member.number][0], now)
        self._tell(member, now)

    def _tell(self, changed: Member, now: int) -> None:
        self.changed_at = _NEVER if self.alone else now
        for other in self._members:
            if other is not changed and self._work[other.number][1] == _WORKING:
                other.reconsider(now)
