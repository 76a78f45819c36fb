"""Closed forms: what a static or steady batch takes, from the costs of its steps. Nothing here waits for anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount
from simulator.cost.energy import marginal_joules
from simulator.cost.host_floor import host_floor
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of_all, per_layer, step_cost
from simulator.errors import RamwiseError
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Batch
from simulator.model.parallelism import Parallelism
from simulator.validation.question import Question, Reason


@dataclass(frozen=True)
class Step:
    """One step: `decoding` sequences with a mean of `context` keys each, and `prompts` prompts of `length` tokens.

    `prompts` may be a fraction: the mean of a steady batch, in which now and then a prompt joins.
    """

    decoding: float = 0.0
    context: float = 0.0
    prompts: float = 0.0
    length: float = 0.0


Parts = list[tuple[float, Step]]


@dataclass(frozen=True)
class Reading:
    """How a metric follows from steps: the steps with their weights, and what to make of the sum of their seconds."""

    parts: Callable[[Question], Parts]
    value: Callable[[Question, float], float]


def _prompts(q: Question) -> Step:
    return Step(prompts=q.batch, length=q.input_tokens)


def _decode(q: Question) -> Step:
    return Step(decoding=q.batch, context=q.context)


def _whole_batch(q: Question) -> Parts:
    """The prompts put out the first token, so output - 1 decode steps are left."""
    first: Parts = [(1.0, _prompts(q))] if q.input_tokens else [(1.0, _decode(q))]
    return first + ([(q.output_tokens - 1, _decode(q))] if q.output_tokens > 1 else [])


def _phase(q: Question) -> Parts:
    return [(q.output_tokens, _decode(q))] if q.output_tokens else [(1.0, _prompts(q))]


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
    "prefill": Reading(lambda q: [(1.0, _prompts(q))], lambda q, t: t),
    "first": Reading(lambda q: [(1.0, _one_prompt(q))], lambda q, t: t),
    "prefill_one": Reading(lambda q: [(1.0, _one_prompt(q))], lambda q, t: t),
    "prefill_serial": Reading(lambda q: [(q.batch, _one_prompt(q))], lambda q, t: t),
    "prefill_rate": Reading(lambda q: [(1.0, _prompts(q))], lambda q, t: _per_chip(q, q.batch * q.input_tokens / t)),
    # mean step that a sequence sees between its tokens (its own prompt is over); tokens per second of all
    "steady_step": Reading(lambda q: _steady(q, q.batch - 1), lambda q, t: t),
    "steady_rate": Reading(lambda q: _steady(q, q.batch), lambda q, t: _per_chip(q, q.batch / t)),
    # the prompts alone, or all decode steps alone
    "phase": Reading(_phase, lambda q, t: t),
}


def predict(questions: Iterable[Question]) -> dict[str, float | Reason]:
    """Row id -> the simulated value in SI units, or why the costs refuse it. Rows on one machine are priced at once."""
    groups: dict[tuple[str, str, str, Parallelism, str, Precision], list[tuple[Question, float]]] = defaultdict(list)
    for question in questions:
        for share, precision in question.precisions:
            machine = question.machine
            named = machine.profile.name, machine.stack.name, str(machine.placement)
            key = *named, machine.parallelism, question.architecture.name, precision
            groups[key].append((question, share))
    seconds: dict[str, float | Reason] = {}
    asked: dict[str, Question] = {}
    for key, members in groups.items():
        machine, architecture, precision = members[0][0].machine, members[0][0].architecture, key[-1]
        lists = [READINGS[question.reading].parts(question) for question, _ in members]
        steps = list(dict.fromkeys(step for parts in lists for _, step in parts))
        try:
            times = dict(zip(steps, step_seconds(architecture, precision, machine, steps), strict=True))
        except RamwiseError as error:
            for question, _ in members:
                seconds[question.row.id] = Reason(str(error).splitlines()[0])
            continue
        for (question, share), parts in zip(members, lists, strict=True):
            asked[question.row.id] = question
            before = seconds.get(question.row.id, 0.0)
            if not isinstance(before, Reason):
                seconds[question.row.id] = before + share * sum(count * float(times[step]) for count, step in parts)
    return {
        row: spent if isinstance(spent, Reason) else READINGS[asked[row].reading].value(asked[row], spent)
        for row, spent in seconds.items()
    }


def step_seconds(
    architecture: Architecture, precision: Precision, machine: Machine, steps: Sequence[Step]
) -> np.ndarray:
    """Seconds of each step: the operations' time and the stack's overheads, joined with the host's time, and at least
    what the power cap allows. The same as the engine's table, but priced at these steps alone."""
    operations = _operations(architecture, precision, machine, steps)
    overheads = _overheads(architecture, precision, machine, steps)
    joules = np.asarray(marginal_joules(operations, machine), dtype=float)
    power = machine.profile.chip.power
    work = np.asarray(operations.total_seconds, dtype=float) + overheads
    limit = joules / (float(power.cap) - float(power.idle))
    return np.asarray(np.maximum(host_floor(machine.stack).joined(work), limit))


def _operations(architecture: Architecture, precision: Precision, machine: Machine, steps: Sequence[Step]) -> Amount:
    decoding, context, prompts, length = (
        np.array([getattr(step, name) for step in steps], dtype=float)
        for name in ("decoding", "context", "prompts", "length")
    )
    batch = Batch(
        tokens=decoding + prompts * length,
        outputs=decoding + prompts,
        decode_context={w: decoding * (context if w is None else np.minimum(context, w)) for w in architecture.windows},
        prefill_pairs={w: prompts * causal_pairs(length, w) for w in architecture.windows},
    )
    zipf = float(machine.stack.expert_popularity)
    operations = architecture.forward(batch, machine.parallelism, precision, zipf)
    layers = per_layer(architecture, precision, machine)
    return cost_of_all(operations, machine, layers, architecture.layer_count)


def _overheads(architecture: Architecture, precision: Precision, machine: Machine, steps: Sequence[Step]) -> np.ndarray:
    """Per step, per emitting sequence, and per step with a prompt (in proportion to how often there is one)."""
    table = step_cost(architecture, precision, machine, 1, 1)
    emitting = np.array([step.decoding + step.prompts for step in steps])
    with_prompt = np.array([min(1.0, step.prompts) for step in steps])
    each_step, each_output = (float(np.asarray(part.seconds[OVERHEAD])[1]) for part in (table.tokens, table.outputs))
    return np.asarray(each_step + each_output * emitting + float(table.prefill.seconds[OVERHEAD]) * with_prompt)


def causal_pairs(length: np.ndarray, window: int | None) -> np.ndarray:
    """Query-key pairs of a prompt: sum over its tokens i = 1 .. length of min(i, window)."""
    if window is None:
        return np.asarray(length * (length + 1) / 2)
    short = np.minimum(length, window)
    return np.asarray(short * (short + 1) / 2 + (length - short) * window)
