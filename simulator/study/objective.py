"""What a plan makes small: one figure of fleets, or a weighted sum of several, and the front of those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulator.study.fleet import Fleet
from simulator.study.study import Goal


@dataclass(frozen=True)
class Objective:
    """sum over goals of weight * figure / unit. One goal alone is its figure; several count in multiples of the least
    that any of the first fleets takes (`units`)."""

    weights: Mapping[Goal, float]
    units: Mapping[Goal, float]

    def of(self, fleet: Fleet) -> float:
        """The least wins; inf for what has no price."""
        return sum(weight * fleet.score(goal) / self.units[goal] for goal, weight in self.weights.items())

    def ordered(self, fleets: Iterable[Fleet]) -> list[Fleet]:
        """The best first."""
        return sorted(fleets, key=lambda each: (self.of(each), each.chips, each.name))

    def front(self, fleets: Sequence[Fleet]) -> list[Fleet]:
        """Those that no other beats or equals in all goals and beats in one, in their order."""
        figures = [tuple(fleet.score(goal) for goal in self.weights) for fleet in fleets]
        return [
            fleet
            for fleet, own in zip(fleets, figures, strict=True)
            if not any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in figures)
        ]

    @property
    def name(self) -> str:
        """The goals and their weights."""
        if len(self.weights) == 1:
            return next(iter(self.weights))
        return " + ".join(f"{weight:g} {goal}" for goal, weight in self.weights.items())


def objective_of(weights: Mapping[Goal, float], fleets: Sequence[Fleet]) -> Objective:
    """The weights, and as units the least of each goal among the fleets; 1 where one goal decides alone."""
    if len(weights) == 1:
        return Objective(dict.fromkeys(weights, 1.0), dict.fromkeys(weights, 1.0))
    least = {goal: min((fleet.score(goal) for fleet in fleets), default=1.0) for goal in weights}
    return Objective(weights, {goal: value if 0.0 < value < float("inf") else 1.0 for goal, value in least.items()})
