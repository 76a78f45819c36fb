"""A software stack: its numbers, those that differ on single chips, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from simulator.errors import Problem, StackError, Where, unknown
from simulator.hardware.profile import Family, Profile
from simulator.quantity import Known, Label
from simulator.stack.parameters import Parameters, ParametersOnOneChip, on_one_chip
from simulator.yaml_source import Marked, Source, read_yaml, validate

FALLBACK = "default"
"""The entry of a table by number format that holds for every format not listed."""


class Stack(Parameters):
    """A dated software stack on one chip family."""

    name: str
    title: str
    date: str = Field(description="Of the software, year or year and month.")
    families: tuple[Family, ...] = Field(min_length=1, description="Chip families that it runs on.")
    label: Label
    source: str = Field(min_length=1)
    on: dict[str, ParametersOnOneChip] = Field(
        default_factory=dict,
        description="Numbers that differ on one chip, by the chip's or the profile's name (`host+chip` in a CPU node).",
    )
    notes: str = ""

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


class Stacks:
    """The stacks in some folders (NAME.stack.yaml, beside hardware profiles) and in ramwise itself. The first folder
    that has a name wins."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        self._folders = (*(Path(folder) for folder in folders), Path(__file__).resolve().parent)
        missing = [folder for folder in self._folders if not folder.is_dir()]
        if missing:
            raise StackError(Problem(f"no such folder of stacks: {folder}") for folder in missing)
        self._loaded: dict[str, Stack] = {}

    def paths(self) -> dict[str, Path]:
        """Name -> file of every stack, in alphabetical order."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*.stack.yaml" if folder != self._folders[-1] else "*.yaml")):
                found.setdefault(path.name.removesuffix(".yaml").removesuffix(".stack"), path)
        return dict(sorted(found.items()))

    def load(self, name: str, where: Where | None = None) -> Stack:
        """The stack of that name. Raise StackError with everything that is wrong."""
        known = self.paths()
        if name not in known:
            raise StackError(unknown("stack", name, known, where))
        if name not in self._loaded:
            source = read_yaml(known[name], error=StackError, find=lambda other: known.get(Path(other).stem))
            self._loaded[name] = validate(Stack, _nearest_first(source), error=StackError)
        return self._loaded[name]


def _nearest_first(source: Source) -> Source:
    """Of all files that state a number the nearest holds, and within that file the entry of a single chip."""
    whole = source.marks.value
    chips = whole.get("on") if isinstance(whole, dict) else None
    if chips is None or not isinstance(chips.value, dict):
        return source
    distance = {file: index for index, file in enumerate(source.files)}
    left = {name: _without_outdone(mark, source.marks, distance) for name, mark in chips.value.items()}
    marks = replace(source.marks, value={**whole, "on": replace(chips, value=left)})
    return replace(source, data=marks.plain(), marks=marks)


def _without_outdone(part: Marked, whole: Marked, distance: Mapping[str, int]) -> Marked:
    if not (isinstance(part.value, dict) and isinstance(whole.value, dict)):
        return part
    left = {}
    for key, mark in part.value.items():
        above = whole.value.get(key)
        if above is None:
            left[key] = mark
        elif isinstance(mark.value, dict) and isinstance(above.value, dict) and "value" not in above.value:
            left[key] = _without_outdone(mark, above, distance)
        elif distance[mark.where.file] <= distance[above.where.file]:
            left[key] = mark
    return replace(part, value=left)
