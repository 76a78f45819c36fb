"""What all tables of single kernels share: rows, the library and the kernel that serve them, points.

What a library reaches on a chip is data (stack/libraries/), picked by the source and version that a row names; what
was never timed takes the nearest (kernel_choice.py), and says so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.stack.library import ChipKernels, load_library
from simulator.validation.compare import Place, Point
from simulator.validation.kernels.choice import choices
from simulator.validation.kernels.rows import KernelRow, device_profile, library_of, read_kernel_rows, timed_profiles
from simulator.validation.rows import Row

FORMAT = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "fp8_block": "fp8"}
"""Number formats as the tables call them -> as ramwise does: what is stored and computed in."""

MS = 1e-3

Texts = Mapping[str, str]
NO_TEXTS: Texts = MappingProxyType({})


class Slot(NamedTuple):
    """Where the numbers of a kernel stand: library, chip (an entry of its `on`), table of that, entry of the table."""

    library: str
    chip: str
    table: str
    entry: str


class Call(NamedTuple):
    """What a row needs to be priced."""

    profile: Profile
    slot: Slot
    kernels: ChipKernels
    assumed: str = ""


class KernelTable(ABC):
    """A kind of kernel table (see kinds.Kind)."""

    columns: ClassVar[frozenset[str]]
    shipped: ClassVar[tuple[Path, ...]]
    shape: ClassVar[tuple[str, ...]]
    """Columns that tell people one call from another."""
    numbers: ClassVar[tuple[str, ...]]
    """Columns that must be numbers."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._catalogue = Catalogue(folders)
        self._places: dict[tuple[str, str], tuple[Place, Profile | None]] = {}
        self._choices: dict[tuple[str, str], list[tuple[str, str, str]]] = {}

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files. Raise MeasurementError."""
        return [
            row
            for path in files
            for row in read_kernel_rows(path, self.metric, self.shape, self.numbers, self.prepared)
        ]

    def place(self, row: Row) -> Place:
        """Family, library and profile of a row."""
        return self._located(kernel_row(row))[0]

    def _located(self, row: KernelRow) -> tuple[Place, Profile | None]:
        key = row.hardware, row.engine
        if key not in self._places:
            name, library = device_profile(row), library_of(row)
            profile = self._catalogue.load(name) if name else None
            self._places[key] = Place(profile.family if profile else "-", library or "-", name), profile
        return self._places[key]

    def points(self, rows: Sequence[Row]) -> list[Point]:
        """Every row with what its form says, or why it says nothing."""
        groups, reasons = self.calls(rows)
        seconds = {
            row.id: float(value)
            for call, members in groups
            for row, value in zip(members, self.seconds(members, call.slot, call.kernels, call.profile), strict=True)
        }
        assumed = {row.id: call.assumed for call, members in groups for row in members}
        return [self.point(row, seconds.get(row.id), reasons, assumed) for row in rows]

    def point(self, row: Row, seconds: float | None, reasons: Texts, assumed: Texts = NO_TEXTS) -> Point:
        """A row with its time, or the reason why it has none; both kinds of words by row id."""
        family, library, _ = self.place(row)
        said = reasons.get(row.id, ""), assumed.get(row.id, "")
        return Point(row, family, library, None if seconds is None else seconds / MS, *said)

    def calls(self, rows: Sequence[Row]) -> tuple[list[tuple[Call, list[KernelRow]]], dict[str, str]]:
        """Rows that one kernel on one chip serves, together; and the reasons of those that none does, by row id."""
        groups: dict[tuple[str, Slot, str], tuple[Call, list[KernelRow]]] = {}
        reasons: dict[str, str] = {}
        for row in map(kernel_row, rows):
            profile = self._located(row)[1]
            refused = "no profile of the device" if profile is None else self.refused(row)
            call = None if profile is None or refused else self._call(row, profile)
            if call is None:
                reasons[row.id] = refused or f"no kernel library has {row.metric} of this kind"
            else:
                groups.setdefault((call.profile.name, call.slot, call.assumed), (call, []))[1].append(row)
        return list(groups.values()), reasons

    def _call(self, row: KernelRow, profile: Profile) -> Call | None:
        """The first choice that has a kernel for the row."""
        library = self._located(row)[0].stack
        key = library, profile.name
        if key not in self._choices:
            timed = {self._catalogue.load(name).chip.name: self._catalogue.load(name) for name in timed_profiles()}
            self._choices[key] = list(choices(None if library == "-" else library, profile, timed))
        for name, chip, assumed in self._choices[key]:
            kernels = load_library(name).on[chip]
            entry = self.entry(row, kernels)
            if entry is not None:
                return Call(profile, Slot(name, chip, *entry), kernels, assumed)
        return None

    @staticmethod
    def prepared(cells: dict[str, str], path: Path) -> dict[str, str]:
        """The cells as the kind needs them: a row without a device is of the one that its file is called after."""
        return {**cells, "device": cells.get("device") or path.stem}

    @staticmethod
    def kept(cells: Mapping[str, str]) -> bool:
        """Whether a row goes into the shipped file."""
        return True

    def refused(self, row: KernelRow) -> str:
        """Why a row says nothing of what its form describes; nothing when it does."""
        return ""

    @abstractmethod
    def metric(self, cells: Mapping[str, str]) -> str:
        """What a row's figures are kept under."""

    @abstractmethod
    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        """Table and entry of the kernels that serve a row."""

    @abstractmethod
    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        """Seconds of each row; `slot` serves all of them."""


def kernel_row(row: Row) -> KernelRow:
    assert isinstance(row, KernelRow)
    return row


def column(rows: Sequence[KernelRow], name: str) -> np.ndarray:
    return np.array([row.number(name) for row in rows])


def format_of(text: str) -> str:
    return FORMAT.get(text, text)


def peak_of(profile: Profile, format: str) -> float:
    """FLOP/s in which a chip multiplies values stored in a format."""
    return float(profile.chip.matrix.peak[profile.compute_format(format)])
