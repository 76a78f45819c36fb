"""What varies in a study: the values of each key, and the points that they make.

traffic.request_rate: [1 /s, 2 /s, 5 /s]                      a list, of anything
limits.max_num_seqs: {range: [64, 256], step: 64}             both ends belong to it
traffic.speed: {range: [0.5, 2], points: 4}                   evenly spaced
traffic.isl: {log: [128, 8192], points: 7}                    evenly spaced ratios; whole numbers stay whole
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from simulator.strict import Strict

MOST_VALUES = 100_000
_ENDS = re.compile(r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>\D.*?)?\s*")

Changes = Mapping[str, Any]
"""Key of a scenario -> its value."""

End = int | float | str


class Span(Strict):
    """Values between two ends, quantities in one unit. Exactly one of range, log; `step` or `points` with a range."""

    range: tuple[End, End] | None = None
    log: tuple[End, End] | None = None
    step: Annotated[float, Field(gt=0)] | None = Field(None, description="In the unit of the ends.")
    points: Annotated[int, Field(gt=1, le=MOST_VALUES)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Span:
        if (self.range is None) == (self.log is None):
            raise ValueError("a span is either a range or a log range; write {range: [1, 8], step: 1}")
        if self.log is not None and (self.points is None or self.step is not None):
            raise ValueError("a log range needs points; write {log: [1, 64], points: 7}")
        if self.range is not None and (self.points is None) == (self.step is None):
            raise ValueError("a range needs a step or points; write {range: [1, 8], step: 1}")
        low, high, _ = self._ends()
        if not low < high:
            raise ValueError("the first end of a span is below the second")
        if self.log is not None and low <= 0:
            raise ValueError("a log range begins above 0")
        if self.step is not None and (high - low) / self.step > MOST_VALUES:
            raise ValueError(f"a step of {self.step:g} makes more than {MOST_VALUES:,} values")
        return self

    def _ends(self) -> tuple[float, float, str]:
        """Low, high and their common unit."""
        numbers, units = [], []
        for end in self.range or self.log or ():
            found = _ENDS.fullmatch(str(end))
            if not found:
                raise ValueError(f"'{end}' is no number with a unit; write 5 or 5 /s")
            numbers.append(float(found["number"]))
            units.append(found["unit"] or "")
        if len(set(units)) != 1:
            raise ValueError(f"the ends of a span have one unit, not '{units[0]}' and '{units[1]}'")
        return numbers[0], numbers[1], units[0]

    def values(self) -> list[Any]:
        """The values as they would be written in YAML; whole numbers between whole ends without a unit."""
        low, high, unit = self._ends()
        numbers: list[float]
        if self.log is not None:
            numbers = np.geomspace(low, high, self.points or 2).tolist()
        elif self.step is not None:
            numbers = [low + self.step * i for i in range(int((high - low) / self.step * (1 + 1e-12)) + 1)]
        else:
            numbers = np.linspace(low, high, self.points or 2).tolist()
        if unit:
            return [f"{number:.10g} {unit}" for number in numbers]
        whole = all(isinstance(end, int) for end in self.range or self.log or ())
        if whole and (self.log is not None or self.points is not None or self.step == int(self.step or 0)):
            return list(dict.fromkeys(round(number) for number in numbers))
        return [float(f"{number:.10g}") for number in numbers]


Values = Span | Annotated[tuple[Any, ...], Field(min_length=1)]


def values(axis: Values) -> list[Any]:
    """The values of an axis, in their order."""
    return axis.values() if isinstance(axis, Span) else list(axis)


def points(axes: Mapping[str, Values], together: tuple[Mapping[str, tuple[Any, ...]], ...] = ()) -> Iterator[Changes]:
    """Every combination of the axes and of the groups that vary together; the last varies fastest."""
    groups: list[list[Changes]] = [[{key: value} for value in values(axis)] for key, axis in axes.items()]
    for group in together:
        rows = zip(*group.values(), strict=True)
        groups.append([dict(zip(group, row, strict=True)) for row in rows])
    for combination in product(*groups):
        yield {key: value for changes in combination for key, value in changes.items()}
