"""When the decoding sequences of a replica finish."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from simulator.engine.sequence import Sequence


class Endings:
    """Sequences by the iteration after which they have finished; of equal ones the first request first. One that has
    left (its epoch moved on) is passed over."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Sequence]] = []

    def add(self, iteration: int, sequence: Sequence) -> None:
        """One that will have finished after `iteration`."""
        heappush(self._heap, (iteration, sequence.id, sequence.epoch, sequence))

    def next(self) -> int:
        """The iteration after which the next one has finished; there must be one."""
        heap = self._heap
        while heap[0][3].epoch != heap[0][2]:
            heappop(heap)
        return heap[0][0]

    def until(self, iteration: int) -> Iterator[Sequence]:
        """Take out, in order, those that have finished after `iteration`."""
        heap = self._heap
        while heap and heap[0][0] <= iteration:
            _, _, epoch, sequence = heappop(heap)
            if sequence.epoch == epoch:
                yield sequence
