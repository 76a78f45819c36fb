"""What the collectives of a pass take of each link: what compute waits for (the stack's exposed share), and what runs
beside it."""

from __future__ import annotations

from typing import NamedTuple

from simulator.cost.training.machine import FAR, NEAR, TrainingMachine
from simulator.cost.training.stage import StageTime, exposed, fsdp_seconds, layer_work
from simulator.model.architecture import Architecture
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.recipe import Recipe


class Traffic(NamedTuple):
    """Of a pass on one link: seconds at its full rate that compute waits for, and that run beside it."""

    link: str
    waited: float
    beside: float


def paths(layout: TrainingLayout, machine: TrainingMachine) -> dict[str, str]:
    """Which link carries the collectives of a layer, by kind; all-to-all goes far as soon as one rank is."""
    return {
        "tp": machine.path(layout.tp),
        "ep": NEAR if layout.ep <= machine.domain else FAR,
        "cp": machine.path(layout.cp, layout.tp),
    }


def stage_traffic(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine, stage: StageTime
) -> tuple[tuple[Traffic, ...], tuple[Traffic, ...]]:
    """(forward, backward) of one micro-batch on a stage."""
    ahead, back = _Sum(), _Sum()
    for layer in architecture.layers:
        count = stage.stage.layers * layer.count / architecture.layer_count
        work = layer_work(architecture, layer, recipe, layout, machine)
        for found, of, times in ((ahead, work.ahead, 1.0), (back, work.back, 1.0), (back, work.again, work.share)):
            waited = exposed(of, machine, recipe.overlap)
            for kind, link in paths(layout, machine).items():
                found.add(link, count * times * waited.get(kind, 0.0), count * times * of.of(kind))
    waited_for = stage.parts.get("fsdp", 0.0)
    if waited_for:
        link, whole = machine.path(layout.shards, layout.tp), fsdp_seconds(architecture, layout, machine, stage.stage)
        for found, seconds in ((ahead, stage.forward), (back, stage.backward)):
            found.add(link, seconds / stage.both * waited_for, seconds / stage.both * whole)
    return ahead.listed(), back.listed()


class _Sum:
    """Link -> [waited, beside]."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def add(self, link: str, waited: float, whole: float) -> None:
        """Traffic of so many seconds, of which compute waits for some."""
        sums = self._found.setdefault(link, [0.0, 0.0])
        sums[0] += waited
        sums[1] += max(0.0, whole - waited)

    def listed(self) -> tuple[Traffic, ...]:
        """What there is."""
        return tuple(Traffic(link, *seconds) for link, seconds in sorted(self._found.items()) if any(seconds))
