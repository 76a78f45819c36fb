"""Adapters beside frozen weights (LoRA; Hu et al. 2021): what they add to a layer, and how many parameters they are."""

from __future__ import annotations

from collections.abc import Iterable

from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Matmul, Operation, Stream
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.training.backward import ADAPTER
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import MicroBatch, layer_operations

BESIDE = "attention"
"""Tensor class of the products that have adapters: queries, keys, values and output, as in the paper and in MLPerf."""


def with_adapters(operations: Iterable[Operation], rank: int, layout: TrainingLayout) -> list[Operation]:
    """y[m, n] = x[m, k] W[k, n] becomes x W + (x A) B with A [k, rank] and B [rank, n], in 16 bits; adding the two
    reads both and writes one, for the output projection after its sum over tp was scattered. Rank 0 adds nothing."""
    found: list[Operation] = []
    for operation in operations:
        found.append(operation)
        if rank and isinstance(operation, Matmul) and operation.tensor == BESIDE:
            m, n, name = operation.m, operation.n, operation.name
            cut = layout.norm_cut if name == "output projection" else 1
            found.append(Matmul(f"{name} adapter down", m, rank, operation.k, "bf16", ADAPTER, 1.0, operation.repeat))
            found.append(Matmul(f"{name} adapter up", m, n, rank, "bf16", ADAPTER, 1.0, operation.repeat))
            found.append(Stream(f"{name} adapter sum", ADAPTER, 3.0 * m * n * ACTIVATION_BYTES / cut, operation.repeat))
    return found


def adapter_parameters(architecture: Architecture, layout: TrainingLayout, rank: int) -> float:
    """rank * (k + n) of every product with adapters, all layers, on one chip of a pipeline's stage."""
    total = 0.0
    for layer in architecture.layers if rank else ():
        asked = layer_operations(architecture, layer, MicroBatch(1.0, 128), layout, Precision())
        sides = (o.k + o.n for o in asked if isinstance(o, Matmul) and o.tensor == BESIDE)
        total += layer.count * rank * float(sum(sides))
    return total / layout.pp
