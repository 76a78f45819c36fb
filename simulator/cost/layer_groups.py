"""What each group of layers between two exits costs, run by run: the times of tokens that do not go all the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.cost.amount import add
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of_all, per_layer, step_cost
from simulator.model.architecture import Architecture, group_layers
from simulator.model.number_format import Precision
from simulator.model.operation import Batch

ONCE = ("embedding", "embedding norm", "final norm", "head", "stage to stage")
"""Operations that a token passes once, not once a layer."""


def group_seconds(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    sizes: Sequence[int],
    context: float,
    most: int,
) -> list[list[float]]:
    """[group][tokens] seconds of a run of `sizes[group]` layers, from 0 to `most` tokens with a context each.

    The first group, which every token passes, carries what a token costs once: embedding, head, the step's overheads.
    """
    shapes, zipf = architecture.shapes(), float(machine.stack.expert_popularity)
    count = np.arange(most + 1, dtype=float)
    found: list[np.ndarray] = []
    start = 0
    for size in sizes:
        part = replace(architecture, layers=group_layers(shapes[start : start + size]))
        contexts = {w: count * (context if w is None else min(context, w)) for w in part.windows}
        operations = part.forward(Batch(count, 0.0, contexts), machine.parallelism, precision, zipf)
        layers = per_layer(part, precision, machine)
        inside = cost_of_all([o for o in operations if o.name not in ONCE], machine, layers, size)
        overhead = float(np.asarray(layers.total_seconds)) - float(machine.stack.step_overhead)
        found.append(np.asarray(inside.total_seconds) + (count > 0) * overhead)
        start += size
    whole = replace(architecture, layers=group_layers(shapes))
    cost = step_cost(whole, precision, machine, most, most)
    windows = [count * (context if w is None else min(context, w)) for w in cost.windows]
    reading = [price.times(keys) for price, keys in zip(cost.keys, windows, strict=True)]
    waiting = cost.waiting(np.arange(most + 1), windows)
    step = np.asarray(add([cost.tokens, cost.outputs, *reading, waiting]).total_seconds)
    found[0] = found[0] + np.maximum(step - sum(found), 0.0)
    return [times.tolist() for times in found]
