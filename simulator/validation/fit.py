"""`python -m simulator.validation.fit STACK CHIP`: the numbers of a stack on a chip, from measurements of that pair.

Robust least squares of log(simulated / measured) over the rows (robust.py). No number is of a model, a batch or a row.
`--leave-one-out` fits once without each model: the errors on the models left out are what to expect of rows that nobody
fitted, and how far the numbers move is their range. `--write` does that too and puts the numbers into the stack's file.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from simulator.errors import InputError, RamwiseError, unknown
from simulator.quantity import format_quantity
from simulator.stack.stack import Stacks
from simulator.validation.closed_loop import simulate
from simulator.validation.deployment import Loop
from simulator.validation.kinds import kind_of
from simulator.validation.predict import predict
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import Reason, measurements, verdicts
from simulator.validation.serving import Serving
from simulator.validation.stack_file import Entry, write
from simulator.validation.stack_numbers import SPREAD, USUAL, exchanged, fitted, number, present, singles

Span = tuple[float, float]
Asked = Question | Loop


@dataclass(frozen=True)
class Fit:
    """Numbers by path, and the errors (simulated / measured - 1) of the fitted rows before and after."""

    numbers: dict[str, float]
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class LeftOut:
    """Errors of every row, each from a fit without the rows of its model, and how far the numbers moved."""

    errors: np.ndarray
    ranges: dict[str, Span]


def questions(
    stack: str, chips: Sequence[str], files: Sequence[Path] = (), folders: Sequence[Path] = ()
) -> list[Asked]:
    """The rows of a stack on chips (as rows name them) that can be simulated and are not in doubt.

    Raise InputError when a chip has none.
    """
    serving = bool(files) and all(kind_of(path) == "serving" for path in files)
    source = Serving(folders) if serving else Interpreter(folders)
    known = source.rows(files) if isinstance(source, Serving) else measurements(files)
    judged = verdicts()
    rows = [row for row in known if not (row.apart or row.id in judged)]
    asked = (source.ask(row) for row in rows if row.hardware in chips)
    found = [q for q in asked if isinstance(q, Question | Loop) and q.machine.stack.name == stack]
    simulated = _seconds(found)
    here = [q for q in found if isinstance(simulated[q.row.id], float)]
    for chip in chips:
        if not any(q.row.hardware == chip for q in here):
            fitting = {row.hardware for row in rows if source.place(row)[1] == stack}
            raise InputError(unknown(f"chip with rows of stack '{stack}'", chip, fitting))
    return here


def _seconds(asked: Sequence[Asked]) -> dict[str, float | Reason]:
    """Row id -> simulated value in SI units, or why there is none."""
    loops = [q for q in asked if isinstance(q, Loop)]
    return simulate(loops) | predict(q for q in asked if isinstance(q, Question))


def fit(asked: Sequence[Asked], paths: Sequence[str] = (), spread: float = SPREAD) -> Fit:
    """Fit the numbers at `paths` ('layer_overhead', 'streaming.bf16', ...) to the rows. All rows are of one stack."""
    stack = asked[0].machine.stack
    chosen = list(paths) or [path for path in present(stack, USUAL) if _is_felt(asked, path)]
    numbers = fitted(stack, chosen, lambda n: np.asarray(np.log1p(_errors(asked, n))), spread)
    return Fit(numbers, _errors(asked, {}), _errors(asked, numbers))


def _is_felt(asked: Sequence[Asked], path: str) -> bool:
    """Whether any row depends on the number."""
    more = 1.05 * number(asked[0].machine.stack, path)
    return not np.array_equal(_errors(asked, {path: more}), _errors(asked, {}))


def _errors(asked: Sequence[Asked], numbers: Mapping[str, float]) -> np.ndarray:
    """simulated / measured - 1 of each row, with these numbers in the place of its stack's."""
    simulated = _seconds([q.on(exchanged(q.machine.stack, numbers)) for q in asked])
    return np.array([simulated[q.row.id] for q in asked], dtype=float) / [q.measured for q in asked] - 1.0


def leave_one_out(asked: Sequence[Asked], paths: Sequence[str] = (), spread: float = SPREAD) -> LeftOut:
    """Fit once without each model. Raise InputError when there is but one."""
    models = sorted({q.architecture.name for q in asked})
    if len(models) == 1:
        raise InputError(f"all rows are of {models[0]}: none is left to fit without it")
    errors, numbers = [], [fit(asked, paths, spread).numbers]
    for model in models:
        others = [q for q in asked if q.architecture.name != model]
        numbers.append(fit(others, paths, spread).numbers)
        errors.append(_errors([q for q in asked if q.architecture.name == model], numbers[-1]))
    ranges = {path: (min(n[path] for n in numbers), max(n[path] for n in numbers)) for path in numbers[0]}
    return LeftOut(np.concatenate(errors), ranges)


def entry(found: Fit, asked: Sequence[Asked], today: date, left: LeftOut | None = None) -> Entry:
    """What the fit says of its chip: the numbers with their ranges, the rows, the residual and the date."""
    stack, chips = asked[0].machine.stack, sorted({q.row.hardware for q in asked})
    source = f"fit of {today} to {len(asked)} rows ({stack.name} on {', '.join(chips)}): {_figures(found.after)}"
    if left is not None:
        source += f"; {100 * np.median(np.abs(left.errors)):.1f} % on models left out"
    texts: dict[str, str] = {}
    for path, value in found.numbers.items():
        unit = number(stack, path).unit or ""
        text = _text(value, unit)
        if left is not None:
            low, high = (_text(end, unit) for end in left.ranges[path])
            text = f"{{value: {text}, range: [{low}, {high}]}}" if low != high else text
        texts |= dict.fromkeys(singles(path), text)
    return Entry(_chip(asked), source, texts)


def _chip(asked: Sequence[Asked]) -> str:
    names = {q.machine.profile.chip.name for q in asked}
    if len(names) > 1:
        raise InputError(f"an entry holds for one chip, these rows are of {', '.join(sorted(names))}; fit each alone")
    return names.pop()


def _text(value: float, unit: str) -> str:
    return format_quantity(value, unit) if unit else f"{value:.3g}"


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
    parser.add_argument("chip", help="as the rows name it, e.g. h100-sxm; several with commas: boards of one chip")
    parser.add_argument("numbers", nargs="*", help=f"paths of numbers; when left out: {' '.join(USUAL)}")
    parser.add_argument("--files", nargs="*", type=Path, default=(), help="CSV files; the shipped ones when left out")
    parser.add_argument("--profiles", nargs="*", type=Path, default=(), help="folders of profiles and stacks")
    parser.add_argument("--spread", type=float, default=SPREAD, help=f"width of the prior, as a logarithm ({SPREAD})")
    parser.add_argument("--leave-one-out", action="store_true", help="also fit once without each model")
    parser.add_argument("--write", action="store_true", help="write into the stack's file, with ranges")
    given = parser.parse_args(arguments)
    try:
        asked = questions(given.stack, given.chip.split(","), given.files, given.profiles)
        found = fit(asked, given.numbers, given.spread)
        several = len({q.architecture.name for q in asked}) > 1
        wanted = given.leave_one_out or (given.write and several)
        left = leave_one_out(asked, given.numbers, given.spread) if wanted else None
        print(f"# before: {_figures(found.before)}\n# after:  {_figures(found.after)}")
        if left is not None:
            print(f"# models left out: {_figures(left.errors)}")
        new = entry(found, asked, date.today(), left)
        print(f"on:\n{new.block()}")
        if given.write:
            path = Stacks(given.profiles).paths()[given.stack]
            write(path, new)
            print(f"# written to {path}")
    except RamwiseError as error:
        raise SystemExit(f"fit: {error}") from None


if __name__ == "__main__":
    main()
