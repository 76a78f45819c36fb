"""The mean step of a steady batch, for many batches at once, without a table: what closed forms are made of."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.energy import joules_above_idle, marginal_joules
from simulator.cost.host_floor import host_floor
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of_all, per_layer, step_cost
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
    `length` tokens (a fraction: now and then a prompt joins). Arrays of one shape describe many steps.
    """
    decoding, context, prompts, length = np.broadcast_arrays(*np.atleast_1d(decoding, context, prompts, length))
    windows = architecture.windows
    batch = Batch(
        tokens=decoding + prompts * length,
        outputs=decoding + prompts,
        decode_context={w: decoding * (context if w is None else np.minimum(context, w)) for w in windows},
        prefill_pairs={w: prompts * causal_pairs(length, w) for w in windows},
    )
    layers = per_layer(architecture, precision, machine)
    zipf = float(machine.stack.expert_popularity)
    operations = architecture.forward(batch, machine.parallelism, precision, zipf)
    spent = cost_of_all(operations, machine, layers, architecture.layer_count)
    table = step_cost(architecture, precision, machine, 1, 1)
    each_step, each_output = (float(np.asarray(part.seconds[OVERHEAD])[1]) for part in (table.tokens, table.outputs))
    overhead = each_step + each_output * batch.outputs
    overhead = overhead + float(table.prefill.seconds[OVERHEAD]) * np.minimum(prompts, 1.0)
    return add([spent, Amount({OVERHEAD: overhead})])


def seconds_of(step: Amount, machine: Machine) -> np.ndarray:
    """Seconds of steps: their work joined with the host's time, and at least what the power limit allows."""
    power = machine.profile.chip.power
    limit = np.asarray(marginal_joules(step, machine)) / (float(power.cap) - float(power.idle))
    return np.asarray(np.maximum(host_floor(machine.stack).joined(step.total_seconds), limit))


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
