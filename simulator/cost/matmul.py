"""Time of matrix products and of attention."""

from __future__ import annotations

from math import sqrt

import numpy as np

from simulator.cost.amount import Amount, overlapped
from simulator.cost.machine import Machine
from simulator.model.number_format import FORMATS
from simulator.model.operation import Attention, Matmul
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.stack.stack import of_format

ATTENTION_P = 4.0
"""Compute and cache reads inside an attention kernel overlap as a 4-norm (2 to 4 fit alike)."""


def matmul(operation: Matmul, machine: Machine) -> Amount:
    """t = ((2mnk / F)^p + (weights / W + activations / A)^p)^(1/p), times the imbalance of the slowest rank.

    F = peak * plateau of the compute format * w / (w + the stack's half width) with w = sqrt(nk) on the chip,
    W = bandwidth * streaming fraction of the number format, A = bandwidth * activation fraction; p is the stack's.
    No rows, no cost.
    """
    stack = machine.stack
    tier = machine.memory.tier
    rows = np.asarray(operation.m, dtype=float)
    some = rows > 0
    compute_format = machine.compute_format(operation.format)
    rate = machine.matrix_rate(operation.format)
    if stack.matmul_half_width:
        width = sqrt(operation.n * operation.k)
        rate *= width / (width + float(stack.matmul_half_width))
    if operation.tensor == "expert":
        rate *= float(stack.expert_matmul)
    flops = 2.0 * rows * operation.n * operation.k
    weights = some * operation.groups * (operation.n * operation.k * FORMATS[operation.format].bytes)
    activations = rows * ((operation.n + operation.k) * ACTIVATION_BYTES)
    memory = weights / machine.weights_bandwidth(operation.format)
    memory = memory + activations / (machine.bandwidth * float(stack.activation_streaming))
    slowest = operation.imbalance
    seconds = overlapped(flops * slowest / rate, memory * slowest, tier, float(stack.overlap))
    return Amount(seconds, {compute_format: flops}, {tier: weights + activations}).times(operation.repeat)


def attention(operation: Attention, machine: Machine) -> Amount:
    """t = ((pairs * FLOPs / F)^4 + (keys * bytes / W)^4)^(1/4): a straight line in the context.

    F = 16-bit peak * the stack's fraction for the phase, W = bandwidth * its fraction for the cache.
    """
    stack = machine.stack
    tier = machine.memory.tier
    if operation.phase == "decode":
        fraction = of_format(stack.decode_attention, operation.format, stack.name, "share of peak for decode attention")
    else:
        fraction = float(stack.prefill_attention)
    flops = operation.pairs * operation.flops_per_pair
    moved = operation.keys * operation.bytes_per_key
    seconds = overlapped(
        flops / (machine.sixteen_bit_peak * fraction),
        moved / (machine.bandwidth * float(stack.kv_streaming)),
        tier,
        ATTENTION_P,
    )
    return Amount(seconds, {machine.compute_format("bf16"): flops}, {tier: moved}).times(operation.repeat)
