"""The mean step of a steady batch, for many batches at once, without a table: what closed forms are made of."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.energy import joules_above_idle, least_seconds
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of, cost_of_all, floor_of, is_head, per_layer, per_prompt, per_sequence
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch


def mean_step(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    decoding: Array,
    context: Array,
    prompts: Array = 0.0,
    length: Array = 0.0,
) -> Amount:
    """What a step takes of one chip: `decoding` sequences with a mean of `context` keys, and `prompts` prompts of
    `length` tokens (a fraction: now and then a prompt joins). Arrays of one shape describe many steps. Where prompts
    pass other layers than decoding tokens, all tokens of a step with a prompt pass those, as in the engine's table.
    """
    decoding, context, prompts, length = np.broadcast_arrays(*np.atleast_1d(decoding, context, prompts, length))
    windows = architecture.windows
    batch = Batch(
        tokens=decoding + prompts * length,
        outputs=decoding + prompts,
        decode_context={w: decoding * (context if w is None else np.minimum(context, w)) for w in windows},
        prefill_pairs={w: prompts * causal_pairs(length, w) for w in windows},
    )
    with_prompt = architecture.for_prompts()
    host = per_sequence(architecture, machine) * np.asarray(batch.outputs)
    host = host + per_prompt(with_prompt, machine) * np.minimum(prompts, 1.0)
    parts = [Amount({OVERHEAD: host})]
    same = with_prompt is architecture and machine.for_prompts is machine
    if same or not np.any(prompts):
        parts.append(_layers(architecture, precision, machine, machine, batch))
    elif np.all(prompts > 0):
        parts.append(_layers(with_prompt, precision, machine, machine.for_prompts, batch))
    else:
        parts.append(_layers(architecture, precision, machine, machine, batch).times(prompts == 0))
        parts.append(_layers(with_prompt, precision, machine, machine.for_prompts, batch).times(prompts > 0))
    return add(parts)


def _layers(model: Architecture, precision: Precision, machine: Machine, inside: Machine, batch: Batch) -> Amount:
    """The operations of a step, of its layers on `inside`, and the overheads of the layers."""
    overhead = per_layer(model, precision, machine, batch.tokens)
    operations = model.forward(batch, machine.parallelism, precision, float(machine.stack.expert_popularity))
    head = [cost_of(operation, machine) for operation in operations if is_head(operation)]
    layers = [operation for operation in operations if not is_head(operation)]
    return add([cost_of_all(layers, inside, overhead, model.layer_count), *head, overhead])


def seconds_of(step: Amount, architecture: Architecture, machine: Machine, prompts: Array) -> np.ndarray:
    """Seconds of steps, `prompts` in each: their work joined with the host's time, and at least what the power limit
    allows."""
    seconds = floor_of(architecture, machine).joined(step.total_seconds)
    if machine.stack.prefill_dispatch:
        layers, some = architecture.for_prompts().layer_count, np.minimum(prompts, 1.0)
        seconds = (1.0 - some) * seconds + some * floor_of(architecture, machine, layers).joined(step.total_seconds)
    return np.asarray(np.maximum(seconds, least_seconds(step, machine)))


def joules_of(step: Amount, seconds: Array, machine: Machine) -> np.ndarray:
    """Joules above idle of one chip in steps that take so long: active and marginal ones, under the power limit."""
    parts, factor = joules_above_idle(step, seconds, machine)
    return np.asarray(sum(parts.values(), 0.0) * factor)


def causal_pairs(length: np.ndarray, window: int | None) -> np.ndarray:
    """Query-key pairs of a prompt: sum over its tokens i = 1 .. length of min(i, window)."""
    if window is None:
        return np.asarray(length * (length + 1) / 2)
    short = np.minimum(length, window)
    return np.asarray(short * (short + 1) / 2 + (length - short) * window)
