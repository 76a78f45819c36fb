"""What a replica writes down while it runs: one row a piece of a segment, in one flat buffer."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

import numpy as np

from simulator.cost.piece import Line, Piece
from simulator.cost.ticks import SECONDS_PER_TICK, too_long

COLUMNS = (
    "steps",
    "decoding",
    "prefill_tokens",
    "outputs",
    "free_blocks",
    "joined",
    "swapped_blocks",
    "first_ticks",
    "increment_ticks",
)
"""Integer columns of a row; after them come, for each window, the keys read and the prefill pairs summed over steps."""

NOTHING = (0, 0)
FIRST = COLUMNS.index("first_ticks")


class Journal:
    """Rows of one replica. Every figure of a run is a function of these and of the requests' times."""

    def __init__(self, windows: int, blocks: int) -> None:
        self.width = len(COLUMNS) + 2 * windows
        self.least_free = blocks
        self._pack = struct.Struct(f"=d{self.width}q").pack
        self._rows = bytearray()
        self._late_gaps = array("d")

    def write(self, start_s: float, row: Sequence[int]) -> None:
        """Steps with an unchanged batch whose durations grow evenly. Raise InputError for steps beyond all measure."""
        try:
            self._rows += self._pack(start_s, *row)
        except struct.error:
            raise too_long(row[FIRST] * SECONDS_PER_TICK) from None

    def write_segment(
        self,
        start: int,
        pieces: Sequence[Piece],
        steps: int,
        batch: Sequence[int],
        once: tuple[int, int],
        lines: Sequence[Line],
    ) -> None:
        """A row for each piece of the first `steps` steps from `start` (ticks) on. batch: decoding, prefill tokens,
        outputs, free blocks; once: joined, swapped blocks of the first step; lines: keys by window, pairs by window."""
        done = 0
        for length, first, increment in pieces:
            count = length if length < steps - done else steps - done
            if not count:
                return
            middle = count * (count - 1) // 2
            row = [count, *batch, *(NOTHING if done else once), first, increment]
            for total, growth in lines:  # plain: mostly there is one window
                row.append((total + growth * done) * count + growth * middle)
            self.write(start * SECONDS_PER_TICK, row)
            done += count
            start += count * first + increment * middle

    def late_gap(self, seconds: float, count: int = 1) -> None:
        """The gap between two tokens of `count` sequences that were preempted, whose caches moved, or that paused,
        between them."""
        self._late_gaps.extend([seconds] * count)

    def book_free(self, blocks: int) -> None:
        """Keep the least number of free KV blocks."""
        self.least_free = min(self.least_free, blocks)

    def __len__(self) -> int:
        return len(self._rows) // (8 * (self.width + 1))

    @property
    def rows(self) -> np.ndarray:
        """[rows, width] integers: a view, valid until `clear`."""
        return np.frombuffer(self._rows, dtype=np.int64).reshape(-1, self.width + 1)[:, 1:]

    @property
    def starts(self) -> np.ndarray:
        """[rows] start, s: a view, valid until `clear`."""
        return np.frombuffer(self._rows, dtype=np.float64).reshape(-1, self.width + 1)[:, 0]

    @property
    def late_gaps(self) -> np.ndarray:
        """Gaps across a preemption, s: a view."""
        return np.frombuffer(self._late_gaps, dtype=np.float64)

    def clear(self) -> None:
        """Let go of the rows once they are columns: a long run holds them once and not twice."""
        self._rows = bytearray()
