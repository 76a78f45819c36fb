"""A training stack: its numbers, those that differ on single chips, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from simulator.errors import Problem, StackError, Where
from simulator.hardware.profile import Profile
from simulator.stack.folders import StackFolders
from simulator.stack.head import Head
from simulator.stack.parameters import on_one_chip, part_of
from simulator.stack.training.parameters import TrainingParameters

if TYPE_CHECKING:
    TrainingOnOneChip = TrainingParameters
else:
    TrainingOnOneChip = part_of(TrainingParameters)


class TrainingStack(Head, TrainingParameters):
    """A dated software stack that trains."""

    on: dict[str, TrainingOnOneChip] = Field(
        default_factory=dict, description="Numbers that differ on one chip, by the chip's or the profile's name."
    )
    preferred: tuple[str, ...] = Field((), description="Chips that get this stack when a scenario names none.")

    def on_profile(self, profile: Profile) -> TrainingStack:
        """The stack with the numbers of this profile, or else of its chip, laid over those for all chips."""
        if profile.family not in self.families:
            runs_on = ", ".join(self.families)
            raise StackError(f"stack '{self.name}' runs on {runs_on}, not on '{profile.name}' ({profile.family})")
        return on_one_chip(self, self.on, (profile.name, profile.chip.name))


class TrainingStacks(StackFolders[TrainingStack]):
    """The training stacks in some folders (NAME.training.yaml) and in ramwise itself."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        super().__init__(TrainingStack, "training stack", "training", Path(__file__).resolve().parent, folders)

    def default(self, profile: Profile, where: Where | None = None) -> TrainingStack:
        """The stack that this chip prefers, else the newest with numbers for it, else the newest of its family."""
        stacks = [self.load(name) for name in self.paths()]
        fitting = [stack for stack in stacks if profile.family in stack.families]
        liked = [stack for stack in fitting if profile.chip.name in stack.preferred]
        own = [stack for stack in fitting if {profile.name, profile.chip.name} & set(stack.on)]
        if not fitting:
            what = f"no training stack runs on '{profile.name}' ({profile.family})"
            raise StackError(Problem(what, where, "known: " + ", ".join(stack.name for stack in stacks)))
        return max(liked or own or fitting, key=lambda stack: (stack.date, stack.name))
