"""Points -> results: by events, kept by content, or in closed form."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from simulator.errors import RamwiseError
from simulator.executor import computed
from simulator.study.point import Point, simulated
from simulator.study.steady import steady_summaries
from simulator.study.store import Result, Store

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """How points are computed: `store` keeps what events gave; without one they are computed in closed form."""

    store: Store | None = None
    workers: int = 1
    cluster: str | None = None
    progress: Progress | None = None

    @contextmanager
    def without_collector(self) -> Iterator[None]:
        """In closed form points and rows are many and in no circle: Python's search for circles, which walks all of
        them again and again (a fifth of the time), waits until they are made. Events do make circles."""
        paused = self.store is None and gc.isenabled()
        if paused:
            gc.disable()
        try:
            yield
        finally:
            if paused:
                gc.enable()

    def results(self, wanted: Mapping[str, Point]) -> tuple[dict[str, Result], int]:
        """Key -> {"summary": ...} or {"error": ...} of every point, and how many of them were computed now."""
        if self.store is None:
            return dict(_in_closed_form(wanted)), len(wanted)
        new = {key: point for key, point in wanted.items() if key not in self.store}
        passing: dict[str, Result] = {}
        with closing(self._by_events(new)) as finished:
            for done, (key, result, lasting) in enumerate(finished, 1):
                if lasting:
                    self.store.add(key, result)
                else:
                    passing[key] = result
                if self.progress is not None:
                    self.progress(done, len(new))
        return {key: passing.get(key) or self.store[key] for key in wanted}, len(new)

    def _by_events(self, wanted: Mapping[str, Point]) -> Generator[tuple[str, Result, bool]]:
        """(key, result, whether it would always be so) of each point."""
        for (key, _), answer in computed(_work, wanted.items(), self.workers, self.cluster):
            if isinstance(answer, RamwiseError):
                yield key, {"error": str(answer).splitlines()[0]}, True
            elif isinstance(answer, Exception):
                yield key, {"error": f"{type(answer).__name__}: {answer}"}, False
            else:
                yield key, {"summary": answer}, True


def _work(task: tuple[str, Point]) -> dict[str, Any]:
    return simulated(task[1])


def _in_closed_form(wanted: Mapping[str, Point]) -> Iterator[tuple[str, Result]]:
    for key, found in steady_summaries(wanted):
        failed = isinstance(found, RamwiseError)
        yield key, {"error": str(found).splitlines()[0]} if failed else {"summary": found}
