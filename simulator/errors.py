"""Every error that ramwise raises on purpose, and how its one line is written.

    RamwiseError
    ├── InputError           something the user wrote is wrong; holds every Problem found at once
    │   ├── ScenarioError    a scenario or a study
    │   ├── ProfileError     a hardware profile
    │   ├── StackError       a software stack
    │   ├── ModelError       a model's config.json, or an architecture that is not known
    │   └── TraceError       a request trace
    ├── CapacityError        the model does not fit; the message is the capacity sheet
    └── OutputError          results cannot be written

A message says what is wrong, where (file:line:column), and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Where:
    """A place in a file; line and column count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where, and the mend."""

    what: str
    where: Where | None = None
    mend: str | None = None

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f"; {self.mend}" if self.mend else ""
        return f"{place}{self.what}{mend}"


class RamwiseError(Exception):
    """The root: catch this to catch everything that ramwise raises on purpose."""


class InputError(RamwiseError):
    """Something the user wrote is wrong. `problems` lists all of it, one line each."""

    def __init__(self, problems: str | Problem | Iterable[Problem]) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        if isinstance(problems, Problem):
            problems = (problems,)
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ScenarioError(InputError):
    """A scenario or a study cannot be read."""


class ProfileError(InputError):
    """A hardware profile cannot be read, or contradicts itself."""


class StackError(InputError):
    """A software stack cannot be read, or does not cover what is asked."""


class ModelError(InputError):
    """A model's config cannot be read, or its architecture is not known."""


class TraceError(InputError):
    """A request trace is truncated, unsorted, empty or otherwise unusable."""


class CapacityError(RamwiseError):
    """The model does not fit the machine. The message is the capacity sheet."""

    def at(self, where: Where) -> CapacityError:
        """The same, with the place in the scenario that asks for it."""
        return CapacityError(f"{where}: {self}")


class OutputError(RamwiseError):
    """The results cannot be written."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that looks most like `name`, or None when nothing does."""
    known = {str(candidate).lower(): str(candidate) for candidate in names}
    found = get_close_matches(str(name).lower(), known, n=1, cutoff=0.5)
    return known[found[0]] if found else None


def unknown(kind: str, name: object, names: Iterable[str], where: Where | None = None) -> Problem:
    """The Problem for a name that nobody knows, with the nearest one that exists."""
    names = sorted(str(candidate) for candidate in names)
    close = nearest(str(name), names)
    if close:
        mend = f"did you mean '{close}'?"
    else:
        mend = "known: " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return Problem(f"unknown {kind} '{name}'", where, mend)
