"""What a forward pass keeps for the backward pass: the activations of one layer on one chip."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.model.architecture import Architecture, Layer
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Matmul, Operation
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.training import MicroBatch, Recompute, heads_on_a_chip, layer_operations
from simulator.model.training_layout import TrainingLayout

MASK_BYTES, SCORE_BYTES = 1.0, 5.0
"""Of a value behind dropout; of a stored score: softmax in and out in 16 bits, and its mask (Korthikanti 2022)."""

SUMMED = ("output projection", "ffn down", "shared experts down", "router")
"""Products whose output is added up at once, so that only their input is kept."""


def saved_bytes(
    architecture: Architecture,
    layer: Layer,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    recompute: Recompute,
    fused: bool,
) -> float:
    """Bytes that one layer keeps of a micro-batch.

    none, fused attention: T [8h/c + (4 a d + 4 kv d + 6 f)/t] with a gated FFN; with stored scores
    T h (10/c + 24/t + 5 a s/(h t)) as Korthikanti et al. 2022 (Table 2); c = t with sequence parallelism, else 1.
    Experts keep their rows' inputs, inner values and outputs. selective: without the scores, and for fused kernels
    without the FFN's product. full: the layer's input, 2 T h / c.
    """
    tokens, hidden, cut = micro.tokens(layout), architecture.hidden_size, layout.norm_cut
    if recompute == "full":
        return ACTIVATION_BYTES * tokens * hidden / cut
    operations = layer_operations(architecture, layer, micro, layout, precision)
    values = tokens * hidden / cut * architecture.norms(layer)  # the inputs of the norms
    values += _kept(operations, hidden, cut)
    kept = ACTIVATION_BYTES * values
    if not fused:
        kept += MASK_BYTES * tokens * hidden / cut * layer.parts
        if recompute == "none" and layer.attention:
            square = sum(2.0 * float(o.pairs) for o in operations if isinstance(o, Attention))
            kept += SCORE_BYTES * square * heads_on_a_chip(layer.attention, layout)
    elif recompute == "selective":
        kept -= ACTIVATION_BYTES * _products(operations)
    return kept


def _kept(operations: Iterable[Operation], hidden: int, cut: int) -> float:
    """Inputs and outputs of the products; an input as wide as the model is cut with the norms."""
    values = 0.0
    for operation in operations:
        if isinstance(operation, Matmul):
            rows = float(operation.m)
            if operation.name not in ("router", "shared experts up"):  # they read what another product has kept
                values += rows * operation.k / (cut if operation.k == hidden and operation.tensor != "expert" else 1)
            if operation.name not in SUMMED:
                values += rows * operation.n
    return values


def _products(operations: Iterable[Operation]) -> float:
    """Inputs of the second FFN matrices: an element-wise product that is quickly made again."""
    return sum(float(o.m) * o.k for o in operations if isinstance(o, Matmul) and o.name.endswith("down"))
