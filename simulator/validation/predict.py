"""Closed forms: what a static or steady batch takes, from the costs of its steps. What waits for others is run in the
engine (load.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np

from simulator.errors import RamwiseError
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.validation.energy import (
    batch_tokens,
    chips_watts,
    joules_per_token,
    one_chip_watts,
    step_tokens,
    wall_watts,
)
from simulator.validation.load import figures
from simulator.validation.question import Question
from simulator.validation.rows import Reason
from simulator.validation.steps import Step, step_costs

Parts = list[tuple[float, Step]]


@dataclass(frozen=True)
class Reading:
    """How a metric follows from steps: the steps with their weights, and what to make of the sum of their seconds, or
    of their seconds and the joules of one chip."""

    parts: Callable[[Question], Parts]
    value: Callable[[Question, float], float] = lambda q, t: t
    energy: Callable[[Question, float, float], float] | None = None


def _prompts(q: Question) -> Step:
    return Step(prompts=q.batch, length=q.input_tokens)


def _decode(q: Question) -> Step:
    return Step(decoding=q.batch, context=q.context)


def _whole_batch(q: Question) -> Parts:
    """The prompts put out the first token, so output - 1 decode steps are left."""
    first = [_at_once(q, 1.0, _prompts(q) if q.input_tokens else _decode(q))]
    return first + ([_at_once(q, q.output_tokens - 1, _decode(q))] if q.output_tokens > 1 else [])


def _phase(q: Question) -> Parts:
    return [_at_once(q, q.output_tokens, _decode(q)) if q.output_tokens else _at_once(q, 1.0, _prompts(q))]


def _at_once(q: Question, count: float, step: Step) -> tuple[float, Step]:
    """`count` steps of a static batch on s stages, which is halved while a part holds more tokens than the stack's
    `micro_batch`: m parts pass in m + s - 1 turns of a stage. A step as it is priced is s turns of 1/s of its batch.
    """
    stages, most = q.machine.parallelism.pp, q.machine.stack.micro_batch
    if stages == 1 or most is None:
        return count, step
    parts = 2.0 ** max(0, ceil(log2((step.decoding + step.prompts * step.length) / float(most))))
    batch = stages / parts
    same = replace(step, decoding=step.decoding * batch, prompts=step.prompts * batch)
    return count * (parts + stages - 1) / stages, same


def _one_prompt(q: Question) -> Step:
    return Step(prompts=1.0, length=q.input_tokens)


def _steady(q: Question, others: float) -> Parts:
    """The mean step of a batch whose sequences are replaced as they end: `others` / output prompts join in each."""
    return [(1.0, Step(q.batch, q.context, others / q.output_tokens, q.input_tokens))]


def _per_chip(q: Question, rate: float) -> float:
    return rate / q.chips if q.row.metric.endswith("_per_chip") else rate


READINGS: dict[str, Reading] = {
    # seconds of a static batch, prompts and decode; output tokens per second of the same
    "batch_latency": Reading(_whole_batch, lambda q, t: t),
    "batch_rate": Reading(_whole_batch, lambda q, t: _per_chip(q, q.batch * q.output_tokens / t)),
    # one decode step; the tokens per second of the batch and of one user
    "decode_step": Reading(lambda q: [(1.0, _decode(q))], lambda q, t: t),
    "decode_rate": Reading(lambda q: [(1.0, _decode(q))], lambda q, t: q.batch / t),
    "user_rate": Reading(lambda q: [(1.0, _decode(q))], lambda q, t: 1.0 / t),
    # the prompts of a batch in one step, of one sequence alone, of one user, of all users one after the other;
    # prompt tokens per second
    "prefill": Reading(lambda q: [_at_once(q, 1.0, _prompts(q))], lambda q, t: t),
    "first": Reading(lambda q: [(1.0, _one_prompt(q))], lambda q, t: t),
    "prefill_one": Reading(lambda q: [(1.0, _one_prompt(q))], lambda q, t: t),
    "prefill_serial": Reading(lambda q: [(q.batch, _one_prompt(q))], lambda q, t: t),
    "prefill_rate": Reading(lambda q: [(1.0, _prompts(q))], lambda q, t: _per_chip(q, q.batch * q.input_tokens / t)),
    # mean step that a sequence sees between its tokens (its own prompt is over); tokens per second of all
    "steady_step": Reading(lambda q: _steady(q, q.batch - 1), lambda q, t: t),
    "steady_rate": Reading(lambda q: _steady(q, q.batch), lambda q, t: _per_chip(q, q.batch / t)),
    # the prompts alone, or all decode steps alone
    "phase": Reading(_phase, lambda q, t: t),
    # mean power of all chips or of each, of the whole machine, and joules for an output token
    "batch_watts": Reading(_whole_batch, energy=chips_watts),
    "batch_watts_each": Reading(_whole_batch, energy=one_chip_watts),
    "batch_joules": Reading(_whole_batch, energy=joules_per_token(chips_watts, batch_tokens)),
    "steady_watts": Reading(lambda q: _steady(q, q.batch), energy=chips_watts),
    "steady_joules": Reading(lambda q: _steady(q, q.batch), energy=joules_per_token(chips_watts, step_tokens)),
    "user_wall_watts": Reading(lambda q: [(1.0, _decode(q))], energy=wall_watts),
    "user_wall_joules": Reading(lambda q: [(1.0, _decode(q))], energy=joules_per_token(wall_watts, step_tokens)),
}


def predict(questions: Iterable[Question]) -> dict[str, float | Reason]:
    """Row id -> the simulated value in SI units, or why the costs refuse it."""
    return dict(predictions(questions))


def predictions(questions: Iterable[Question]) -> Iterator[tuple[str, float | Reason]]:
    """The same in pairs as they are found: the closed forms first."""
    questions = list(questions)
    yield from _in_closed_form(question for question in questions if question.load is None).items()
    yield from _under_load(questions)


def _under_load(questions: Iterable[Question]) -> Iterator[tuple[str, float | Reason]]:
    """One run for all rows of a load."""
    loads: dict[tuple[object, ...], list[Question]] = defaultdict(list)
    for question in questions:
        if question.load is not None:
            loads[question.load.key].append(question)
    for key, run in figures(members[0].load for members in loads.values() if members[0].load):
        for question in loads[key]:
            if isinstance(run, str):
                yield question.row.id, Reason(run)
            elif question.reading in run:
                yield question.row.id, _per_chip(question, run[question.reading])
            else:
                yield (
                    question.row.id,
                    Reason(f"no {question.reading} of such a run: single tokens, or no answer in time"),
                )


def _in_closed_form(questions: Iterable[Question]) -> dict[str, float | Reason]:
    """Rows on one machine are priced at once."""
    groups: dict[tuple[str, str, str, Parallelism, str, Precision], list[tuple[Question, float]]] = defaultdict(list)
    for question in questions:
        for share, precision in question.precisions:
            machine = question.machine
            named = machine.profile.name, machine.stack.name, f"{machine.placement} {machine.threads}"
            key = *named, machine.parallelism, question.architecture.name, precision
            groups[key].append((question, share))
    spent: dict[str, tuple[float, float] | Reason] = {}  # seconds and joules of one chip
    asked: dict[str, Question] = {}
    for key, members in groups.items():
        machine, architecture, precision = members[0][0].machine, members[0][0].architecture, key[-1]
        lists = [READINGS[question.reading].parts(question) for question, _ in members]
        steps = list(dict.fromkeys(step for parts in lists for _, step in parts))
        try:
            costs = np.stack(step_costs(architecture, precision, machine, steps))
        except RamwiseError as error:
            for question, _ in members:
                spent[question.row.id] = Reason(str(error).splitlines()[0])
            continue
        each = dict(zip(steps, costs.T.tolist(), strict=True))
        for (question, share), parts in zip(members, lists, strict=True):
            asked[question.row.id] = question
            before = spent.get(question.row.id, (0.0, 0.0))
            if not isinstance(before, Reason):
                seconds = before[0] + share * sum(count * each[step][0] for count, step in parts)
                joules = before[1] + share * sum(count * each[step][1] for count, step in parts)
                spent[question.row.id] = seconds, joules
    return {row: cost if isinstance(cost, Reason) else _value(asked[row], *cost) for row, cost in spent.items()}


def _value(question: Question, seconds: float, joules: float) -> float:
    reading = READINGS[question.reading]
    return reading.energy(question, seconds, joules) if reading.energy else reading.value(question, seconds)
