"""How what takes long tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called now and then with (what is done, how many are done, of how many)."""


def untold(what: str, done: int, of: int) -> None:
    """Nobody wants to know."""
