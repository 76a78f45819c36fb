"""What a replica writes down while it runs: one row a piece of a segment, in flat buffers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

COLUMNS = ("steps", "decoding", "prefill_tokens", "outputs", "free_blocks", "first_ticks", "increment_ticks")
"""Integer columns of a row; after them come, for each window, the keys read and the prefill pairs summed over steps."""


class Journal:
    """Rows of one replica. Every figure of a run is a function of these and of the requests' times."""

    def __init__(self, windows: int) -> None:
        self.width = len(COLUMNS) + 2 * windows
        self._rows = array("q")
        self._starts = array("d")
        self._late_gaps = array("d")
        self.least_free: int | None = None

    def write(self, start_s: float, row: Iterable[int]) -> None:
        """Steps with an unchanged batch whose durations grow evenly."""
        self._starts.append(start_s)
        self._rows.extend(row)

    def late_gap(self, seconds: float) -> None:
        """The gap between two tokens of a sequence that was preempted between them."""
        self._late_gaps.append(seconds)

    def book_free(self, blocks: int) -> None:
        """Keep the least number of free KV blocks."""
        if self.least_free is None or blocks < self.least_free:
            self.least_free = blocks

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def rows(self) -> np.ndarray:
        """[rows, width] integers: a view, valid until `clear`."""
        return np.frombuffer(self._rows, dtype=np.int64).reshape(-1, self.width)

    @property
    def starts(self) -> np.ndarray:
        """[rows] start, s: a view, valid until `clear`."""
        return np.frombuffer(self._starts, dtype=np.float64)

    @property
    def late_gaps(self) -> np.ndarray:
        """Gaps across a preemption, s: a view."""
        return np.frombuffer(self._late_gaps, dtype=np.float64)

    def clear(self) -> None:
        """Let go of the rows once they are columns: a long run holds them once and not twice."""
        self._rows, self._starts = array("q"), array("d")
