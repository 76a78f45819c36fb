"""What is wrong with a scenario, gathered so that all of it is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from simulator.errors import CapacityError, InputError, Problem, ScenarioError, Where


@dataclass
class Findings:
    """Problems of the input, and the sheets of models that do not fit."""

    problems: list[Problem] = field(default_factory=list)
    sheets: list[str] = field(default_factory=list)

    @contextmanager
    def at(self, where: Where) -> Iterator[None]:
        """Note what is wrong, at `where` unless it has a place of its own, and go on."""
        try:
            yield
        except InputError as error:
            self.add(replace(problem, where=problem.where or where) for problem in error.problems)
        except CapacityError as error:
            self.sheets.append(str(error.at(where)))

    def add(self, problems: Iterable[Problem]) -> None:
        """Note these too."""
        self.problems += problems

    def tell(self) -> None:
        """Raise ScenarioError with every problem, each once, else CapacityError with every sheet; nothing when there
        is neither."""
        if self.problems:
            raise ScenarioError(dict.fromkeys(self.problems))
        if self.sheets:
            raise CapacityError("\n".join(self.sheets))
