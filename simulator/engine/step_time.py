"""What the engine asks of a cost model."""

from __future__ import annotations

from typing import Protocol

from simulator.cost.piece import Line, Piece


class StepTime(Protocol):
    """Durations of steps in ticks, by composition.

    tokens: all tokens of a step. outputs: sequences that emit one. keys, pairs: lines by window, as `windows` lists
    them; keys are those that decoding sequences read, pairs those of prompt chunks. swapped: KV blocks that a single
    step moves to another memory and back.
    """

    windows: tuple[int | None, ...]

    def pieces(
        self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None, steps: int, swapped: int = 0
    ) -> tuple[Piece, ...]:
        """The durations of `steps` steps as pieces in order. Splitting `steps` anywhere must not change a duration."""
        ...
