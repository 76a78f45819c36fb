"""Pipeline schedules: in which order a stage works through the chunks of its micro-batches. A schedule is a function
and a line in ORDERED; those that decide while they run have none (see engine/pipeline.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from simulator.errors import Problem

Kind = Literal["F", "B", "W"]
"""Forward, backward (of the inputs where W is apart), gradients of the weights."""


class Task(NamedTuple):
    """One pass of a micro-batch through one chunk of a stage's layers."""

    kind: Kind
    micro: int
    chunk: int = 0


def gpipe(stages: int, stage: int, micro_batches: int, chunks: int) -> list[Task]:
    """All forward passes, then all backward passes (Huang et al. 2019)."""
    forward = [Task("F", micro) for micro in range(micro_batches)]
    return forward + [Task("B", micro) for micro in range(micro_batches)]


def one_forward_one_backward(stages: int, stage: int, micro_batches: int, chunks: int) -> list[Task]:
    """1F1B: after stages - stage - 1 forward passes, a forward and a backward in turn (PipeDream-Flush)."""
    return _alternating(
        [Task("F", micro) for micro in range(micro_batches)],
        [Task("B", micro) for micro in range(micro_batches)],
        stages - stage - 1,
    )


def interleaved(stages: int, stage: int, micro_batches: int, chunks: int) -> list[Task]:
    """Interleaved 1F1B: groups of `stages` micro-batches pass chunk after chunk (Narayanan et al. 2021)."""
    groups = range(0, micro_batches, stages)
    forward = [
        Task("F", micro, chunk) for first in groups for chunk in range(chunks) for micro in range(first, first + stages)
    ]
    backward = [
        Task("B", micro, chunk)
        for first in groups
        for chunk in reversed(range(chunks))
        for micro in range(first, first + stages)
    ]
    return _alternating(forward, backward, 2 * (stages - stage - 1) + (chunks - 1) * stages)


def _alternating(forward: list[Task], backward: list[Task], warm: int) -> list[Task]:
    warm = min(warm, len(forward))
    order = forward[:warm]
    for ahead, back in zip(forward[warm:], backward, strict=False):
        order += [ahead, back]
    return order + backward[len(forward) - warm :]


Order = Callable[[int, int, int, int], list[Task]]

ORDERED: dict[str, Order] = {"gpipe": gpipe, "1f1b": one_forward_one_backward, "interleaved": interleaved}
DECIDING = ("zero_bubble", "dualpipe")


def check_schedule(name: str, stages: int, micro_batches: float, chunks: int) -> list[Problem]:
    """What keeps a schedule from running so many micro-batches and chunks."""
    if micro_batches != int(micro_batches):
        what = f"{micro_batches:g} micro-batches a step are no whole number"
        return [Problem(what, None, "global_batch must be a multiple of dp * micro_batch")]
    if chunks > 1 and name != "interleaved":
        return [
            Problem(f"schedule {name} has no chunks, vpp is {chunks}", None, "write schedule: interleaved, or vpp: 1")
        ]
    if name == "interleaved" and micro_batches % stages:
        what = f"interleaving {micro_batches:g} micro-batches over pp {stages}: they are no multiple of pp"
        return [Problem(what, None, "change global_batch or micro_batch, or write vpp: 1")]
    if name == "dualpipe" and (stages % 2 or micro_batches % 2 or micro_batches < 2 * stages):
        what = f"dualpipe feeds both ends: pp {stages} and {micro_batches:g} micro-batches do not allow it"
        return [Problem(what, None, "use an even pp and an even number of micro-batches, 2 * pp or more")]
    return []
