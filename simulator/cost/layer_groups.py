"""What the layers cost that tokens pass together, run by run: times and joules of tokens that do not go all the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.collective import collective
from simulator.cost.energy import least_seconds
from simulator.cost.machine import Machine
from simulator.cost.step import cost_of, cost_of_all, per_layer, per_sequence
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.paths import Node
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Collective
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.use import ALWAYS, PathSearch

ONCE = ("embedding", "embedding norm", "final norm", "head", "stage to stage")
"""Operations that a token passes once, not once a layer."""


def node_amounts(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    nodes: Sequence[Node],
    context: float,
    most: int,
) -> list[Amount]:
    """One table a node, by tokens from 0 to `most`, each with a context: a run of its layers.

    `architecture` has the nodes' layers one node after the other.
    """
    shapes, zipf = architecture.shapes(), float(machine.stack.expert_popularity)
    stack, count = machine.stack, np.arange(most + 1, dtype=float)
    each = float(stack.sequence_layer_overhead) / machine.parallelism.dp
    found: list[Amount] = []
    start = 0
    for node in nodes:
        grouped = group_layers(shapes[start : start + node.layers])
        layers = tuple(replace(g, places=tuple(place + node.first for place in g.places)) for g in grouped)
        searches = tuple(PathSearch(width, ALWAYS) for width in node.searches)
        part = replace(architecture, layers=layers, searches=searches)
        keys = {w: count * node.seen * (context if w is None else min(context, w)) for w in part.windows}
        operations = part.forward(Batch(count, count, keys), machine.parallelism, precision, zipf)
        overhead = add([per_layer(part, precision, machine), Amount({OVERHEAD: -float(stack.step_overhead)})])
        inside = cost_of_all([o for o in operations if o.name not in ONCE], machine, overhead, node.layers)
        sequences = Amount({OVERHEAD: count * (each * node.layers)})
        found.append(add([inside, overhead.times(count > 0), sequences]))
        start += node.layers
    return found


def once(architecture: Architecture, precision: Precision, machine: Machine, most: int) -> Amount:
    """A table by tokens: what a token passes once (embedding, final norm, head, sampling), and the step's overhead."""
    count = np.arange(most + 1, dtype=float)
    whole = replace(architecture, layers=group_layers(architecture.shapes()), searches=())
    operations = whole.forward(Batch(count, count), machine.parallelism, precision)
    stack = machine.stack
    layers = float(stack.sequence_layer_overhead) / machine.parallelism.dp * whole.layer_count
    overhead = float(stack.step_overhead) * (count > 0) + count * (per_sequence(whole, machine) - layers)
    return add([*(cost_of(o, machine) for o in operations if o.name in ONCE), Amount({OVERHEAD: overhead})])


def hand_over(architecture: Architecture, machine: Machine, most: int) -> Amount:
    """A table by tokens: their hidden states, sent from the chips of one stage to those of the next."""
    if machine.profile.node.fabric.kind == "none":
        raise CapacityError(f"'{machine.profile.name}' is one chip; a pipeline in space needs a machine with several")
    size = np.arange(most + 1.0) * (architecture.hidden_size * ACTIVATION_BYTES / machine.parallelism.tp)
    return collective(Collective("stage to stage", "send_receive", size, 2, stride=machine.parallelism.chips), machine)


def run_seconds(amount: Amount, machine: Machine) -> Array:
    """How long runs of that work take: at least what the chip's power limit allows."""
    return np.asarray(np.maximum(np.asarray(amount.total_seconds), least_seconds(amount, machine)))
