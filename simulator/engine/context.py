"""Sums that grow along a straight line while a batch stays as it is: keys that decoders read, pairs of a prompt."""

from __future__ import annotations

from heapq import heappop, heappush

from simulator.engine.sequence import Sequence

NEVER = 1 << 62


class ContextSum:
    """sum over decoding sequences of min(cached + 1, window); window None reads everything.

    A sequence grows by one key a step until it fills the window. `next_change` is the iteration in which the first of
    the growing ones fills it: until then the sum is a straight line over the steps.
    """

    __slots__ = ("_full_at", "growing", "total", "window")

    def __init__(self, window: int | None) -> None:
        self.window = window
        self.total = 0
        self.growing = 0
        self._full_at: list[tuple[int, int, int, Sequence]] = []

    def add(self, sequence: Sequence) -> None:
        """Count a sequence that starts to decode in iteration `sequence.joined`."""
        keys = sequence.context + 1
        if self.window is not None:
            if keys >= self.window:
                self.total += self.window
                return
            full_at = sequence.joined + self.window - keys
            heappush(self._full_at, (full_at, sequence.id, sequence.epoch, sequence))
        self.total += keys
        self.growing += 1

    def remove(self, cached: int) -> None:
        """Drop a sequence that has `cached` tokens in the cache. Its epoch must have moved on already."""
        keys = cached + 1
        if self.window is None or keys < self.window:
            self.total -= keys
            self.growing -= 1
        else:
            self.total -= self.window

    def advance(self, iteration: int, steps: int) -> None:
        """Move on to `iteration`, `steps` after the last; no window may fill on the way."""
        self.total += self.growing * steps
        heap = self._full_at
        while heap and (heap[0][0] <= iteration or heap[0][3].epoch != heap[0][2]):
            _, _, epoch, sequence = heappop(heap)
            if sequence.epoch == epoch:
                self.growing -= 1

    def next_change(self) -> int:
        """The iteration from which on the sum bends; NEVER when it does not."""
        heap = self._full_at
        while heap and heap[0][3].epoch != heap[0][2]:
            heappop(heap)
        return heap[0][0] if heap else NEVER


def prefill_pairs(prefix: int, chunk: int, window: int | None) -> int:
    """Query-key pairs of `chunk` prompt tokens after `prefix` ones: sum of min(prefix + j, window), j = 1..chunk."""
    if window is None:
        return chunk * prefix + chunk * (chunk + 1) // 2
    inside = min(max(window - prefix, 0), chunk)
    return inside * prefix + inside * (inside + 1) // 2 + (chunk - inside) * window


def pair_growth(prefix: int, chunk: int, window: int | None) -> tuple[int, int]:
    """By how much the pairs of equal chunks grow from step to step, and for how many steps that holds."""
    if window is None:
        return chunk * chunk, NEVER
    if prefix >= window:
        return 0, NEVER
    return chunk * chunk, max(1, (window - prefix) // chunk)


def pair_lines(
    chunks: list[tuple[Sequence, int]], steps: int, windows: tuple[int | None, ...]
) -> list[tuple[int, int]]:
    """Query-key pairs of chunks (sequence, tokens), by window: in the first step, and their growth where the first
    chunk is followed by equal ones in several steps."""
    lines = []
    for window in windows:
        total = growth = 0
        for sequence, tokens in chunks:
            total += prefill_pairs(sequence.computed, tokens, window)
        if steps > 1:
            sequence, tokens = chunks[0]
            growth, _ = pair_growth(sequence.computed, tokens, window)
        lines.append((total, growth))
    return lines
