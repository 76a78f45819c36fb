"""Simulated against measured: errors of rows, and their figures over groups of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from simulator.validation.rows import Row

Group = tuple[str, str, str, str]
"""Family, chip (as the row names it), stack, metric."""


class Place(NamedTuple):
    """Where a row belongs: family and stack ("-" where nothing is known), and the profile that its chip stands for."""

    family: str
    stack: str
    profile: str | None


EDGE = 0.95
"""Share of what a system holds up to which latencies are a matter of its steps rather than of its queue. A queue's wait
goes with 1 / (1 - load): one percent of throughput moves it by 1 / (1 - load) percent, here 20 times as much; beyond 1
it grows for as long as the run lasts."""


@dataclass(frozen=True)
class Point:
    """A row with what was simulated for it: a value in the row's own unit, or the reason why there is none. profile:
    the machine that its chip, which rows name in many ways, stands for; load: share of what the simulated system holds
    at which requests come, 0 where they come as they are answered."""

    row: Row
    family: str
    stack: str
    simulated: float | None
    reason: str = ""
    assumed: str = ""
    profile: str | None = None
    load: float = 0.0

    @property
    def ill_conditioned(self) -> bool:
        """Whether a few percent of throughput decide about it: a latency at the edge of what the system holds."""
        return self.load > EDGE and not self.row.metric.endswith(("_total", "_per_chip", "requests_per_s"))

    @property
    def group(self) -> Group:
        """What its figures are kept by."""
        return self.family, self.row.hardware, self.stack, self.row.metric

    @property
    def machine(self) -> str:
        """One name for all rows of a chip: the profile's, or the row's own where there is none."""
        return self.profile or self.row.hardware

    @property
    def error(self) -> float:
        """simulated / measured - 1; NaN where nothing was simulated."""
        return float("nan") if self.simulated is None else self.simulated / self.row.value - 1.0

    def document(self) -> dict[str, Any]:
        """Plain data of a simulated point, error as a fraction."""
        plain = {
            "id": self.row.id,
            "chip": self.row.hardware,
            "model": self.row.model,
            "stack": self.stack,
            "metric": self.row.metric,
            "unit": self.row.unit,
            "measured": self.row.value,
            "simulated": self.simulated,
            "error": self.error,
        }
        more: dict[str, Any] = {"assumed": self.assumed} if self.assumed else {}
        if self.ill_conditioned:
            amplification = 1.0 / (1.0 - self.load) if self.load < 1.0 else None  # by 1 % of throughput, in percent
            more |= {"ill_conditioned": {"load": self.load, "amplification": amplification}}
        return plain | more


@dataclass(frozen=True)
class Figures:
    """Of a set of rows: how many could be simulated, median and 90th percentile of |error|, median error (bias).

    Errors are fractions of the measured value, None where no row was simulated.
    """

    rows: int
    simulated: int
    coverage: float
    median_ape: float | None
    p90_ape: float | None
    bias: float | None

    def document(self) -> dict[str, float | int | None]:
        """Plain data."""
        return asdict(self)


def figures(points: Sequence[Point]) -> Figures:
    """The figures of these points."""
    errors = np.array([point.error for point in points if point.simulated is not None])
    coverage = len(errors) / len(points) if points else 0.0
    if not len(errors):
        return Figures(len(points), 0, coverage, None, None, None)
    sizes = np.abs(errors)
    median, p90, bias = float(np.median(sizes)), float(np.quantile(sizes, 0.9)), float(np.median(errors))
    return Figures(len(points), len(errors), coverage, median, p90, bias)


def groups(points: Iterable[Point]) -> dict[Group, list[Point]]:
    """The points of each group that has a simulated one, by name of the group."""
    found: dict[Group, list[Point]] = {}
    for point in points:
        found.setdefault(point.group, []).append(point)
    simulated = {key: members for key, members in found.items() if any(p.simulated is not None for p in members)}
    return dict(sorted(simulated.items()))


def reasons(points: Iterable[Point]) -> dict[str, int]:
    """Why rows were not simulated, the most frequent reason first."""
    counts = Counter(point.reason for point in points if point.simulated is None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def worst(points: Iterable[Point], count: int = 10) -> list[Point]:
    """The simulated points that are farthest off, as factors: half and double are equally far."""
    known = [point for point in points if point.simulated is not None]
    return sorted(known, key=lambda point: -abs(np.log1p(point.error)))[:count]
