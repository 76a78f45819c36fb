"""Runs of steps whose durations grow evenly, in ticks."""

from __future__ import annotations

from collections.abc import Sequence
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


def in_progress(pieces: Sequence[Piece], ticks: int) -> tuple[int, int, int]:
    """The step in progress `ticks` after the first one began, or just ending then: its number from 1, when it ends, and
    its duration; of later ticks the last step."""
    steps = end = duration = 0
    for piece in pieces:
        start, (count, first, increment) = end, piece
        end += elapsed(piece, count)
        if end >= ticks:
            last = steps_until(piece, ticks - start)
            return steps + last, start + elapsed(piece, last), first + increment * (last - 1)
        steps, duration = steps + count, first + increment * (count - 1)
    return steps, end, duration


def first_apart(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same steps, the first of them a piece of its own."""
    (count, first, increment), *others = pieces
    rest = [(count - 1, first + increment, increment)] if count > 1 else []
    return ((1, first, increment), *rest, *others)


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
