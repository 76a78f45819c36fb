"""Runs of steps whose durations grow evenly, in ticks."""

from __future__ import annotations

from math import isqrt

Line = tuple[int, int]
"""(value in the first step, increment from step to step)."""

Piece = tuple[int, int, int]
"""(steps, duration of the first in ticks, increment from step to step in ticks)."""


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


def largest(lines: list[Line], steps: int) -> tuple[Piece, ...]:
    """The largest of straight lines over steps 0 .. steps-1, as pieces."""
    pieces: list[Piece] = []
    done = 0
    while done < steps:
        first, increment = max((a + b * done, b) for a, b in lines)
        until = steps
        for a, b in lines:
            here = a + b * done
            if b > increment:  # overtakes: the first later step in which it is larger
                until = min(until, done + (first - here) // (b - increment) + 1)
        pieces.append((until - done, first, increment))
        done = until
    return tuple(pieces)
