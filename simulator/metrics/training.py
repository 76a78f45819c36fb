"""Rates of a training step: tokens, model FLOPs, and how much of the peak they are."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.step import StepTime
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Matmul, Operation
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import MicroBatch, head_operations, layer_operations
from simulator.model.training.recipe import Recipe

MFU = "6N + 12 L a d s: products and full (non-causal) attention, forward and twice that backward (PaLM 2022)"
HFU = "all FLOPs that the chips compute, recomputed ones included, causal where the kernel is"

WHOLE = TrainingLayout()


def model_flops_per_token(architecture: Architecture, length: int) -> float:
    """FLOPs of a trained token: three times the forward products and the full square of attention."""
    micro = MicroBatch(1.0, length)
    operations = head_operations(architecture, micro, WHOLE)
    total = _products(operations)
    for layer in architecture.layers:
        total += layer.count * _products(layer_operations(architecture, layer, micro, WHOLE, Precision()))
    return 3.0 * total / length


def _products(operations: Iterable[Operation]) -> float:
    total = 0.0
    for operation in operations:
        if isinstance(operation, Matmul):
            total += 2.0 * float(operation.m) * operation.n * operation.k
        elif isinstance(operation, Attention):
            total += 2.0 * float(operation.pairs) * operation.flops_per_pair
    return total


def step_rates(
    architecture: Architecture, recipe: Recipe, step: StepTime, machine: TrainingMachine, seconds: float
) -> dict[str, float]:
    """Keys of a summary: tokens/s of the run and of a chip, mfu and hfu against the peak of the matrices' format."""
    tokens = recipe.global_batch * recipe.length
    rate = tokens / seconds
    format = machine.profile.compute_format(recipe.precision.weights)
    peak = float(machine.profile.chip.matrix.peak[format])
    sixteen = machine.profile.sixteen_bit_peak
    done = sum(sum(stage.flops.values()) for stage in step.stages) / len(step.stages) * step.micro_batches
    each = model_flops_per_token(architecture, recipe.length)
    model = each * rate / machine.chips
    return {
        "tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / machine.chips,
        "model_flops_per_token": each,
        "mfu": model / peak,
        "mfu_bf16": model / sixteen,
        "hfu": done / seconds / peak,
    }
