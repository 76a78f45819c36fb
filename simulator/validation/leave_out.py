"""What to expect of what nobody measured: of a chip, its datasheet and the numbers that the stack has on other chips;
of a model, the stack's numbers on its chip as the rows of other models tell them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from simulator.provenance import Block
from simulator.quantity import Known
from simulator.stack.stack import Stack
from simulator.validation.predict import READINGS, predict
from simulator.validation.question import Question
from simulator.validation.robust import objective
from simulator.validation.rows import Reason
from simulator.validation.stack_numbers import SPREAD, exchanged, fitted

ALONE = Reason("no other chip of this stack is measured")
SHARED = Reason("the stack has the same numbers on its other chips")
ONE_MODEL = Reason("no other model of this stack is measured on the chip")
A_RUN = Reason(
    "run in the engine; `python -m simulator.validation.fit STACK CHIP --leave-one-out` leaves its model out"
)

UNFITTED = (
    "admission",
    "collectives.kernel_limit",
    "decode_split.blocks",
    "gather",
    "host_norm",
    "micro_batch",
    "overlap",
    "tile_rows",
)
"""How the paths of what no fit moves begin."""

STEP = 0.05
"""A number is moved by so much, as a logarithm, to see what it does."""

PARTS = (1.0, 0.5, 0.25, 0.125)
"""Of the step that straight lines suggest."""

FELT = 0.02
"""Least change of a row, over that of a number, both as logarithms, at which the row tells something of the number."""


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


def models_left_out(asked: Sequence[Question]) -> dict[str, Question | Reason]:
    """Row id -> its question on the numbers that the stack has on the chip without the rows of its model.

    All numbers that rows of time feel take one step from the present ones: to where they fit the other models' rows
    (stack_numbers.fitted) if the logarithm of a row followed those of the numbers along straight lines, or the part of
    the way there that fits them best in truth. Rows that feel a number that no other model does: a Reason.
    """
    found: dict[str, Question | Reason] = {q.row.id: A_RUN for q in asked if q.load is not None}
    groups: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for question in asked:
        if question.load is None:
            groups[question.machine.stack.name, _chip(question)].append(question)
    for members in groups.values():
        found |= _without_each(members)
    return found


def _without_each(asked: Sequence[Question]) -> dict[str, Question | Reason]:
    """The same for the rows of one stack on one chip."""
    models = np.array([question.architecture.name for question in asked])
    if len(set(models)) == 1:
        return {question.row.id: ONE_MODEL for question in asked}
    stack = asked[0].machine.stack
    now = _errors(asked, stack)
    known = {path: value for path, value in _tied(stack).items() if value > 0 and not path.startswith(UNFITTED)}
    slopes = {path: (now - _errors(asked, _moved(stack, path, value))) / STEP for path, value in known.items()}
    slopes = {path: slope for path, slope in slopes.items() if np.any(np.abs(slope) > FELT)}
    paths = list(slopes)
    answers = np.array([slopes[path] for path in paths]).reshape(len(paths), len(asked)).T
    told = np.isfinite(now) & [READINGS[question.reading].energy is None for question in asked]
    here = np.log([known[path] for path in paths])
    found: dict[str, Question | Reason] = {}
    for model in sorted(set(models)):
        others = told & (models != model)

        def errors(numbers: Mapping[str, float], others: np.ndarray = others) -> np.ndarray:
            return np.asarray(now[others] + answers[others] @ (np.log([numbers[path] for path in paths]) - here))

        felt = np.abs(answers) > FELT
        elsewhere = felt[others].any(axis=0)
        there = fitted(stack, paths, errors) if others.any() else {}
        members = [question for question, other in zip(asked, others, strict=True) if other]
        without = part_of_the_way(members, stack, known, there)
        for index in np.flatnonzero(models == model).tolist():
            alone = [path for path, own, other in zip(paths, felt[index], elsewhere, strict=True) if own and not other]
            question = asked[index]
            told_alone = Reason(f"{alone[0]} is known from this model alone") if alone else None
            found[question.row.id] = told_alone or question.on(without)
    return found


def part_of_the_way(
    asked: Sequence[Question], stack: Stack, here: Mapping[str, float], there: Mapping[str, float]
) -> Stack:
    """The stack with numbers between `here` and `there`, the ones of some that fit the rows best."""
    best, lowest = stack, np.inf
    for part in PARTS if asked else ():
        moved = {path: part * float(np.log(value / here[path])) for path, value in there.items()}
        candidate = exchanged(stack, {path: here[path] * float(np.exp(x)) for path, x in moved.items()})
        value = objective(_errors(asked, candidate), np.array(list(moved.values())), SPREAD)
        if value < lowest:
            best, lowest = candidate, value
    return best


def _errors(asked: Sequence[Question], stack: Stack) -> np.ndarray:
    """Logarithms of simulated / measured with a stack, NaN where the costs refuse a row."""
    values = predict(question.on(stack) for question in asked)
    found = [values[question.row.id] for question in asked]
    seconds = np.array([value if isinstance(value, float) else np.nan for value in found])
    return np.asarray(np.log(seconds / [question.measured for question in asked]))


def _tied(stack: Stack) -> dict[str, float]:
    """Path and value of every number; the same one for both formats of 16 bits once."""
    found = dict(numbers(stack))
    for path in [path for path in found if path.endswith(".bf16")]:
        twin = f"{path.removesuffix('bf16')}fp16"
        if found.get(twin) == found[path]:
            found[f"{path}+fp16"] = found.pop(path)
            del found[twin]
    return found


def _moved(stack: Stack, path: str, value: float) -> Stack:
    return exchanged(stack, {path: value * float(np.exp(-STEP))})


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
