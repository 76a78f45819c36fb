"""What attention kinds have in common whose memory of a sequence does not grow with its length."""

from __future__ import annotations


class SingleEntry:
    """All that is kept of a sequence, a state or an image, counts as the single entry of a cache: its window is one
    token."""

    @property
    def window(self) -> int | None:
        """One token: what came before it is in the entry."""
        return 1

    @property
    def reads(self) -> tuple[int | None, ...]:
        """The window alone."""
        return (self.window,)
