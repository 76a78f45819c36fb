"""A training stack: its numbers, those that differ on single chips, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from simulator.errors import Problem, StackError, Where, unknown
from simulator.hardware.profile import Family, Profile
from simulator.quantity import Label
from simulator.stack.parameters import on_one_chip, part_of
from simulator.stack.training.parameters import TrainingParameters
from simulator.yaml_source import read_yaml, validate

FOLDER = Path(__file__).resolve().parent

if TYPE_CHECKING:
    TrainingOnOneChip = TrainingParameters
else:
    TrainingOnOneChip = part_of(TrainingParameters)


class TrainingStack(TrainingParameters):
    """Dated training software on one or several chip families."""

    name: str
    title: str
    date: str = Field(description="Of the software, year or year and month.")
    families: tuple[Family, ...] = Field(min_length=1, description="Chip families that it runs on.")
    label: Label
    source: str = Field(min_length=1)
    on: dict[str, TrainingOnOneChip] = Field(
        default_factory=dict, description="Numbers that differ on one chip, by the chip's or the profile's name."
    )
    preferred: tuple[str, ...] = Field((), description="Chips that get this stack when a scenario names none.")
    notes: str = ""

    def on_profile(self, profile: Profile) -> TrainingStack:
        """The stack with the numbers of this profile, or else of its chip, laid over those for all chips."""
        if profile.family not in self.families:
            runs_on = ", ".join(self.families)
            raise StackError(f"stack '{self.name}' runs on {runs_on}, not on '{profile.name}' ({profile.family})")
        return on_one_chip(self, self.on, (profile.name, profile.chip.name))


class TrainingStacks:
    """The training stacks in some folders (NAME.training.yaml) and in ramwise itself. The first folder wins."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        self._folders = tuple(Path(folder) for folder in folders)
        self._loaded: dict[str, TrainingStack] = {}

    def paths(self) -> dict[str, Path]:
        """Name -> file of every training stack, in alphabetical order."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*.training.yaml")):
                found.setdefault(path.name.removesuffix(".training.yaml"), path)
        for path in sorted(FOLDER.glob("*.yaml")):
            found.setdefault(path.stem, path)
        return dict(sorted(found.items()))

    def load(self, name: str, where: Where | None = None) -> TrainingStack:
        """The stack of that name. Raise StackError with everything that is wrong."""
        if name not in self._loaded:
            known = self.paths()
            if name not in known:
                raise StackError(unknown("training stack", name, known, where))
            source = read_yaml(known[name], error=StackError, find=lambda other: known.get(Path(other).stem))
            stack: TrainingStack = validate(TrainingStack, source, error=StackError)
            self._loaded[name] = stack
        return self._loaded[name]

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
