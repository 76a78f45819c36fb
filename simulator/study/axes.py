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
from math import isfinite
from typing import Annotated, Any

from pydantic import Field, model_validator

from simulator.strict import Strict

MOST_VALUES = 100_000
_ENDS = re.compile(r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>\D.*?)?\s*")

Changes = Mapping[str, Any]
"""Key of a scenario -> its value."""

End = int | float | str


class Ends(Strict):
    """Two ends, quantities in one unit: of an even range, or of a log range, in which ratios are even."""

    range: tuple[End, End] | None = None
    log: tuple[End, End] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Ends:
        if (self.range is None) == (self.log is None):
            raise ValueError("a span is either a range or a log range; write {range: [1, 8], step: 1}")
        low, high, _ = self._ends()
        if not low < high:
            raise ValueError("the first end of a span is below the second")
        if self.log is not None and low <= 0:
            raise ValueError("a log range begins above 0")
        return self

    def at(self, share: float) -> Any:
        """The value at a share of the way from the first end to the second, as it would be written in YAML."""
        low, high, unit = self._ends()
        return self._written(low * (high / low) ** share if self.log is not None else low + (high - low) * share, unit)

    def _ends(self) -> tuple[float, float, str]:
        """Low, high and their common unit."""
        numbers, units = [], []
        for end in self.range or self.log or ():
            found = _ENDS.fullmatch(str(end))
            if not found:
                raise ValueError(f"'{end}' is no number with a unit; write 5 or 5 /s")
            numbers.append(float(found["number"]))
            if not isfinite(numbers[-1]):
                raise ValueError(f"'{end}' is no finite number; write 5 or 5 /s")
            units.append(found["unit"] or "")
        if len(set(units)) != 1:
            raise ValueError(f"the ends of a span have one unit, not '{units[0]}' and '{units[1]}'")
        return numbers[0], numbers[1], units[0]

    def _written(self, number: float, unit: str, whole: bool = True) -> Any:
        """A value as YAML writes it; a whole number between whole ends without a unit, unless it may be none."""
        if unit:
            return f"{number:.10g} {unit}"
        if whole and all(isinstance(end, int) for end in self.range or self.log or ()):
            return round(number)
        return float(f"{number:.10g}")


class Span(Ends):
    """Values between two ends: a range with a `step` or a number of `points`, a log range with `points`."""

    step: Annotated[float, Field(gt=0)] | None = Field(None, description="In the unit of the ends.")
    points: Annotated[int, Field(gt=1, le=MOST_VALUES)] | None = None

    @model_validator(mode="after")
    def _so_many(self) -> Span:
        if self.log is not None and (self.points is None or self.step is not None):
            raise ValueError("a log range needs points; write {log: [1, 64], points: 7}")
        if self.range is not None and (self.points is None) == (self.step is None):
            raise ValueError("a range needs a step or points; write {range: [1, 8], step: 1}")
        low, high, _ = self._ends()
        if self.step is not None and (high - low) / self.step > MOST_VALUES:
            raise ValueError(f"a step of {self.step:g} makes more than {MOST_VALUES:,} values")
        return self

    def values(self) -> list[Any]:
        """The values, each once."""
        low, high, unit = self._ends()
        if self.step is None:
            count = self.points or 2
            return list(dict.fromkeys(self.at(index / (count - 1)) for index in range(count)))
        steps = int((high - low) / self.step * (1 + 1e-12)) + 1
        return [self._written(low + self.step * i, unit, self.step == int(self.step)) for i in range(steps)]


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
