"""Replicas of two pools: those of one compute prompts, those of the other decode, and caches move between them.

A prefill replica takes a prompt when all of it fits, and keeps its blocks until the decode replica has the cache. A
decode replica takes a request when a seat and the blocks of its cache are free, and the sequence decodes from the first
step after its cache is there. One that is preempted there is recomputed there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from simulator.engine.members import Chunk
from simulator.engine.replica import Replica
from simulator.engine.sequence import Sequence

Admitted = Callable[[Sequence, int], None]
"""(sequence, now): its blocks are free at the decode replica, or its prompt begins at the prefill replica."""


class OfPool:
    """A replica of one of two pools, which tells whom it admits. Stands before the class of the replica."""

    def __init__(self, *arguments: Any, on_admit: Admitted) -> None:
        super().__init__(*arguments)
        self._on_admit = on_admit


class PrefillReplica(OfPool, Replica):
    """One that computes prompts, each up to its first token."""

    def release(self, sequence: Sequence, now: int) -> bool:
        """The cache of a sequence was fetched. True when the replica was idle and others wait: `wake` it."""
        self._free += self._kv.held(sequence.computed)
        if not (self._idle and self._waiting):
            return False
        self._idle = False
        return True

    def _wanted(self, sequence: Sequence, chunk: int) -> int:
        return self._kv.held(sequence.target)

    def _admit(self, now: int) -> list[Chunk]:
        chunks = super()._admit(now)
        promised = sum(self._kv.held(s.target) - self._kv.held(s.computed) for s, _ in chunks)
        self.journal.book_free(self._free - promised)
        for sequence, _ in chunks:
            if sequence.computed == sequence.found:  # its first chunk
                self._on_admit(sequence, now)
        return chunks


class DecodeReplica(OfPool, Replica):
    """One that decodes sequences whose caches come from elsewhere."""

    def __init__(self, *arguments: Any, on_admit: Admitted) -> None:
        super().__init__(*arguments, on_admit=on_admit)
        self._remote: deque[Sequence] = deque()  # wait for a seat and for blocks
        self._arrived: list[Sequence] = []  # decode from the next step on
        self._fresh: list[Sequence] = []  # decode for the first time

    def arrive(self, sequence: Sequence, now: int) -> bool:
        """As `Replica.arrive`, for a sequence whose cache is elsewhere."""
        self.outstanding += 1
        self._log.replica[sequence.id] = self.number
        self._remote.append(sequence)
        if self._idle:
            self._idle = False
            return True
        first = len(self._remote) == 1 and not self._waiting
        if first and len(self._running) < self._seats and self._kv.held(sequence.prompt) <= self._free:
            self._interrupt(now)
        return False

    def loaded(self, sequence: Sequence, now: int) -> bool:
        """The cache of a sequence is here. True when the replica was idle: `wake` it."""
        self._arrived.append(sequence)
        if self._idle:
            self._idle = False
            return True
        self._interrupt(now)
        return False

    def _interrupt(self, now: int) -> None:
        if self._armed is not None:
            self._cut(now)

    def _begin(self, now: int) -> None:
        self._fresh, self._arrived = self._arrived, []
        for sequence in self._fresh:
            sequence.computed, sequence.generated = sequence.prompt, 1
            self._seats += 1
            self._running[sequence.id] = sequence
            self._decode(sequence)
        partial = self._partial
        if self._fresh and partial is not None:  # stays the one that joined last
            self._running[partial.id] = self._running.pop(partial.id)
        super()._begin(now)
        self._join_late([(sequence.last_token, 1) for sequence in self._fresh])

    def _after_stretch(self, steps: int) -> bool | None:
        return None  # a cache may arrive at any time

    def _preempt(self, sequence: Sequence, now: int) -> None:
        last = sequence.last_token
        super()._preempt(sequence, now)
        if sequence in self._fresh:
            self._fresh.remove(sequence)
            sequence.last_token = last

    def _admit(self, now: int) -> list[Chunk]:
        chunks = super()._admit(now)
        if not self._remote or self._waiting or self._preempted:
            return chunks
        held = self._kv.held
        free = self._free - self._demand.over(self._iteration, 1)
        free -= sum(held(s.computed + tokens) - held(s.computed) for s, tokens in chunks)
        while self._remote and len(self._running) < self._seats:
            sequence = self._remote[0]
            whole = self._whole(sequence)
            if held(sequence.prompt) > free or self._reserved + whole > self._kv.blocks:
                break
            self._remote.popleft()
            self._reserved += whole
            free -= held(sequence.prompt)
            self._free -= held(sequence.prompt)
            self._seats -= 1  # until it is here and has one in the batch
            self._on_admit(sequence, now)
        return chunks
