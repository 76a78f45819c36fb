"""Which library and which of its chips price a row: its own where it was timed, else the nearest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import log

from simulator.hardware.profile import Profile
from simulator.stack.library import library_names, load_library

DEFAULT = "default"


def choices(library: str | None, profile: Profile, timed: Mapping[str, Profile]) -> Iterator[tuple[str, str, str]]:
    """(library, entry of its `on`, what is assumed), the best first: the row's own library on the chip, on its default
    chip and on its nearest chips; then other libraries likewise, those of the same software first and the newest of
    them. `timed`: chips of libraries by name."""
    family = (library or "").partition("-")[0]
    others = sorted((name for name in library_names() if name != library), reverse=True)
    others.sort(key=lambda name: name.partition("-")[0] != family)
    own = profile.chip.name
    for name in [*([library] if library else []), *others]:
        on = load_library(name).on
        apart = {chip: _apart(profile, timed[chip]) for chip in on if chip in timed and chip != own}
        nearest = sorted(apart, key=apart.__getitem__)
        for chip in [*([own] if own in on else []), *([DEFAULT] if DEFAULT in on else []), *nearest]:
            yield name, chip, "" if (name, chip) == (library, own) else f"kernels of {name} on {_said(chip)}"


def _said(chip: str) -> str:
    return "a chip in the middle" if chip == DEFAULT else chip


def _apart(a: Profile, b: Profile) -> float:
    """How far the peaks and the memories of two chips lie apart, as logarithms."""
    peaks = [chip.chip.matrix.sixteen_bit or max(chip.chip.matrix.peak.values()) for chip in (a, b)]
    return abs(log(peaks[0] / peaks[1])) + abs(log(a.chip.main_memory.bandwidth / b.chip.main_memory.bandwidth))
