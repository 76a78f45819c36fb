"""What a forward pass keeps for the backward pass: the activations of one layer on one chip."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.model.architecture import Architecture, Layer
from simulator.model.number_format import FORMATS, Precision
from simulator.model.operation import Attention, Matmul, Operation
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import MicroBatch, heads_on_a_chip, layer_operations
from simulator.model.training.recipe import Recipe
from simulator.model.training.recompute import Recompute, forgotten

MASK_BYTES, SCORE_BYTES = 1.0, 5.0
"""Of a value behind dropout; of a stored score: softmax in and out in 16 bits, and its mask (Korthikanti 2022)."""

SHARING = ("router", "shared experts up")
"""Products that read what another product has kept."""

AGAIN = frozenset(("experts down", "ffn down")), frozenset(("query expansion", "latent expansion", "experts down"))
"""Of fused stacks in selective mode, products whose inputs and whose outputs are not kept: quick ones for their size
(DeepSeek-V3 2024)."""

Names = tuple[frozenset[str], frozenset[str]]
NOTHING: Names = (frozenset(), frozenset())

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
    without what AGAIN names; named parts: without what they make. full: the layer's input, 2 T h / c.
    """
    tokens, hidden, cut = micro.tokens(layout), architecture.hidden_size, layout.norm_cut
    if recompute == "full":
        return ACTIVATION_BYTES * tokens * hidden / cut
    operations = layer_operations(architecture, layer, micro, layout, precision)
    again = AGAIN if fused and recompute == "selective" else NOTHING
    if isinstance(recompute, frozenset):
        again = forgotten(recompute)
    kept = ACTIVATION_BYTES * tokens * hidden / cut * architecture.norms(layer)  # the inputs of the norms
    kept += _kept(operations, hidden, cut, again)
    if not fused:
        kept += MASK_BYTES * tokens * hidden / cut * layer.parts
        if layer.attention and recompute != "selective" and "core_attn" not in recompute:
            square = sum(2.0 * float(o.pairs) for o in operations if isinstance(o, Attention))
            kept += SCORE_BYTES * square * heads_on_a_chip(layer.attention, layout)
    return kept


def saved_by_mean_layer(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, fused: bool, whole: bool = False
) -> float:
    """The mean over all layers in the recipe's micro-batch; `whole`: where a layer is computed again, all of it."""
    mode = "none" if whole else recipe.recompute
    return sum(
        layer.count
        / architecture.layer_count
        * saved_bytes(architecture, layer, recipe.micro, layout, recipe.precision, mode, fused)
        for layer in architecture.layers
    )


def _kept(operations: Iterable[Operation], hidden: int, cut: int, again: Names) -> float:
    """Bytes of the inputs (in the format of the product when that is narrower) and outputs of the products; an input
    as wide as the model is cut with the norms."""
    kept, (inputs, outputs) = 0.0, again
    for operation in operations:
        if isinstance(operation, Matmul):
            rows = float(operation.m)
            whole = operation.k == hidden and operation.tensor != "expert"
            if not operation.name.startswith(SHARING) and operation.name not in inputs:
                width = min(ACTIVATION_BYTES, FORMATS[operation.format].bytes)
                kept += width * rows * operation.k / (cut if whole else 1)
            if operation.name not in SUMMED and operation.name not in outputs:
                kept += ACTIVATION_BYTES * rows * operation.n
    return kept
