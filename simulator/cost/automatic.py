"""Places the hottest bytes nearest: `placement: auto`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.place import Place, Placement
from simulator.cost.placement import SCRATCH, held_bytes
from simulator.model.architecture import Architecture
from simulator.model.number_format import FORMATS, Precision
from simulator.model.operation import Batch, Gather, Matmul


def automatic(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    *,
    memory_utilization: float,
    max_tokens: int,
    max_outputs: int,
    kv_tokens: float,
) -> Machine:
    """The machine with every tensor class placed by its heat: bytes read in a decode step over bytes held.

    The step has `max_outputs` sequences. From the hottest on, each class goes to the nearest tier with room, cut layer
    by layer where it is too large for what is left; what the machine's placement names stays there, and takes its room
    first. So do activations, logits and `kv_tokens` of cache, which keeps half of its memory where it would not fit.
    """
    layout = machine.parallelism
    held = held_bytes(architecture, precision, layout, max_tokens, max_outputs)
    room = {name: tier.capacity * (1.0 if tier.far else memory_utilization) for name, tier in machine.tiers.items()}
    main = machine.memory.tier
    cache = kv_tokens / layout.dp * architecture.kv_bytes_per_token(precision, layout)
    cache += max_outputs / layout.dp * architecture.kv_bytes_per_sequence(precision, layout)
    scratch = sum(held.pop(tensor) for tensor in SCRATCH)
    named = {tensor: place for tensor in held if (place := machine.placement.of(tensor)) is not None}
    first = {tensor: held.pop(tensor) for tensor in named} | {"activation": scratch, "kv": cache}
    for tensor, size in first.items():
        for tier, share in machine.parts(tensor):
            most = max(0.0, room[tier.name]) / 2.0 if tensor == "kv" else size
            room[tier.name] -= min(size * share, most)
        place = named.get(tensor)
        if place is not None and place.near is not None:
            room[place.near.tier] -= size * place.near.share
    read = bytes_read(architecture, precision, machine, max_outputs)
    places: dict[str, Place] = dict(named)
    for tensor in sorted(held, key=lambda name: -read.get(name, 0.0) / held[name]):
        shares: dict[str, float] = {}
        left = held[tensor]
        for name, free in room.items():
            taken = min(left, max(0.0, free))
            if taken > 0.0:
                shares[name] = taken / held[tensor]
                room[name] = free - taken
                left -= taken
        if left > 0.0:  # nowhere: the sheet says so
            shares[main] = shares.get(main, 0.0) + left / held[tensor]
        places[tensor] = Place(shares)
    return replace(machine, placement=Placement({**machine.placement.places, **places}))


def bytes_read(
    architecture: Architecture, precision: Precision, machine: Machine, sequences: int
) -> Mapping[str, float]:
    """Tensor class -> bytes of weights that one chip reads in a decode step of so many sequences."""
    zipf = float(machine.stack.expert_popularity)
    total: dict[str, float] = {}
    for operation in architecture.forward(
        Batch(float(sequences), float(sequences)), machine.parallelism, precision, zipf
    ):
        if isinstance(operation, Matmul):
            size = operation.groups * operation.n * operation.k * FORMATS[operation.format].bytes
        elif isinstance(operation, Gather):
            size = operation.unique_rows * operation.row_bytes
        else:
            continue
        total[operation.tensor] = total.get(operation.tensor, 0.0) + float(np.asarray(size * operation.repeat))
    return total
