"""One training step through a pipeline, in events: stages work, send, and wait for each other.

All replicas do the same, so one stands for all of them; of a tensor-parallel group one chip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import simpy

from simulator.cost.training.machine import FAR
from simulator.cost.training.traffic import Traffic
from simulator.engine.device import Device
from simulator.engine.exchange import Exchange, Exchanges, Part
from simulator.engine.schedules import DECIDING, ORDERED, Kind, Task


@dataclass(frozen=True)
class StageWork:
    """Seconds of one micro-batch on a stage. `weights`: the part of `backward` that no other stage waits for.

    forward_traffic, backward_traffic   of a pass's own collectives: what compute waits for is part of its seconds
    gather, reduce    of its weights at the beginning of a step, of their gradients at its end
    layers            in as many buckets
    """

    forward: float
    backward: float
    weights: float = 0.0
    forward_traffic: tuple[Traffic, ...] = ()
    backward_traffic: tuple[Traffic, ...] = ()
    gather: tuple[Exchange, ...] = ()
    reduce: tuple[Exchange, ...] = ()
    layers: int = 1


@dataclass(frozen=True)
class Slice:
    """A stretch of work of one stage."""

    stage: int
    task: Task
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Carried:
    """A stretch in which something was on a stage's way to others: name, link, first and last second."""

    stage: int
    name: str
    link: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class PipelineRecord:
    """What happened: when the last stage was done with everything, seconds of the passes of each stage, and every
    stretch of work and of traffic between chips."""

    seconds: float
    busy_s: tuple[float, ...]
    slices: tuple[Slice, ...]
    carried: tuple[Carried, ...] = ()

    @property
    def pipeline_s(self) -> float:
        """From the first pass to the end of the last one: without what is gathered before and reduced after."""
        return max(each.end_s for each in self.slices) - min(each.start_s for each in self.slices)

    @property
    def bubble(self) -> float:
        """Share of the pipeline in which the stages wait."""
        return 1.0 - sum(self.busy_s) / (len(self.busy_s) * self.pipeline_s)


def step(
    schedule: str,
    stages: Sequence[StageWork],
    micro_batches: int,
    chunks: int,
    send: float,
    blocking: float,
    link: str = FAR,
) -> PipelineRecord:
    """Run one step.

    send: seconds of a message to the next stage, over `link`. blocking: seconds of it in which the sender cannot
    compute.
    """
    return _Run(schedule, stages, micro_batches, chunks, send, blocking, link).record()


class _Run:
    """One simulation."""

    def __init__(
        self,
        schedule: str,
        stages: Sequence[StageWork],
        micro_batches: int,
        chunks: int,
        send: float,
        blocking: float,
        link: str,
    ) -> None:
        self.stages, self.micro_batches, self.chunks = stages, micro_batches, chunks
        self.send, self.blocking, self.link = send, blocking, link
        carried = {each.link for stage in stages for each in (*stage.gather, *stage.reduce)} | {link}
        passing = {each.link for stage in stages for each in (*stage.forward_traffic, *stage.backward_traffic)}
        self.shared = carried & passing  # a pass alone on a link takes its time, whatever else is under way
        self.env = simpy.Environment()
        self.devices = [Device(self.env) for _ in stages]
        self.slices: list[Slice] = []
        self.carried: list[Carried] = []
        self.busy = [0.0] * len(stages)
        self.last = 0.0  # the clock's last event may be a stale timer
        self.deciding = schedule in DECIDING
        self.two_ways = schedule == "dualpipe"
        self.exchanges = [self._exchanges(device) for device in range(len(stages))]
        if self.deciding:
            self._start_deciding(self.two_ways)
        else:
            self._start_ordered(ORDERED[schedule])
        self.env.run()

    def record(self) -> PipelineRecord:
        """What happened."""
        return PipelineRecord(self.last, tuple(self.busy), tuple(self.slices), tuple(self.carried))

    def _exchanges(self, device: int) -> Exchanges:
        """What a device exchanges: of its chunks, or of the stages of both directions."""
        held = [(device, self.micro_batches)] * self.chunks
        if self.two_ways:
            half = self.micro_batches // 2
            held = [(device, half), (len(self.stages) - 1 - device, self.micro_batches - half)]

        def share(exchanges: tuple[Exchange, ...]) -> tuple[Exchange, ...]:
            return tuple(replace(each, seconds=each.seconds / len(held)) for each in exchanges)

        parts = [
            Part(max(1, self.stages[of].layers // self.chunks), passes, share(work.gather), share(work.reduce))
            for of, passes in held
            for work in [self.stages[of]]
        ]
        gradients: Kind = "W" if self.deciding else "B"
        return Exchanges(self.devices[device], parts, gradients, partial(self._tell, device))

    def _tell(self, stage: int, name: str, link: str, transfer: simpy.Event) -> None:
        """Note a transfer when it is done."""

        def note(event: simpy.Event) -> None:
            began: Any = event.value
            self.carried.append(Carried(stage, name, link, began, self.env.now))

        assert transfer.callbacks is not None
        transfer.callbacks.append(note)

    def _pass(self, device: int, task: Task, of: int) -> simpy.Event:
        """A pass begins on a device; `of` is the part of the model that it works on. The event of its end."""
        cost, plain = self.stages[of], task if not self.deciding else task._replace(chunk=0)
        seconds = {"F": cost.forward, "B": cost.backward, "W": cost.weights}[task.kind] / self.chunks
        traffic = {"F": cost.forward_traffic, "B": cost.backward_traffic}.get(task.kind, ())
        first = of == 0 and plain.chunk == 0
        last = of == len(self.stages) - 1 and plain.chunk == self.chunks - 1
        sends = len(self.stages) > 1 and not (task.kind == "W" or (first if task.kind == "B" else last))
        own = [
            Traffic(each.link, each.waited / self.chunks, each.beside / self.chunks)
            for each in traffic
            if each.link in self.shared
        ]
        compute = seconds - sum(each.waited for each in own) + (self.blocking if sends else 0.0)
        marks = self.exchanges[device].marks(task)
        if own or marks:
            return self.devices[device].run(compute, own, marks)
        return self.env.timeout(compute, 0.0)

    def _note(self, stage: int, task: Task, start: float, waited: float) -> None:
        self.busy[stage] += self.env.now - start - waited
        self.slices.append(Slice(stage, task, start, self.env.now))

    def _end(self, stage: int) -> Generator[simpy.Event, Any, None]:
        yield from self.exchanges[stage].end()
        self.last = max(self.last, self.env.now)

    def _message(self, stage: int, act: Callable[[], Any]) -> None:
        """What a stage sends to another one, which acts when it is there."""
        if not self.send:
            self.env.timeout(0.0).callbacks.append(lambda _: act())
            return
        transfer = self.devices[stage].send(self.link, self.send)
        self._tell(stage, "activations", self.link, transfer)
        transfer.callbacks.append(lambda _: act())

    # Schedules with a fixed order -----------------------------------------------------------------------------------

    def _start_ordered(self, order: Callable[[int, int, int, int], list[Task]]) -> None:
        self._ready: dict[tuple[int, Task], simpy.Event] = {}
        for stage in range(len(self.stages)):
            tasks = order(len(self.stages), stage, self.micro_batches, self.chunks)
            self.env.process(self._in_order(stage, tasks))

    def _event(self, stage: int, task: Task) -> simpy.Event:
        key = stage, task
        if key not in self._ready:
            self._ready[key] = self.env.event()
        return self._ready[key]

    def _in_order(self, stage: int, tasks: list[Task]) -> Generator[simpy.Event, Any, None]:
        yield from self.exchanges[stage].begin()
        for task in tasks:
            if not (task.kind == "F" and stage == 0 and task.chunk == 0):
                yield self._event(stage, task)
            start = self.env.now
            waited = yield self._pass(stage, task, stage)
            self._note(stage, task, start, waited)
            follower = self._follower(stage, task)
            if follower is not None and follower[0] != stage:
                self._message(stage, self._event(*follower).succeed)
            elif follower is not None:
                self._event(*follower).succeed()
        yield from self._end(stage)

    def _follower(self, stage: int, task: Task) -> tuple[int, Task] | None:
        """The task that needs this one's result, and its stage."""
        last = len(self.stages) - 1
        if task.kind == "F":
            if stage < last:
                return stage + 1, task
            if task.chunk < self.chunks - 1:
                return 0, task._replace(chunk=task.chunk + 1)
            return last, task._replace(kind="B")
        if stage > 0:
            return stage - 1, task
        return (last, task._replace(chunk=task.chunk - 1)) if task.chunk else None

    # Schedules that decide as they go -------------------------------------------------------------------------------

    def _start_deciding(self, two_ways: bool) -> None:
        """Zero bubble (Qi et al. 2023): backward passes first, then forward ones as far as memory allows, and weight
        gradients whenever nothing else can run. Two ways (DualPipe, DeepSeek 2024): half of the micro-batches start at
        the other end, so every device holds two parts of the model."""
        pp = len(self.stages)
        self._waiting: list[simpy.Event | None] = [None] * pp
        self._queues: list[dict[Kind, deque[tuple[Task, int]]]] = [
            {"B": deque(), "F": deque(), "W": deque()} for _ in range(pp)
        ]
        self._held = [[0] * pp for _ in range(2)]
        half = self.micro_batches // 2 if two_ways else self.micro_batches
        for micro in range(self.micro_batches):
            way = int(two_ways and micro >= half)
            self._queues[(pp - 1) if way else 0]["F"].append((Task("F", micro, way), 0))
        for device in range(pp):
            self.env.process(self._deciding(device, 3 * self.micro_batches))

    def _deciding(self, device: int, count: int) -> Generator[simpy.Event, Any, None]:
        pp = len(self.stages)
        queues = self._queues[device]
        yield from self.exchanges[device].begin()
        for _ in range(count):
            while (chosen := self._choose(device)) is None:
                arrival = self._waiting[device] = self.env.event()
                yield arrival
            task, part = queues[chosen].popleft() if chosen != "F" else self._take_forward(device)
            start = self.env.now
            # `chunk` tells the direction here, and every part of the model is one chunk.
            waited = yield self._pass(device, task, part)
            self._note(device, task, start, waited)
            if task.kind == "F":
                self._held[task.chunk][device] += 1
                if part < pp - 1:
                    self._hand(device, device + (-1 if task.chunk else 1), task, part + 1)
                else:
                    queues["B"].append((task._replace(kind="B"), part))
            elif task.kind == "B":
                self._held[task.chunk][device] -= 1
                queues["W"].append((task._replace(kind="W"), part))
                if part > 0:
                    self._hand(device, device + (1 if task.chunk else -1), task, part - 1)
        yield from self._end(device)

    def _allowed(self, device: int, way: int) -> bool:
        """Whether one more forward pass keeps the activations within those of 1F1B (and one more each way)."""
        pp = len(self.stages)
        part = pp - 1 - device if way else device
        return self._held[way][device] < pp - part

    def _choose(self, device: int) -> Kind | None:
        queues = self._queues[device]
        if queues["B"]:
            return "B"
        if any(self._allowed(device, task.chunk) for task, _ in queues["F"]):
            return "F"
        return "W" if queues["W"] else None

    def _take_forward(self, device: int) -> tuple[Task, int]:
        queue = self._queues[device]["F"]
        for index, (task, part) in enumerate(queue):
            if self._allowed(device, task.chunk):
                del queue[index]
                return task, part
        raise AssertionError("chosen, so there is one")

    def _hand(self, sender: int, device: int, task: Task, part: int) -> None:
        def arrive() -> None:
            self._queues[device][task.kind].append((task, part))
            waiting = self._waiting[device]
            if waiting is not None and not waiting.triggered:
                waiting.succeed()

        self._message(sender, arrive)
