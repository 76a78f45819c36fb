"""Tokens of different depth in one machine: in lock step, gathered layer by layer, or in a pipeline in space.

A token passes groups of layers along its path and then the next token of its sequence starts; sequences never end. A
group that runs with b tokens takes seconds[group][b].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simpy

Policy = Literal["lock_step", "depth_wise", "pipeline"]


@dataclass(frozen=True)
class Path:
    """The groups that a token passes, in order, and the share of the tokens that does."""

    share: float
    groups: tuple[int, ...]


@dataclass(frozen=True)
class DepthRun:
    """What came out. busy: share of the time that each group ran; runs[group][tokens]: how many runs it had with so
    many."""

    emitted: int
    elapsed_s: float
    busy: tuple[float, ...]
    runs: tuple[tuple[int, ...], ...]

    @property
    def tokens_per_second(self) -> float:
        """Tokens that left the last group of their path."""
        return self.emitted / self.elapsed_s

    @property
    def batch(self) -> tuple[float, ...]:
        """Tokens of each group's mean run."""
        return tuple(sum(n * count for n, count in enumerate(runs)) / max(1, sum(runs)) for runs in self.runs)


def simulate_depth(
    paths: Sequence[Path],
    seconds: Sequence[Sequence[float]],
    *,
    policy: Policy,
    sequences: int,
    batch: int,
    tokens: int,
    stages: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> DepthRun:
    """Run until so many tokens are out.

    lock_step    all sequences together, group after group (a batch of `sequences`): a group runs if any token needs it
    depth_wise   one machine runs the group with most tokens waiting (the deepest of several), `batch` of them at most
    pipeline     every group, or every one of `stages` for its groups, has chips of its own and takes up to `batch` of
                 the tokens that wait for it (for the group with most of them)
    Raise ValueError where `seconds` does not reach `batch` tokens, or `sequences` in lock step.
    """
    most = sequences if policy == "lock_step" else batch
    if any(len(table) <= most for table in seconds):
        raise ValueError(f"the times of a group do not reach {most} tokens")
    env = simpy.Environment()
    floor = _Floor(env, paths, seconds, sequences, tokens, np.random.default_rng(seed))
    if policy == "lock_step":
        env.process(_lock_step(floor))
    elif policy == "depth_wise":
        env.process(_serve(floor, range(len(seconds)), batch))
    else:
        for groups in stages or [(group,) for group in range(len(seconds))]:
            env.process(_serve(floor, groups, batch))
    env.run(until=floor.finished)
    busy = np.minimum(floor.busy / env.now, 1.0)  # the last run may not be over
    return DepthRun(floor.emitted, env.now, tuple(busy.tolist()), tuple(map(tuple, floor.runs)))


class _Floor:
    """Queues of tokens before each group, and the counts."""

    def __init__(
        self,
        env: simpy.Environment,
        paths: Sequence[Path],
        seconds: Sequence[Sequence[float]],
        sequences: int,
        wanted: int,
        draws: np.random.Generator,
    ) -> None:
        self.env, self.seconds, self.wanted = env, seconds, wanted
        self._paths = [path.groups for path in paths]
        self._edges = np.cumsum([path.share for path in paths])
        self._draws = draws
        self.queues: list[deque[tuple[int, ...]]] = [deque() for _ in seconds]
        self.emitted = 0
        self.finished = env.event()
        self.arrived = env.event()
        self.runs = [[0] * len(table) for table in seconds]
        self.busy = np.zeros(len(seconds))
        for _ in range(sequences):
            self.start()

    def path(self) -> tuple[int, ...]:
        """That of a new token."""
        at = int(np.searchsorted(self._edges, self._draws.random() * self._edges[-1], side="right"))
        return self._paths[min(at, len(self._paths) - 1)]

    def start(self) -> None:
        """A new token waits for the first group of its path."""
        self.wait(self.path())

    def wait(self, rest: tuple[int, ...]) -> None:
        self.queues[rest[0]].append(rest[1:])

    def run(self, group: int, tokens: int) -> simpy.Timeout:
        """Count a run, and the time that it takes."""
        took = self.seconds[group][tokens]
        self.runs[group][tokens] += 1
        self.busy[group] += took
        return self.env.timeout(took)

    def out(self) -> None:
        """A token leaves."""
        self.emitted += 1
        if self.emitted == self.wanted:
            self.finished.succeed()

    def wake(self) -> None:
        """Tell idle groups that tokens have come."""
        arrived, self.arrived = self.arrived, self.env.event()
        arrived.succeed()


def _lock_step(floor: _Floor) -> Generator[simpy.Event, None, None]:
    count = sum(len(queue) for queue in floor.queues)
    while True:
        paths = [floor.path() for _ in range(count)]
        for place in range(max(len(path) for path in paths)):
            here = [path[place] for path in paths if len(path) > place]
            for group in sorted(set(here)):
                yield floor.run(group, here.count(group))
        for _ in paths:
            floor.out()


def _serve(floor: _Floor, groups: Sequence[int], batch: int) -> Generator[simpy.Event, None, None]:
    while True:
        group = max(groups, key=lambda g: (min(len(floor.queues[g]), batch), g))
        queue = floor.queues[group]
        if not queue:
            yield floor.arrived
            continue
        taken = [queue.popleft() for _ in range(min(batch, len(queue)))]
        yield floor.run(group, len(taken))
        for rest in taken:
            if rest:
                floor.wait(rest)
            else:
                floor.out()
                floor.start()
        floor.wake()
