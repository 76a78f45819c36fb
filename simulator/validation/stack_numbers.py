"""Numbers of a stack by path: read, exchange, fit.

A path is 'layer_overhead', 'streaming.fp8', or 'streaming.bf16+fp16' for entries of a table that are one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from simulator.errors import InputError
from simulator.quantity import Known
from simulator.stack.stack import Stack
from simulator.validation.robust import minimum

SPREAD = 0.4
"""How far, as a logarithm, a number is expected to lie from its present value."""

MOST_SHARE = 0.97
"""No fitted share of a peak comes closer to it."""

MOST = 3.0
"""No fitted number is further above its present value than this, as a logarithm."""

USUAL = (
    "streaming.bf16+fp16",
    "streaming.fp8",
    "layer_overhead",
    "expert_overhead.bf16",
    "expert_overhead.fp8",
    "collectives.launch",
    "host_floor",
    "sequence_overhead",
    "vocabulary_overhead",
    "kv_streaming",
    "decode_attention.default",
)
"""Numbers that are fitted when none are named, where the stack has them."""

_SHARES = (
    "streaming",
    "prefill_streaming",
    "matmul.",
    "kv_streaming",
    "decode_attention",
    "prefill_attention",
    "expert_matmul",
)


def number(stack: Stack, path: str) -> Known:
    """The number at `path`, of tied ones the first; 0 where there is none."""
    for single in singles(path):
        value: Any = stack
        for part in single.split("."):
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
        if isinstance(value, Known):
            return value
    return Known(0.0)


def singles(path: str) -> list[str]:
    """The paths of the entries that a path ties together."""
    head, _, keys = path.rpartition(".")
    return [f"{head}.{key}" for key in keys.split("+")] if head else [path]


def exchanged(stack: Stack, numbers: Mapping[str, float]) -> Stack:
    """The stack with these numbers in the place of its own."""
    for path, value in numbers.items():
        for single in singles(path):
            stack = _exchanged(stack, single, value)
    return stack


def _exchanged(block: Any, path: str, value: float) -> Any:
    head, _, rest = path.partition(".")
    if isinstance(block, Mapping):
        return {**block, head: Known(value)}
    return block.model_copy(update={head: _exchanged(getattr(block, head), rest, value) if rest else Known(value)})


def present(stack: Stack, paths: Sequence[str]) -> list[str]:
    """Those of the paths at which the stack has a number above 0."""
    return [path for path in paths if number(stack, path) > 0.0]


def fitted(
    stack: Stack, paths: Sequence[str], errors: Callable[[Mapping[str, float]], np.ndarray], spread: float = SPREAD
) -> dict[str, float]:
    """The numbers at `paths`, from those of the stack on, with which `errors` (numbers -> logarithms of simulated /
    measured) are least (see robust.py)."""
    if not 0.0 < spread < float("inf"):
        raise InputError(f"the spread is {spread:g}; write a number above 0, e.g. --spread {SPREAD}")
    missing = [path for path in paths if path not in present(stack, paths)]
    if missing:
        raise InputError(
            f"stack '{stack.name}' has no number above 0 at '{missing[0]}'; fit others: {', '.join(USUAL)}"
        )
    start = np.array([number(stack, path) for path in paths])

    def numbers(x: np.ndarray) -> dict[str, float]:
        return dict(zip(paths, (start * np.exp(x)).tolist(), strict=True))

    highest = [log(MOST_SHARE / value) if _is_share(path) else MOST for path, value in zip(paths, start, strict=True)]
    return numbers(minimum(lambda x: errors(numbers(x)), np.maximum(highest, 1e-4), spread))


def _is_share(path: str) -> bool:
    return path.startswith(_SHARES) or path.endswith("bandwidth")
