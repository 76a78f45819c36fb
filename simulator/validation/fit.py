"""`python -m simulator.validation.fit STACK CHIP`: the numbers of a stack on a chip, from measurements of that pair.

With e = log(simulated / measured) of each row and x = log(number / present value) of each number, it minimises

    sum over rows 2 * (sqrt(1 + (e / SCALE)^2) - 1)  +  sum over numbers (x / spread)^2

(soft-L1: a wild row pulls with a bounded force; the second term keeps a number that no row identifies where it is) by a
damped Gauss-Newton. There are no numbers for a model, a batch or a row. `--leave-one-out` fits once without each model
and prints the errors on the models left out: what to expect of rows that nobody fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from simulator.errors import InputError, unknown
from simulator.quantity import Known, format_quantity
from simulator.stack.stack import Stack
from simulator.validation.predict import predict
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import measurements, verdicts

SCALE = 0.05
"""Error of a row, as a logarithm, from which on it pulls no harder."""

SPREAD = 0.4
"""How far, as a logarithm, a number is expected to lie from its present value."""

STEP = 0.03
ROUNDS = 8
MOST_SHARE = 0.97
"""No fitted share of a peak comes closer to it."""

USUAL = (
    "streaming.bf16",
    "streaming.fp16",
    "layer_overhead",
    "collectives.launch",
    "host_floor",
    "sequence_overhead",
    "vocabulary_overhead",
    "kv_streaming",
    "decode_attention.default",
)
"""Numbers that are fitted when none are named, where the stack has them."""


@dataclass(frozen=True)
class Fit:
    """Numbers by path, and the errors (simulated / measured - 1) of the fitted rows before and after."""

    numbers: dict[str, float]
    before: np.ndarray
    after: np.ndarray


def questions(stack: str, chip: str, files: Sequence[Path] = ()) -> list[Question]:
    """The rows of a stack on a chip (as rows name it) that can be simulated and are not in doubt.

    Raise InputError when there are none.
    """
    interpreter, judged = Interpreter(), verdicts()
    asked = [interpreter.ask(row) for row in measurements(files) if not (row.apart or row.id in judged)]
    found = [q for q in asked if isinstance(q, Question) and q.machine.stack.name == stack]
    simulated = predict(q for q in found if q.row.hardware == chip)
    here = [q for q in found if isinstance(simulated.get(q.row.id), float)]
    if not here:
        raise InputError(unknown(f"chip with rows of stack '{stack}'", chip, {q.row.hardware for q in found}))
    return here


def fit(asked: Sequence[Question], paths: Sequence[str] = (), spread: float = SPREAD) -> Fit:
    """Fit the numbers at `paths` ('layer_overhead', 'streaming.bf16', ...) to the rows. All rows are of one stack."""
    if not 0.0 < spread < float("inf"):
        raise InputError(f"the spread is {spread:g}; write a number above 0, e.g. --spread {SPREAD}")
    stack = asked[0].machine.stack
    chosen = list(paths) or [path for path in USUAL if _has(stack, path)]
    missing = [path for path in chosen if not _has(stack, path)]
    if missing:
        raise InputError(
            f"stack '{stack.name}' has no number above 0 at '{missing[0]}'; fit others: {', '.join(USUAL)}"
        )
    start = np.array([_number(stack, path) for path in chosen])

    def errors(x: np.ndarray) -> np.ndarray:
        return np.asarray(np.log1p(_errors(asked, dict(zip(chosen, (start * np.exp(x)).tolist(), strict=True)))))

    highest = np.array([log(MOST_SHARE / x) if _is_share(path) else 3.0 for path, x in zip(chosen, start, strict=True)])
    x = _minimum(errors, np.maximum(highest, 1e-4), spread)
    numbers = dict(zip(chosen, (start * np.exp(x)).tolist(), strict=True))
    return Fit(numbers, _errors(asked, {}), _errors(asked, numbers))


def _errors(asked: Sequence[Question], numbers: Mapping[str, float]) -> np.ndarray:
    """simulated / measured - 1 of each row, with these numbers in the place of the stack's."""
    stack = asked[0].machine.stack
    for path, value in numbers.items():
        stack = _with(stack, path, value)
    simulated = predict(replace(q, machine=replace(q.machine, stack=stack)) for q in asked)
    return np.array([simulated[q.row.id] for q in asked], dtype=float) / [q.measured for q in asked] - 1.0


def _minimum(errors: Callable[[np.ndarray], np.ndarray], highest: np.ndarray, spread: float) -> np.ndarray:
    """Damped Gauss-Newton from 0 within (-3, highest)."""
    x, damping = np.zeros(len(highest)), 1e-2
    e = errors(x)
    value = _objective(e, x, spread)
    for _ in range(ROUNDS):
        slopes = np.zeros((len(e), len(x)))
        for index in range(len(x)):
            step = -STEP if x[index] + STEP > highest[index] else STEP
            there = x.copy()
            there[index] += step
            slopes[:, index] = (errors(there) - e) / step
        weight = 1.0 / np.sqrt(1.0 + (e / SCALE) ** 2) / SCALE**2
        normal = slopes.T @ (slopes * weight[:, None]) + np.eye(len(x)) / spread**2
        pull = slopes.T @ (weight * e) + x / spread**2
        for _ in range(4):
            there = np.clip(x - np.linalg.solve(normal + damping * np.diag(np.diag(normal)), pull), -3.0, highest)
            e_there = errors(there)
            value_there = _objective(e_there, there, spread)
            if value_there < value:
                break
            damping *= 8.0
        else:
            return x
        gained = value - value_there
        x, e, value, damping = there, e_there, value_there, damping / 4.0
        if gained < 1e-3 * value:
            break
    return x


def _objective(e: np.ndarray, x: np.ndarray, spread: float) -> float:
    return float(np.sum(2.0 * (np.sqrt(1.0 + (e / SCALE) ** 2) - 1.0)) + np.sum((x / spread) ** 2))


def leave_one_out(asked: Sequence[Question], paths: Sequence[str] = (), spread: float = SPREAD) -> np.ndarray:
    """Errors of every row, each from a fit without the rows of its model."""
    models = sorted({q.architecture.name for q in asked})
    if len(models) == 1:
        raise InputError(f"all rows are of {models[0]}: none is left to fit without it")
    found = []
    for model in models:
        others = [q for q in asked if q.architecture.name != model]
        left = [q for q in asked if q.architecture.name == model]
        found.append(_errors(left, fit(others, paths, spread).numbers))
    return np.concatenate(found)


def as_yaml(found: Fit, asked: Sequence[Question], today: date) -> str:
    """An entry of a stack's `on:`, with the number of rows, the residual and the date."""
    machine = asked[0].machine
    pair = f"{machine.stack.name} on {asked[0].row.hardware}"
    source = f"fit of {today} to {len(asked)} rows ({pair}): {_figures(found.after)}"
    lines = ["on:", f"  {machine.profile.chip.name}:", "    label: calibrated", f'    source: "{source}"']
    tables: dict[str, list[str]] = {}
    for path, value in found.numbers.items():
        head, _, key = path.partition(".")
        known = _known(machine.stack, path)
        text = format_quantity(value, known.unit) if known.unit else f"{value:.3g}"
        tables.setdefault(head, []).append(f"{key}: {text}" if key else text)
    for head, entries in tables.items():
        lines.append(f"    {head}: {{{', '.join(entries)}}}" if ":" in entries[0] else f"    {head}: {entries[0]}")
    return "\n".join(lines) + "\n"


def _figures(errors: np.ndarray) -> str:
    size = np.abs(errors)
    return (
        f"median error {100 * np.median(size):.1f} %, 90th percentile {100 * np.quantile(size, 0.9):.1f} %, "
        f"bias {100 * np.median(errors):+.1f} %"
    )


def _known(stack: Stack, path: str) -> Known:
    value: Any = stack
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return value if isinstance(value, Known) else Known(0.0)


def _number(stack: Stack, path: str) -> float:
    return float(_known(stack, path))


def _has(stack: Stack, path: str) -> bool:
    return _number(stack, path) > 0.0


def _is_share(path: str) -> bool:
    return path.startswith(("streaming", "matmul.", "kv_streaming", "decode_attention", "prefill_attention"))


def _with(block: Any, path: str, value: float) -> Any:
    """A copy with the number at `path` exchanged."""
    head, _, rest = path.partition(".")
    if isinstance(block, dict):
        return {**block, head: Known(value)}
    return block.model_copy(update={head: _with(getattr(block, head), rest, value) if rest else Known(value)})


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: print the errors before and after, and the entry for the stack's YAML."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit", description="Fit a stack on a chip.")
    parser.add_argument("stack")
    parser.add_argument("chip", help="as the rows name it, e.g. h100-sxm")
    parser.add_argument("numbers", nargs="*", help=f"paths of numbers; when left out: {' '.join(USUAL)}")
    parser.add_argument("--files", nargs="*", type=Path, default=(), help="CSV files; the shipped ones when left out")
    parser.add_argument("--spread", type=float, default=SPREAD, help=f"width of the prior, as a logarithm ({SPREAD})")
    parser.add_argument("--leave-one-out", action="store_true", help="also fit once without each model")
    given = parser.parse_args(arguments)
    try:
        asked = questions(given.stack, given.chip, given.files)
        found = fit(asked, given.numbers, given.spread)
        unseen = leave_one_out(asked, given.numbers, given.spread) if given.leave_one_out else None
    except InputError as error:
        raise SystemExit(f"fit: {error}") from None
    print(f"# before: {_figures(found.before)}\n# after:  {_figures(found.after)}")
    if unseen is not None:
        print(f"# models left out: {_figures(unseen)}")
    print(as_yaml(found, asked, date.today()), end="")


if __name__ == "__main__":
    main()
