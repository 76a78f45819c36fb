"""Numbers of a stack by path: read, exchange, fit.

A path is 'layer_overhead', 'streaming.fp8', or 'streaming.bf16+fp16' for entries of a table that are one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, TypeVar

import numpy as np

from simulator.errors import InputError
from simulator.quantity import Known
from simulator.stack.stack import Stack
from simulator.validation.robust import minimum

SPREAD = 0.4
"""How far, as a logarithm, a number is expected to lie from its present value."""

LEAST = -3.0
"""No fitted number is further below the value expected of it than this, as a logarithm, where no bound is given."""

MOST_SHARE = 0.97
"""No fitted share of a peak comes closer to it."""

MOST = 3.0
"""The same above."""

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
    "decode_split.attention",
    "prefill_attention",
    "expert_matmul",
    "unpacked_matmul",
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


@dataclass(frozen=True)
class Prior:
    """What is expected of the numbers before any row is looked at.

    spread: how far, as a logarithm, numbers lie from their values in `around`, or else from their present ones.
    spreads, bounds: of numbers whose paths begin so ('streaming', 'streaming.fp8'; the longest beginning counts).
    """

    spread: float = SPREAD
    spreads: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    around: Stack | None = None

    def __post_init__(self) -> None:
        for spread in (self.spread, *self.spreads.values()):
            if not 0.0 < spread < float("inf"):
                raise InputError(f"the spread is {spread:g}; write a number above 0, e.g. --spread {SPREAD}")
        for path, (low, high) in self.bounds.items():
            if not 0.0 < low <= high < float("inf"):
                raise InputError(f"the bounds of {path} are {low:g} and {high:g}; write two numbers, the lower first")

    def expected(self, stack: Stack, path: str) -> float:
        """Where the fit begins, within the bounds."""
        found = number(self.around, path) if self.around else 0.0
        low, high = _longest(self.bounds, path) or (0.0, float("inf"))
        return float(min(max(found or number(stack, path), low), high))

    def limits(self, path: str, expected: float) -> tuple[float, float]:
        """Logarithms of the least and the most of the number, over what is expected."""
        low, high = _longest(self.bounds, path) or (
            expected * exp(LEAST),
            MOST_SHARE if _is_share(path) else expected * exp(MOST),
        )
        return min(log(low / expected), -1e-4), max(log(high / expected), 1e-4)

    def spread_of(self, path: str) -> float:
        """Of one number."""
        return _longest(self.spreads, path) or self.spread


WEAK = Prior()
"""Numbers lie around their present values."""

X = TypeVar("X")


def _longest(known: Mapping[str, X], path: str) -> X | None:
    """The entry with the longest beginning of the path."""
    return max(((len(head), value) for head, value in known.items() if path.startswith(head)), default=(0, None))[1]


def fitted(
    stack: Stack,
    paths: Sequence[str],
    errors: Callable[[Mapping[str, float]], np.ndarray],
    prior: Prior = WEAK,
    start: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The numbers at `paths` with which `errors` (numbers -> logarithms of simulated / measured) are least (see
    robust.py), from `start` on, or else from what is expected of them."""
    missing = [path for path in paths if path not in present(stack, paths)]
    if missing:
        raise InputError(
            f"stack '{stack.name}' has no number above 0 at '{missing[0]}'; fit others: {', '.join(USUAL)}"
        )
    expected = np.array([prior.expected(stack, path) for path in paths])

    def numbers(x: np.ndarray) -> dict[str, float]:
        return dict(zip(paths, (expected * np.exp(x)).tolist(), strict=True))

    limits = np.array([prior.limits(path, each) for path, each in zip(paths, expected, strict=True)]).reshape(-1, 2)
    first = np.log([(start or {}).get(path, each) / each for path, each in zip(paths, expected, strict=True)])
    spreads = np.array([prior.spread_of(path) for path in paths])
    return numbers(minimum(lambda x: errors(numbers(x)), limits[:, 1], spreads, limits[:, 0], first))


def _is_share(path: str) -> bool:
    return path.startswith(_SHARES) or path.endswith("bandwidth")
