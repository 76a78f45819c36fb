"""A software stack: its numbers, those that differ on single chips, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from simulator.errors import StackError
from simulator.hardware.profile import Profile
from simulator.quantity import Known
from simulator.stack.folders import StackFolders
from simulator.stack.head import Head
from simulator.stack.parameters import Parameters, ParametersOnOneChip, on_one_chip

FALLBACK = "default"
"""The entry of a table by number format that holds for every format not listed."""


class Stack(Head, Parameters):
    """A dated software stack that serves."""

    on: dict[str, ParametersOnOneChip] = Field(
        default_factory=dict,
        description="Numbers that differ on one chip, by the chip's or the profile's name (`host+chip` in a CPU node).",
    )

    def on_profile(self, profile: Profile) -> Stack:
        """The stack with the numbers of this profile, or else of its chip, laid over those for all chips."""
        return on_one_chip(self, self.on, (profile.name, profile.chip.name))


def of_format(table: dict[str, Known], name: str, stack: str, what: str) -> float:
    """The entry of a table by number format. Raise StackError when it is not there and no `default` is."""
    if name in table:
        return float(table[name])
    if FALLBACK in table:
        return float(table[FALLBACK])
    raise StackError(f"stack '{stack}' has no {what} for {name}; add it, or an entry '{FALLBACK}'")


class Stacks(StackFolders[Stack]):
    """The stacks in some folders (NAME.stack.yaml) and in ramwise itself."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        super().__init__(Stack, "stack", "stack", Path(__file__).resolve().parent, folders)
