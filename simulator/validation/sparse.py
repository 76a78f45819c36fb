"""Rows of models of whose neurons a token uses few, on a host and its GPU (PowerInfer); means over several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

from simulator.cost.automatic import automatic
from simulator.cost.machine import Machine
from simulator.cost.place import Place, Placement
from simulator.model.architecture import Architecture
from simulator.model.ffn import FFN
from simulator.model.ffn.activation_sparse import ActivationSparseFFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.number_format import Precision
from simulator.quantity import Known
from simulator.validation import aliases
from simulator.validation.rows import Reason, Row

MOST = 0.8
"""`busiest` in aliases/sparse.csv: the share of the neurons from which so much of the activations come."""

FILLED = 0.9
"""Share of the GPU's memory that weights may fill."""


def members(row: Row) -> list[Row]:
    """One row for each model, where the row's value is a mean over several."""
    models = [e["member"] for e in aliases.table("model_sets") if aliases.plain(e["model"]) == aliases.plain(row.model)]
    return [replace(row, id=f"{row.id}/{model}", model=model) for model in models]


def mean(values: Sequence[float | Reason]) -> float | Reason:
    """Of all of them, or the first reason why there is none."""
    found = [value for value in values if not isinstance(value, Reason)]
    lacking = next((value for value in values if isinstance(value, Reason)), None)
    return lacking or sum(found) / len(found)


def sparse(architecture: Architecture, entry: aliases.Entry) -> Architecture:
    """The model with as many active neurons as its table says, and predictors of so many of its parameters."""
    widths = [layer.ffn.width * layer.count for layer in architecture.layers if isinstance(layer.ffn, DenseFFN)]
    of_rank_one = sum(widths) + architecture.hidden_size * architecture.layer_count
    rank = round(float(entry["predictor"]) * architecture.total_parameters() / of_rank_one)
    return _changed(architecture, entry, rank, 0.0)


def in_host(
    architecture: Architecture, precision: Precision, machine: Machine, tokens: float
) -> tuple[Architecture, Machine]:
    """The model and machine with the GPU as full as it can be: attention and predictors first, then the neurons that
    are active most often; the others, and the cache, lie in the host's memory, where the host computes.

    Neurons ranked by activity: their first share r makes r^b of the activations, b from `busiest`.
    """
    entry = aliases.exact("sparse", "model", architecture.name)
    ffn = next((layer.ffn for layer in architecture.layers if isinstance(layer.ffn, ActivationSparseFFN)), None)
    far = machine.host_tier
    if entry is None or ffn is None or not far:
        return architecture, machine
    held = architecture.weight_bytes_per_chip(precision, machine.parallelism)
    neurons = held.pop(ffn.tensor)
    room = FILLED * float(machine.memory.capacity) * float(machine.memory.usable) - sum(held.values())
    busiest = log(MOST) / log(float(entry["busiest"]))
    resident = min(1.0, max(0.0, room) / neurons)
    there = Place({far: 1.0})
    placed = replace(machine, placement=Placement({ffn.tensor: there, "kv": there, "embedding": there}))
    split = _changed(architecture, entry, ffn.predictor_rank, resident**busiest)
    size = {"memory_utilization": FILLED, "max_tokens": 1, "max_outputs": 1, "kv_tokens": tokens}
    return split, automatic(split, precision, placed, **size)  # type: ignore[arg-type]


def _changed(architecture: Architecture, entry: aliases.Entry, rank: int, resident: float) -> Architecture:
    """`resident`: the share of the activations that come from neurons on the GPU."""
    active = float(entry["active"])

    def changed(ffn: FFN | None) -> FFN | None:
        if not isinstance(ffn, DenseFFN | ActivationSparseFFN):
            return ffn
        hot = Known(active * resident)
        return ActivationSparseFFN(ffn.width, Known(active), hot, rank, ffn.matrices)

    layers = tuple(replace(layer, ffn=changed(layer.ffn)) for layer in architecture.layers)
    return replace(architecture, name=entry["model"], layers=layers)
