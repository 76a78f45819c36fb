"""What the engine asks of a cost model, and arithmetic on runs of steps whose durations grow evenly."""

from __future__ import annotations

from math import isqrt
from typing import Protocol

Line = tuple[int, int]
"""(value in the first step, increment from step to step)."""

Piece = tuple[int, int, int]
"""(steps, duration of the first in ticks, increment from step to step in ticks)."""


class StepTime(Protocol):
    """Durations of steps in ticks, by composition.

    tokens: all tokens of a step. outputs: sequences that emit one. keys, pairs: lines by window, as `windows` lists
    them; keys are those that decoding sequences read, pairs those of prompt chunks.
    """

    windows: tuple[int | None, ...]

    def pieces(
        self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None, steps: int
    ) -> tuple[Piece, ...]:
        """The durations of `steps` steps as pieces in order. Splitting `steps` anywhere must not change a duration."""
        ...


def elapsed(piece: Piece, steps: int) -> int:
    """Ticks that the first `steps` steps of a piece take."""
    _, first, increment = piece
    return steps * first + increment * (steps * (steps - 1) // 2)


def steps_until(piece: Piece, ticks: int) -> int:
    """The smallest number of steps of a piece, at least 1, that takes `ticks` or more."""
    _, first, increment = piece
    if increment == 0:
        return max(1, -(-ticks // first))
    # increment*n^2 + (2*first - increment)*n >= 2*ticks: the root in integers, then the last step by comparison.
    b = 2 * first - increment
    steps = max(1, (isqrt(b * b + 8 * increment * ticks) - b) // (2 * increment))
    while elapsed(piece, steps) < ticks:
        steps += 1
    while steps > 1 and elapsed(piece, steps - 1) >= ticks:
        steps -= 1
    return steps
