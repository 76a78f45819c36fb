"""`python -m simulator.validation.fit STACK CHIP`: the numbers of a stack on a chip, from measurements of that pair.

Robust least squares of log(simulated / measured) over the rows (robust.py). No number is of a model, a batch or a row.
`--leave-one-out` fits once without each model and prints the errors on the models left out: what to expect of rows that
nobody fitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from simulator.errors import InputError, unknown
from simulator.quantity import format_quantity
from simulator.stack.stack import Stack
from simulator.validation.predict import predict
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import measurements, verdicts
from simulator.validation.stack_numbers import SPREAD, USUAL, exchanged, fitted, number, present


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
    stack = asked[0].machine.stack
    chosen = list(paths) or present(stack, USUAL)
    numbers = fitted(stack, chosen, lambda changed: np.asarray(np.log1p(_errors(asked, changed))), spread)
    return Fit(numbers, _errors(asked, stack), _errors(asked, exchanged(stack, numbers)))


def _errors(asked: Sequence[Question], stack: Stack) -> np.ndarray:
    """simulated / measured - 1 of each row, on this stack."""
    simulated = predict(replace(q, machine=replace(q.machine, stack=stack)) for q in asked)
    return np.array([simulated[q.row.id] for q in asked], dtype=float) / [q.measured for q in asked] - 1.0


def leave_one_out(asked: Sequence[Question], paths: Sequence[str] = (), spread: float = SPREAD) -> np.ndarray:
    """Errors of every row, each from a fit without the rows of its model."""
    models = sorted({q.architecture.name for q in asked})
    if len(models) == 1:
        raise InputError(f"all rows are of {models[0]}: none is left to fit without it")
    found = []
    for model in models:
        others = [q for q in asked if q.architecture.name != model]
        left = [q for q in asked if q.architecture.name == model]
        numbers = fit(others, paths, spread).numbers
        found.append(_errors(left, exchanged(left[0].machine.stack, numbers)))
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
        known = number(machine.stack, path)
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
