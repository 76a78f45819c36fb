"""The oracle of engine/pools.py: the same rules, one event an iteration."""

from __future__ import annotations

from typing import Any

from simulator.engine.exact import ExactReplica
from simulator.engine.pools import Admitted, OfPool
from simulator.engine.sequence import Sequence


class ExactPrefillReplica(OfPool, ExactReplica):
    """As `PrefillReplica`."""

    def release(self, sequence: Sequence, now: int) -> bool:
        """As `PrefillReplica.release`."""
        self._holding = [each for each in self._holding if each.id != sequence.id]
        idle = not self._busy and bool(self._waiting)
        self._busy = self._busy or idle
        return idle

    def _wanted(self, sequence: Sequence, chunk: int) -> int:
        return self._kv.held(sequence.target)

    def _admit_others(self, free: int, preempted: bool, now: int) -> None:
        self.journal.book_free(free)
        for sequence in [each for each in self._running if each.computed == each.found]:
            self._on_admit(sequence, now)


class ExactDecodeReplica(OfPool, ExactReplica):
    """As `DecodeReplica`."""

    def __init__(self, *arguments: Any, on_admit: Admitted) -> None:
        super().__init__(*arguments, on_admit=on_admit)
        self._remote: list[Sequence] = []
        self._arrived: list[Sequence] = []

    def arrive(self, sequence: Sequence, now: int) -> bool:
        """As `DecodeReplica.arrive`."""
        self.outstanding += 1
        self._log.replica[sequence.id] = self.number
        self._remote.append(sequence)
        idle, self._busy = not self._busy, True
        return idle

    def loaded(self, sequence: Sequence, now: int) -> bool:
        """As `DecodeReplica.loaded`."""
        self._arrived.append(sequence)
        idle, self._busy = not self._busy, True
        return idle

    def _seated(self) -> int:
        return len(self._promised())

    def _promised(self) -> list[Sequence]:
        return self._running + self._holding

    def _begin(self, now: int) -> None:
        for sequence in self._arrived:
            sequence.generated = 1
            self._holding.remove(sequence)
            partial = bool(self._running) and self._running[-1] not in self._decoding
            self._running.insert(len(self._running) - partial, sequence)
            self._decoding.append(sequence)
            self._joined.append(sequence)
        self._arrived = []
        super()._begin(now)

    def _admit_others(self, free: int, preempted: bool, now: int) -> None:
        while not (preempted or self._waiting) and self._remote and self._seated() < self._batch.max_num_seqs:
            sequence = self._remote[0]
            if self._kv.held(sequence.prompt) > free or not self._whole_fits(sequence):
                break
            free -= self._kv.held(sequence.prompt)
            sequence.computed = sequence.prompt
            self._holding.append(self._remote.pop(0))
            self._on_admit(sequence, now)
