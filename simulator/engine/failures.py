"""A long run in events: it works, keeps checkpoints, fails, is mended and goes on from the last checkpoint.

One event for a failure, a restart, a repaired machine; the checkpoints between two failures are counted in closed form.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import ceil, floor, gamma, sqrt
from typing import Any

import numpy as np
import simpy


@dataclass(frozen=True)
class FailureKind:
    """Interruptions by one kind of part: seconds between two in the whole run, and the shape of their Weibull law."""

    mean_s: float
    shape: float = 1.0

    def draw(self, rng: np.random.Generator) -> float:
        """Seconds to the next one: scale * Weibull(shape), with the scale that gives the mean."""
        return float(self.mean_s / gamma(1.0 + 1.0 / self.shape) * rng.weibull(self.shape))


@dataclass(frozen=True)
class LongRunPlan:
    """Seconds of everything that a long run consists of.

    work        seconds of steps, undisturbed
    interval    of work between two checkpoints
    pause       in which training stops for one
    write       until one is safe, from its beginning (at least `pause`)
    detection, restart   after every failure; restart includes loading
    manual, manual_time  share of failures that wait for a person, and for how long
    spares, repair       spare machines (None: always enough), and until a failed machine is one
    """

    work: float
    interval: float
    pause: float
    write: float
    failures: Mapping[str, FailureKind]
    detection: float = 0.0
    restart: float = 0.0
    manual: float = 0.0
    manual_time: float = 0.0
    spares: int | None = None
    repair: float = 0.0


@dataclass
class LongRunRecord:
    """Seconds by what they went to, and interruptions by kind. They add up to `elapsed`."""

    elapsed: float = 0.0
    work: float = 0.0
    lost: float = 0.0
    checkpoints: float = 0.0
    down: float = 0.0
    waiting: float = 0.0
    interruptions: dict[str, int] = field(default_factory=dict)

    @property
    def goodput(self) -> float:
        """Share of the time that went into steps that count: the effective training time."""
        return self.work / self.elapsed if self.elapsed else 1.0


def optimal_interval(pause: float, write: float, between: float, lost: float) -> float:
    """Work between two checkpoints that wastes least: sqrt(2 pause (M + down)) (Young 1974, Daly 2006), and no less
    than one takes to write. M: seconds between failures; `lost`: down time of one."""
    if not pause:
        return max(write, 1.0)
    return max(sqrt(2.0 * pause * (between + lost)), write)


def mean_between(failures: Mapping[str, FailureKind]) -> float:
    """Seconds between interruptions of any kind."""
    rate = sum(1.0 / kind.mean_s for kind in failures.values())
    return 1.0 / rate if rate else float("inf")


def long_run(plan: LongRunPlan, seed: int) -> LongRunRecord:
    """One history."""
    return _History(plan, seed).record


class _History:
    def __init__(self, plan: LongRunPlan, seed: int) -> None:
        self.plan, self.record = plan, LongRunRecord()
        self.rng = np.random.default_rng(seed)
        self.env = simpy.Environment()
        self.done = 0.0  # work that is safe
        self.began = 0.0  # when the stretch that runs now began
        self.running = True
        self.generation = 0
        self.spares = None if plan.spares is None else simpy.Container(self.env, init=plan.spares)
        self.finished = self.env.event()
        self._schedule_end()
        for name, kind in plan.failures.items():
            self.env.process(self._fail_again(name, kind))
        self.env.run(until=self.finished)
        self.record.elapsed = self.env.now

    def _stretch(self, work: float) -> float:
        """Seconds that uninterrupted work takes: a checkpoint after every interval but the last."""
        return work + max(0, ceil(work / self.plan.interval) - 1) * self.plan.pause

    def _schedule_end(self) -> None:
        left = self.plan.work - self.done
        self.env.process(self._end(self._stretch(left), left, self.generation))

    def _end(self, delay: float, left: float, generation: int) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(delay)
        if generation == self.generation:
            self.record.work += left
            self.record.checkpoints += delay - left
            self.finished.succeed()

    def _fail_again(self, name: str, kind: FailureKind) -> Generator[simpy.Event, Any, None]:
        while True:
            yield self.env.timeout(kind.draw(self.rng))
            if self.running and not self.finished.triggered:
                self.record.interruptions[name] = self.record.interruptions.get(name, 0) + 1
                self.env.process(self._recover())

    def _recover(self) -> Generator[simpy.Event, Any, None]:
        """Account for the stretch that ended, mend, and start again from the last safe checkpoint. What fails in the
        meantime is mended in the same pause."""
        plan, record = self.plan, self.record
        self.running = False
        self.generation += 1
        passed = self.env.now - self.began
        cycle = plan.interval + plan.pause
        stopped = floor(passed / cycle)
        worked = stopped * plan.interval + min(passed - stopped * cycle, plan.interval)
        # Checkpoint j begins after j intervals and j - 1 pauses, and is safe `write` later.
        safe = floor(max(0.0, passed + plan.pause - plan.write) / cycle) * plan.interval
        record.work += safe
        record.lost += worked - safe
        record.checkpoints += passed - worked
        self.done += safe
        down = plan.detection + plan.restart
        if plan.manual and self.rng.random() < plan.manual:
            down += plan.manual_time
        yield self.env.timeout(down)
        record.down += down
        if self.spares is not None:
            self.env.process(self._repair(self.spares))
            arrived = self.env.now
            yield self.spares.get(1)
            record.waiting += self.env.now - arrived
        self.began = self.env.now
        self.running = True
        self._schedule_end()

    def _repair(self, spares: simpy.Container) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(self.plan.repair)
        yield spares.put(1)
