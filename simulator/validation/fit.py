"""`python -m simulator.validation.fit STACK CHIP`: the numbers of a stack on a chip, from measurements of that pair.

Robust least squares of log(simulated / measured) over the rows (robust.py). No number is of a model, a batch or a row.
Several chips share the numbers. Rows under load are followed in closed form between runs (surrogate.py), or with
`--runs` run at every trial: slow, but closed forms know nothing of prompts found in a cache, or of percentiles. What is
expected of the numbers beforehand can be said: `--around CHIP` (or `stack`, its numbers for all chips), `--spread`,
`--prior`, `--bounds`. `--leave-one-out` fits once without each model: the errors on the models left out are what to
expect of rows that nobody fitted, and how far the numbers move is their range. `--write` does that too and puts the
numbers into the stack's file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite, nan
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np

from simulator.errors import InputError, RamwiseError, unknown
from simulator.quantity import format_quantity, in_si
from simulator.stack.parameters import on_one_chip
from simulator.stack.stack import Stacks
from simulator.validation.closed_loop import simulate
from simulator.validation.deployment import Loop, PoolLoop
from simulator.validation.kinds import kind_of
from simulator.validation.predict import predict
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import Reason, measurements, verdicts
from simulator.validation.serving import Serving
from simulator.validation.stack_file import Entry, write
from simulator.validation.stack_numbers import SPREAD, USUAL, WEAK, Prior, exchanged, fitted, number, present, singles
from simulator.validation.surrogate import Surrogate, correction, followed, is_searched, surrogates

WHOLE = "stack"
"""What `--around` takes for the numbers that hold for all chips."""

RUNS = 3
"""Times at which rows under load are run in a fit; between two runs it follows surrogates."""

REFUSED = float(np.log(2.0))
"""The logarithmic error of a row that numbers cannot simulate: as of one that is twice too slow."""

Span = tuple[float, float]
Asked = Question | Loop
Q = TypeVar("Q", Question, Loop, Question | Loop)
Errors = Callable[[Mapping[str, float]], np.ndarray]
Follow = Callable[[Sequence[Asked], Mapping[str, float], "Runs"], Errors]
"""(rows, numbers to begin with, runs) -> what a fit follows."""


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
    stack: str,
    chips: Sequence[str],
    files: Sequence[Path] = (),
    folders: Sequence[Path] = (),
    metrics: Sequence[str] = (),
) -> list[Asked]:
    """The rows of a stack on chips (as rows name them) that can be simulated and are not in doubt; of `metrics` alone,
    if there are any.

    Raise InputError when a chip has none.
    """
    serving = bool(files) and all(kind_of(path) == "serving" for path in files)
    source = Serving(folders) if serving else Interpreter(folders)
    known = source.rows(files) if isinstance(source, Serving) else measurements(files)
    judged = verdicts()
    rows = [row for row in known if not (row.apart or row.id in judged)]
    rows = [row for row in rows if not metrics or row.metric in metrics]
    asked = (_closed(source.ask(row)) for row in rows if row.hardware in chips and source.place(row)[1] == stack)
    found = [q for q in asked if isinstance(q, Question | Loop) and q.machine.stack.name == stack]
    found = [q for q in found if not _is_metered(q)]
    loads = surrogates(q.load for q in found if isinstance(q, Question) and q.load)
    plain = _seconds([q for q in found if not _is_run(q)])
    here = [q for q in found if isinstance(plain.get(q.row.id), float) or (_is_run(q) and q.load and loads[q.load.key])]
    for chip in chips:
        if not any(q.row.hardware == chip for q in here):
            fitting = {row.hardware for row in rows if source.place(row)[1] == stack}
            raise InputError(unknown(f"chip with rows of stack '{stack}'", chip, fitting))
    return here


class Runs:
    """What was simulated, so that nothing is simulated twice with the same numbers."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], dict[str, float | Reason]] = {}

    def seconds(self, asked: Sequence[Asked], numbers: Mapping[str, float]) -> dict[str, float | Reason]:
        """Row id -> simulated value in SI units with these numbers, or why there is none."""
        known = self._known.setdefault(tuple(sorted(numbers.items())), {})
        known |= _seconds(_on([q for q in asked if q.row.id not in known], numbers))
        return {q.row.id: known[q.row.id] for q in asked}

    def errors(self, asked: Sequence[Asked], numbers: Mapping[str, float]) -> np.ndarray:
        """simulated / measured - 1 of each row that is simulated; searches are not (surrogate.py)."""
        simulated = self.seconds([q for q in asked if not (_is_run(q) and is_searched(q))], numbers)
        known = [(x, q.measured) for q in asked if isinstance(x := simulated.get(q.row.id), float)]
        return np.array([x / measured - 1.0 for x, measured in known])


def fit(
    asked: Sequence[Asked],
    paths: Sequence[str] = (),
    prior: Prior = WEAK,
    runs: Runs | None = None,
    follow: Follow | None = None,
) -> Fit:
    """Fit the numbers at `paths` ('layer_overhead', 'streaming.bf16', ...) to the rows. All rows are of one stack."""
    runs = runs or Runs()
    stack = asked[0].machine.stack
    chosen = list(paths) or [path for path in present(stack, USUAL) if _is_felt(asked, path)]
    numbers = {path: prior.expected(stack, path) for path in present(stack, chosen)}
    follow = follow or led
    for _ in range(RUNS if follow is led and any(_is_run(q) for q in asked) else 1):
        numbers = fitted(stack, chosen, follow(asked, numbers, runs), prior, numbers)
    return Fit(numbers, runs.errors(asked, {}), runs.errors(asked, numbers))


def leave_one_out(
    asked: Sequence[Asked], found: Fit, prior: Prior = WEAK, runs: Runs | None = None, follow: Follow | None = None
) -> LeftOut:
    """Fit once more without each model. Raise InputError when there is but one."""
    runs = runs or Runs()
    models = sorted({q.architecture.name for q in asked})
    if len(models) == 1:
        raise InputError(f"all rows are of {models[0]}: none is left to fit without it")
    stack, errors, numbers = asked[0].machine.stack, [], [found.numbers]
    for model in models:
        others = [q for q in asked if q.architecture.name != model]
        numbers.append(fitted(stack, list(found.numbers), (follow or led)(others, found.numbers, runs), prior))
        errors.append(runs.errors([q for q in asked if q.architecture.name == model], numbers[-1]))
    ranges = {path: (min(n[path] for n in numbers), max(n[path] for n in numbers)) for path in found.numbers}
    return LeftOut(np.concatenate(errors), ranges)


def _closed(asked: Asked | PoolLoop | Reason) -> Asked | PoolLoop | Reason:
    """Of two pools, the closed form of the one that decodes."""
    return asked.decoding if isinstance(asked, PoolLoop) and asked.row.metric == "tpot_ms" else asked


def _is_run(asked: Asked) -> TypeGuard[Question]:
    return isinstance(asked, Question) and asked.load is not None


def _is_metered(asked: Asked) -> bool:
    """Whether a row states what a system under load draws: no number of a stack says that."""
    return _is_run(asked) and asked.load is not None and asked.load.metered


def led(asked: Sequence[Asked], numbers: Mapping[str, float], runs: Runs) -> Errors:
    """Numbers -> logarithms of simulated / measured, those of rows under load by surrogates that are right at
    `numbers`."""
    loads = [q for q in asked if isinstance(q, Question) and q.load is not None]
    others = [q for q in asked if not _is_run(q)]
    simulated = runs.seconds([q for q in loads if not is_searched(q)], numbers)
    there = _surrogates(loads, numbers)
    corrections = {}
    for q in loads:
        found, seconds = there[q.row.id], simulated.get(q.row.id)
        if found is not None and (is_searched(q) or isinstance(seconds, float)):
            corrections[q.row.id] = correction(q, found, seconds) if isinstance(seconds, float) else None

    def errors(changed: Mapping[str, float]) -> np.ndarray:
        here = _surrogates(loads, changed)
        e = dict.fromkeys((q.row.id for q in loads), 0.0)
        for q in loads:
            found = here[q.row.id]
            if found is not None and q.row.id in corrections:
                e[q.row.id] = followed(q, found, corrections[q.row.id])
        if others:
            e |= dict(zip((q.row.id for q in others), np.log1p(_errors(others, changed)).tolist(), strict=True))
        return np.array([e[q.row.id] for q in asked])

    return errors


def run(asked: Sequence[Asked], _numbers: Mapping[str, float], runs: Runs) -> Errors:
    """Numbers -> logarithms of simulated / measured, those of rows under load from runs; 0 for what is searched and
    not run, REFUSED for what these numbers cannot simulate."""

    def errors(changed: Mapping[str, float]) -> np.ndarray:
        simulated = runs.seconds([q for q in asked if not (_is_run(q) and is_searched(q))], changed)
        known = [(simulated.get(q.row.id, q.measured), q.measured) for q in asked]
        return np.array([np.log(x / measured) if isinstance(x, float) else REFUSED for x, measured in known])

    return errors


def _surrogates(asked: Sequence[Question], numbers: Mapping[str, float]) -> dict[str, Surrogate | None]:
    """Row id -> the surrogate of its load with these numbers."""
    distinct = {q.load.key: q for q in asked if q.load}
    found = surrogates(q.load for q in _on(list(distinct.values()), numbers) if q.load)
    return {q.row.id: found[q.load.key] for q in asked if q.load}


def _on(asked: Sequence[Q], numbers: Mapping[str, float]) -> list[Q]:
    """The same with these numbers in the place of their stack's."""
    return [q.on(exchanged(q.machine.stack, numbers)) for q in asked]


def _seconds(asked: Sequence[Asked]) -> dict[str, float | Reason]:
    """Row id -> simulated value in SI units, or why there is none."""
    loops = [q for q in asked if isinstance(q, Loop)]
    return simulate(loops) | predict(q for q in asked if isinstance(q, Question))


def _is_felt(asked: Sequence[Asked], path: str) -> bool:
    """Whether any row depends on the number."""
    more = 1.05 * number(asked[0].machine.stack, path)
    return not np.array_equal(_errors(asked, {path: more}), _errors(asked, {}))


def _errors(asked: Sequence[Asked], numbers: Mapping[str, float]) -> np.ndarray:
    """simulated / measured - 1 of each row, with these numbers in the place of its stack's."""
    simulated = _seconds(_on(asked, numbers))
    return np.array([simulated[q.row.id] for q in asked], dtype=float) / [q.measured for q in asked] - 1.0


def entries(
    found: Fit, asked: Sequence[Asked], today: date, left: LeftOut | None = None, prior: str = ""
) -> list[Entry]:
    """What the fit says of each of its chips: the numbers with their ranges, the rows, the residual and the date."""
    stack, chips = asked[0].machine.stack, sorted({q.row.hardware for q in asked})
    source = f"fit of {today} to {len(asked)} rows ({stack.name} on {', '.join(chips)}{prior}): {_figures(found.after)}"
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
    return [Entry(chip, source, texts) for chip in sorted({q.machine.profile.chip.name for q in asked})]


def _text(value: float, unit: str) -> str:
    return format_quantity(value, unit) if unit else f"{value:.3g}"


def _figures(errors: np.ndarray) -> str:
    size = np.abs(errors)
    return (
        f"median error {100 * np.median(size):.1f} %, 90th percentile {100 * np.quantile(size, 0.9):.1f} %, "
        f"bias {100 * np.median(errors):+.1f} %"
    )


def prior_of(given: argparse.Namespace) -> Prior:
    """What the options say. Raise InputError."""
    around = None
    if given.around:
        stack = Stacks(given.profiles).load(given.stack)
        if given.around != WHOLE and given.around not in stack.on:
            raise InputError(unknown(f"chip in stack '{stack.name}'", given.around, [WHOLE, *stack.on]))
        around = on_one_chip(stack, stack.on, (given.around,))
    spreads = {path: _number(text) for path, text in map(_assigned, given.prior)}
    bounds = {}
    for path, text in map(_assigned, given.bounds):
        low, _, high = text.partition("..")
        bounds[path] = _number(low), _number(high)
    for path in (*spreads, *bounds):
        if not any(name.startswith(path) for name in given.numbers or USUAL):
            raise InputError(f"none of the fitted numbers begins with '{path}': {' '.join(given.numbers or USUAL)}")
    return Prior(given.spread, spreads, bounds, around)


def _assigned(text: str) -> tuple[str, str]:
    path, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"'{text}' states no value; write for example layer_overhead=0.2 or kv_streaming=0.5..0.95")
    return path, value


def _number(text: str) -> float:
    """A bare number, or a quantity with its unit."""
    try:
        found = float(text)
    except ValueError:
        found = in_si(text) or nan
    if not isfinite(found):
        raise InputError(f"'{text}' is no number; write for example 0.2 or '45 us'")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command: print the errors before and after, and the entry for the stack's YAML."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit", description="Fit a stack on a chip.")
    parser.add_argument("stack")
    parser.add_argument("chip", help="as the rows name it, e.g. h100-sxm; several with commas share the numbers")
    parser.add_argument("numbers", nargs="*", help=f"paths of numbers; when left out: {' '.join(USUAL)}")
    parser.add_argument("--files", nargs="*", type=Path, default=(), help="CSV files; the shipped ones when left out")
    parser.add_argument("--profiles", nargs="*", type=Path, default=(), help="folders of profiles and stacks")
    parser.add_argument("--metrics", nargs="*", default=(), help="rows of these metrics alone")
    parser.add_argument("--around", default="", help=f"chip (in `on:`) or `{WHOLE}`: where numbers are expected")
    parser.add_argument("--spread", type=float, default=SPREAD, help=f"width of the prior, as a logarithm ({SPREAD})")
    parser.add_argument("--prior", nargs="*", default=(), metavar="PATH=SPREAD", help="the width of some numbers")
    parser.add_argument("--bounds", nargs="*", default=(), metavar="PATH=LOW..HIGH", help="the least and the most")
    parser.add_argument("--leave-one-out", action="store_true", help="also fit once without each model")
    parser.add_argument("--runs", action="store_true", help="run rows under load at every trial (slow)")
    parser.add_argument("--write", action="store_true", help="write into the stack's file, with ranges")
    given = parser.parse_args(arguments)
    try:
        runs = Runs()
        asked = questions(given.stack, given.chip.split(","), given.files, given.profiles, given.metrics)
        prior = prior_of(given)
        follow = run if given.runs else led
        found = fit(asked, given.numbers, prior, runs, follow)
        several = len({q.architecture.name for q in asked}) > 1
        wanted = given.leave_one_out or (given.write and several)
        left = leave_one_out(asked, found, prior, runs, follow) if wanted else None
        print(f"# before: {_figures(found.before)}\n# after:  {_figures(found.after)}")
        if left is not None:
            print(f"# models left out: {_figures(left.errors)}")
        new = entries(found, asked, date.today(), left, f", around {given.around}" if given.around else "")
        print("on:", *(each.block() for each in new), sep="\n")
        if given.write:
            path = Stacks(given.profiles).paths()[given.stack]
            for each in new:
                write(path, each)
            print(f"# written to {path}")
    except RamwiseError as error:
        raise SystemExit(f"fit: {error}") from None


if __name__ == "__main__":
    main()
