"""What moves KV caches from one machine to another: both ends share their rate out alike among their transfers.

A transfer from sender s to receiver r goes at min(send / n_s, receive / n_r), with n the transfers at each end just
then, and arrives `latency` after its last byte has left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from simpy.events import Event

from simulator.cost.ticks import SECONDS_PER_TICK, ticks
from simulator.engine.clock import ARRIVAL, Clock

Arrived = Callable[[int], None]
"""(now) -> the last byte is there."""


@dataclass(frozen=True)
class LinkLimits:
    """send, receive: B/s of one replica at either end; latency: s; what a cache holds: bytes a token, and besides.

    layers: of a cache that moves while its prompt is computed, all but the last of so many; 0: it moves after that.
    """

    send: float
    receive: float
    latency: float
    token_bytes: float
    fixed_bytes: float = 0.0
    layers: int = 0

    def size(self, tokens: int) -> float:
        """Bytes of the cache of so many tokens."""
        return self.fixed_bytes + self.token_bytes * tokens

    def after(self, tokens: int) -> float:
        """Bytes that are left to move when the prompt is done."""
        return self.size(tokens) / self.layers if self.layers else self.size(tokens)

    def seconds(self, tokens: int) -> float:
        """Of what moves after the prompt, where it shares neither end."""
        return self.latency + self.after(tokens) / min(self.send, self.receive)


class Link:
    """Transfers in flight. Nothing happens at the instant of its cause: a transfer takes a tick at least."""

    def __init__(self, clock: Clock, limits: LinkLimits) -> None:
        self._clock, self._latency = clock, ticks(limits.latency)
        self._send, self._receive = limits.send * SECONDS_PER_TICK, limits.receive * SECONDS_PER_TICK
        self._out: dict[int, list[_Transfer]] = {}
        self._in: dict[int, list[_Transfer]] = {}

    def transfer(self, size: float, sender: int, receiver: int, now: int, arrived: Arrived) -> None:
        """Begin to move `size` bytes at `now`."""
        begun = _Transfer(sender, receiver, size, now, arrived)
        self._out.setdefault(sender, []).append(begun)
        self._in.setdefault(receiver, []).append(begun)
        self._share(sender, receiver, now)

    def _left(self, done: _Transfer, now: int) -> None:
        done.armed = None
        self._out[done.sender].remove(done)
        self._in[done.receiver].remove(done)
        self._share(done.sender, done.receiver, now)
        if self._latency:
            at = now + self._latency
            self._clock.at(at, lambda _event: done.arrived(at), ARRIVAL)
        else:
            done.arrived(now)

    def _share(self, sender: int, receiver: int, now: int) -> None:
        """How many share these two ends has changed at `now`."""
        touched = [*self._out[sender], *(each for each in self._in[receiver] if each.sender != sender)]
        for each in touched:
            rate = min(self._send / len(self._out[each.sender]), self._receive / len(self._in[each.receiver]))
            if each.armed is None or rate != each.rate:
                self._arm(each, rate, now)

    def _arm(self, transfer: _Transfer, rate: float, now: int) -> None:
        if transfer.armed is not None:
            self._clock.cancel(transfer.armed)
        transfer.bytes = max(0.0, transfer.bytes - transfer.rate * (now - transfer.since))
        transfer.rate, transfer.since = rate, now
        at = now + max(1, ceil(transfer.bytes / rate))
        transfer.armed = self._clock.at(at, lambda _event: self._left(transfer, at), ARRIVAL)


@dataclass(eq=False)
class _Transfer:
    """`bytes` were left at `since`, and go at `rate` bytes a tick."""

    sender: int
    receiver: int
    bytes: float
    since: int
    arrived: Arrived
    rate: float = 0.0
    armed: Event | None = None
