"""Weights gathered at the beginning of a step and gradients reduced at its end, by one chip, beside its passes.

A software stack overlaps a part of it with compute (the rest is its measured exposed share): weights come in buckets, a
layer each, in the order of the forward pass, which waits for those that are not there; gradients go in buckets as the
last micro-batch's backward pass comes to them. Of what is exposed, weights come before the first pass and gradients go
after the last one. So the exchange of a chip whose links carry nothing else, and whose passes are long enough, takes
`exposed` of its seconds: the closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from simulator.engine.device import Device, Mark
from simulator.engine.schedules import Kind, Task


@dataclass(frozen=True)
class Exchange:
    """Of the weights or gradients of one stage: seconds at the full rate of a link, and the share that is exposed."""

    name: str
    link: str
    seconds: float
    exposed: float = 1.0

    @property
    def hidden(self) -> float:
        """Seconds in buckets."""
        return max(0.0, 1.0 - self.exposed) * self.seconds


@dataclass(frozen=True)
class Part:
    """What a device holds of the model and works through as one: a chunk, or the stage of one direction.

    passes: of each kind in a step. gather, reduce: of the whole part.
    """

    layers: int
    passes: int
    gather: tuple[Exchange, ...] = ()
    reduce: tuple[Exchange, ...] = ()


Told = Callable[[str, str, simpy.Event], None]
"""Called with name, link and the event of the end of every transfer."""


class Exchanges:
    """Those of one device; `parts` in the order in which their weights are needed, as `Task.chunk` names them."""

    def __init__(self, device: Device, parts: Sequence[Part], gradients: Kind, told: Told) -> None:
        self._device, self._parts, self._kind, self._told = device, parts, gradients, told
        self._arrived: list[list[list[simpy.Event]]] = [[] for _ in parts]  # part -> layer -> transfers
        self._begun = [0] * len(parts)
        self._ended = [0] * len(parts)

    def begin(self) -> Generator[simpy.Event, Any, None]:
        """What is exposed, before the first pass; then everything else is under way."""
        yield from self._exposed([each for part in self._parts for each in part.gather])
        for part, layers in zip(self._parts, self._arrived, strict=True):
            layers += [self._buckets(part.gather, part.layers) for _ in range(part.layers)]

    def marks(self, task: Task) -> list[Mark]:
        """What happens in a pass that begins now."""
        part = self._parts[task.chunk]
        if task.kind == "F":
            self._begun[task.chunk] += 1
            return self._waits(task.chunk) if self._begun[task.chunk] == 1 else []
        if task.kind == self._kind:
            self._ended[task.chunk] += 1
            if self._ended[task.chunk] == part.passes and any(each.hidden for each in part.reduce):
                return [((layer + 1) / part.layers, self._send_off(part)) for layer in range(part.layers)]
        return []

    def end(self) -> Generator[simpy.Event, Any, None]:
        """After the last pass: what is still under way, then what is exposed."""
        if self._device.busy:
            yield self._device.drained()
        yield from self._exposed([each for part in self._parts for each in part.reduce])

    def _exposed(self, exchanges: Sequence[Exchange]) -> Generator[simpy.Event, Any, None]:
        seconds: dict[tuple[str, str], float] = {}
        for each in exchanges:
            key = each.name, each.link
            seconds[key] = seconds.get(key, 0.0) + each.exposed * each.seconds
        for (name, link), whole in seconds.items():
            if whole:
                transfer = self._device.send(link, whole)
                self._told(name, link, transfer)
                yield transfer

    def _buckets(self, exchanges: Sequence[Exchange], layers: int) -> list[simpy.Event]:
        """Those of one layer, queued."""
        found = []
        for each in exchanges:
            if each.hidden:
                found.append(self._device.queue(each.link, each.hidden / layers))
                self._told(each.name, each.link, found[-1])
        return found

    def _waits(self, number: int) -> list[Mark]:
        layers = self._arrived[number]
        return [
            (index / len(layers), _given(awaited))
            for index, transfers in enumerate(layers)
            for awaited in transfers[-1:]
        ]

    def _send_off(self, part: Part) -> Callable[[], None]:
        def act() -> None:
            self._buckets(part.reduce, part.layers)

        return act


def _given(event: simpy.Event) -> Callable[[], simpy.Event]:
    return lambda: event
