"""The backward pass: what each operation of a forward pass asks when gradients flow back through it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simulator.model.operation import Attention, Collective, Gather, Matmul, Operation, Stream, Vector

ADAPTER = "adapter"
"""Tensor class of what is trained beside frozen weights."""

_REVERSED = {"all_gather": "reduce_scatter", "reduce_scatter": "all_gather"}

ATTENTION_GRADIENTS = 2.0
"""Backward products of attention for one of its forward: four for two (the queries', keys', values' and scores' own
gradients). Kernels that keep no scores compute them again; that is the kernel's cost, not the model's."""


def backward(operations: Iterable[Operation], frozen: bool = False) -> list[Operation]:
    """The operations of the backward pass, last layer's work first.

    y[m, n] = x[m, k] W[k, n] gives dx[m, k] = dy[m, n] W^T (product m, k, n) and dW[k, n] = x^T dy (product k, n, m;
    left out when `frozen`, but of adapters). With g groups dW is g products whose inner size is the rows of one group.
    A gather becomes a scatter of as many rows: only rows that were read get a gradient. All-gathers and
    reduce-scatters change places; element-wise work reads the gradient beside the value, so twice the bytes.
    """
    found: list[Operation] = []
    for operation in reversed(list(operations)):
        if isinstance(operation, Matmul):
            found.append(replace(operation, name=f"{operation.name} dx", n=operation.k, k=operation.n))
            if not frozen or operation.tensor == ADAPTER:
                found.append(_weight_gradient(operation))
        elif isinstance(operation, Attention):
            work = operation.flops_per_pair * ATTENTION_GRADIENTS
            name = f"{operation.name} gradient"
            found.append(
                replace(
                    operation,
                    name=name,
                    phase="backward",
                    flops_per_pair=work,
                    bytes_per_key=ATTENTION_GRADIENTS * operation.bytes_per_key,
                )
            )
        elif isinstance(operation, Vector):
            name = f"{operation.name} gradient"
            found.append(replace(operation, name=name, flops=2.0 * operation.flops, bytes=2.0 * operation.bytes))
        elif isinstance(operation, Collective):
            found.append(
                replace(
                    operation,
                    name=f"{operation.name} gradient",
                    pattern=_REVERSED.get(operation.pattern, operation.pattern),
                )
            )
        elif isinstance(operation, Gather):
            found.append(replace(operation, name=f"{operation.name} scatter", address_known="token"))
        elif isinstance(operation, Stream):
            found.append(replace(operation, name=f"{operation.name} gradient"))
    return found


def _weight_gradient(operation: Matmul) -> Matmul:
    """dW = x^T dy: g products of [k, rows of a group] x [rows of a group, n]."""
    groups = operation.groups
    return replace(
        operation,
        name=f"{operation.name} dW",
        m=operation.k * groups,
        k=float(operation.m / groups),
    )
