"""One training step through a pipeline, in events: stages work, send, and wait for each other.

All replicas do the same, so one stands for all of them; of a tensor-parallel group one chip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import simpy

from simulator.engine.schedules import DECIDING, ORDERED, Kind, Task


@dataclass(frozen=True)
class StageWork:
    """Seconds of one micro-batch on a stage. `weights`: the part of `backward` that no other stage waits for."""

    forward: float
    backward: float
    weights: float = 0.0


@dataclass(frozen=True)
class Slice:
    """A stretch of work of one stage."""

    stage: int
    task: Task
    start_s: float
    end_s: float


@dataclass(frozen=True)
class PipelineRecord:
    """What happened: when the last stage was done, and every stretch of work."""

    seconds: float
    busy_s: tuple[float, ...]
    slices: tuple[Slice, ...]

    @property
    def bubble(self) -> float:
        """Share of the stages' time in which they wait."""
        return 1.0 - sum(self.busy_s) / (len(self.busy_s) * self.seconds)


def step(
    schedule: str, stages: Sequence[StageWork], micro_batches: int, chunks: int, send: float, blocking: float
) -> PipelineRecord:
    """Run one step.

    send: seconds of a message to the next stage. blocking: seconds of it in which the sender cannot compute.
    """
    return _Run(schedule, stages, micro_batches, chunks, send, blocking).record()


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
    ) -> None:
        self.stages, self.micro_batches, self.chunks = stages, micro_batches, chunks
        self.send, self.blocking = send, blocking
        self.env = simpy.Environment()
        self.slices: list[Slice] = []
        self.busy = [0.0] * len(stages)
        self.last = 0.0
        if schedule in DECIDING:
            self._start_deciding(two_ways=schedule == "dualpipe")
        else:
            self._start_ordered(ORDERED[schedule])
        self.env.run()

    def record(self) -> PipelineRecord:
        """What happened."""
        return PipelineRecord(self.last, tuple(self.busy), tuple(self.slices))

    def _work(self, stage: int, task: Task, of: int) -> float:
        """Seconds of a task, its blocking send included; `of` is the part of the model that the device works on."""
        cost = self.stages[of]
        seconds = {"F": cost.forward, "B": cost.backward, "W": cost.weights}[task.kind] / self.chunks
        first = of == 0 and task.chunk == 0
        last = of == len(self.stages) - 1 and task.chunk == self.chunks - 1
        sends = len(self.stages) > 1 and not (task.kind == "W" or (first if task.kind == "B" else last))
        return seconds + (self.blocking if sends else 0.0)

    def _note(self, stage: int, task: Task, start: float) -> None:
        self.last = self.env.now
        self.busy[stage] += self.last - start
        self.slices.append(Slice(stage, task, start, self.last))

    def _after(self, delay: float, act: Callable[[], Any]) -> None:
        self.env.timeout(delay).callbacks.append(lambda _: act())

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
        for task in tasks:
            if not (task.kind == "F" and stage == 0 and task.chunk == 0):
                yield self._event(stage, task)
            start = self.env.now
            yield self.env.timeout(self._work(stage, task, stage))
            self._note(stage, task, start)
            follower = self._follower(stage, task)
            if follower is not None:
                away = follower[0] != stage
                self._after(self.send if away else 0.0, self._event(*follower).succeed)

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
        for _ in range(count):
            while (chosen := self._choose(device)) is None:
                arrival = self._waiting[device] = self.env.event()
                yield arrival
            task, part = queues[chosen].popleft() if chosen != "F" else self._take_forward(device)
            start = self.env.now
            # `chunk` tells the direction here, and every part of the model is one chunk.
            yield self.env.timeout(self._work(device, task._replace(chunk=0), part))
            self._note(device, task, start)
            if task.kind == "F":
                self._held[task.chunk][device] += 1
                if part < pp - 1:
                    self._pass(device + (-1 if task.chunk else 1), task, part + 1)
                else:
                    queues["B"].append((task._replace(kind="B"), part))
            elif task.kind == "B":
                self._held[task.chunk][device] -= 1
                queues["W"].append((task._replace(kind="W"), part))
                if part > 0:
                    self._pass(device + (1 if task.chunk else -1), task, part - 1)

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

    def _pass(self, device: int, task: Task, part: int) -> None:
        def arrive() -> None:
            self._queues[device][task.kind].append((task, part))
            waiting = self._waiting[device]
            if waiting is not None and not waiting.triggered:
                waiting.succeed()

        self._after(self.send, arrive)
