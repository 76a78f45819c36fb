"""What to expect of a chip that nobody measured: its datasheet, and the numbers that the stack has on other chips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simulator.provenance import Block
from simulator.quantity import Known
from simulator.stack.stack import Stack
from simulator.validation.question import Question
from simulator.validation.rows import Reason
from simulator.validation.stack_numbers import exchanged

ALONE = Reason("no other chip of this stack is measured")
SHARED = Reason("the stack has the same numbers on its other chips")


def chips_left_out(asked: Sequence[Question]) -> dict[str, Question | Reason]:
    """Row id -> its question on the means of the numbers that the stack has on the other chips with rows.

    Where those are the chip's own numbers, they were fitted to its rows too and nothing is left out: a Reason.
    """
    stacks: dict[str, dict[str, Stack]] = {}
    for question in asked:
        stacks.setdefault(question.machine.stack.name, {})[_chip(question)] = question.machine.stack
    foreign = {
        (name, chip): _foreign(own, [other for sister, other in chips.items() if sister != chip])
        for name, chips in stacks.items()
        for chip, own in chips.items()
    }
    return {question.row.id: _on(question, foreign[question.machine.stack.name, _chip(question)]) for question in asked}


def _on(question: Question, stack: Stack | Reason) -> Question | Reason:
    if isinstance(stack, Reason):
        return stack
    return question.on(stack)


def _foreign(own: Stack, others: Sequence[Stack]) -> Stack | Reason:
    if not others:
        return ALONE
    known = [dict(numbers(other)) for other in others]
    paths = {path for each in known for path in each}
    means = {path: float(np.mean([each[path] for each in known if path in each])) for path in paths}
    before = dict(numbers(own))
    if all(np.isclose(means[path], before.get(path, np.nan), rtol=1e-9) for path in paths):
        return SHARED
    return exchanged(others[0], means)


def numbers(block: Block, head: str = "") -> Iterator[tuple[str, float]]:
    """Path and value of every number of a stack."""
    for name in type(block).model_fields:
        value = getattr(block, name)
        if isinstance(value, Known):
            yield head + name, float(value)
        elif isinstance(value, Block):
            yield from numbers(value, f"{head}{name}.")
        elif isinstance(value, Mapping):
            yield from ((f"{head}{name}.{key}", float(item)) for key, item in value.items() if isinstance(item, Known))


def _chip(question: Question) -> str:
    return question.machine.profile.chip.name
