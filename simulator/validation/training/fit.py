"""Fits a training stack's numbers to measured steps: `python -m simulator.validation.training.fit STACK`.

Gauss-Newton steps over the logarithms of the numbers, weighted so that the mean |log(simulated / measured)| falls, each
row counted at most LIMIT, so that a few odd rows do not bend the rest. Numbers named with a chip ("H100 SXM5 80GB:
matmul.bf16") belong to that chip, the others to the stack. With a pull, each number counts as one more row whose error
is pull * log(number / where it began), so that few rows leave it where other rows (`--around` another stack) have put
it. Also leaves out one model after the other, fits the rest, and predicts it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path

import numpy as np

from simulator.quantity import Known
from simulator.stack.training.stack import TrainingStack, TrainingStacks
from simulator.validation.rows import Reason, verdicts
from simulator.validation.training.kind import Training, in_closed_form, simulate
from simulator.validation.training.question import TrainingInterpreter, TrainingQuestion
from simulator.validation.training.rows import TrainingRow

LIMIT = 0.3
REPEATS = 2
STEP, NEAR, LARGEST = 0.02, 0.01, 0.5
"""Of a logarithm: the step of a slope, the size below which an error counts alike, and the longest move of a round."""

BOUNDS: dict[str, tuple[float, float]] = {
    "matmul": (0.2, 0.97),
    "attention": (0.1, 0.9),
    "elementwise": (0.5, 4.0),
    "tp_exposed": (0.05, 1.0),
    "dp_exposed": (0.05, 1.5),
    "pp_exposed": (0.05, 1.0),
    "ep_exposed": (0.05, 1.0),
    "dcn_exposed": (0.1, 1.5),
    "dcn_slices": (4.0, 40.0),
    "misaligned": (1.0, 10.0),
    "cast": (0.05, 3.0),
    "permutation": (0.5, 40.0),
    "expert_matmul": (0.2, 1.0),
    "layer_floor": (1e-5, 2e-3),
    "expert_floor": (1e-5, 5e-3),
    "expert_wait": (1e-6, 2e-3),
    "scan": (0.003, 0.3),
    "link": (0.4, 0.95),
    "jitter": (1e-4, 0.03),
    "latency": (1e-6, 3e-4),
    "selective": (0.1, 0.6),
}


@dataclass(frozen=True)
class Fit:
    """Numbers found, by name, and errors of the rows: of the fit, and of each model when it was left out."""

    numbers: dict[str, float]
    errors: np.ndarray
    left_out: np.ndarray


def questions(stack: str, files: Sequence[Path] = Training.shipped) -> list[TrainingQuestion]:
    """The rows of a stack that can be simulated; those in doubt are left out."""
    interpreter, judged = TrainingInterpreter(), verdicts()
    rows = [row for row in Training().rows(files) if isinstance(row, TrainingRow) and row.id not in judged]
    asked = [interpreter.ask(row) for row in rows if not row.apart]
    found = [q for q in asked if isinstance(q, TrainingQuestion) and q.machine.stack.name == stack]
    return [q for q in found if isinstance(in_closed_form(q), float)]


def with_numbers(question: TrainingQuestion, numbers: Mapping[str, float]) -> TrainingQuestion:
    """The question asked of a stack with other numbers."""
    stack: TrainingStack = question.machine.stack
    chip = question.machine.profile.chip.name
    update: dict[str, object] = {}
    tables = dict(stack.matmul)
    for name, value in numbers.items():
        place, _, key = name.rpartition(": ")
        if place and place != chip:
            continue
        if key.startswith("matmul."):
            tables[key.removeprefix("matmul.")] = Known(value)
        else:
            update[key] = Known(value)
    changed = stack.model_copy(update={**update, "matmul": tables})
    return replace(question, machine=replace(question.machine, stack=changed))


def errors(
    asked: Sequence[TrainingQuestion],
    numbers: Mapping[str, float],
    simulate: Callable[[TrainingQuestion], float | Reason] = simulate,
) -> np.ndarray:
    """log(simulated / measured) of each row; LIMIT for one that these numbers refuse."""
    values = [simulate(with_numbers(question, numbers)) for question in asked]
    return np.array(
        [log(v / q.row.value) if isinstance(v, float) else LIMIT for v, q in zip(values, asked, strict=True)]
    )


def search(
    asked: Sequence[TrainingQuestion],
    begin: Mapping[str, float],
    events: np.ndarray,
    pull: float = 0.0,
    rounds: int = 30,
) -> dict[str, float]:
    """The numbers within BOUNDS that make the mean error small. Each round is a damped Gauss-Newton step on the errors
    weighted by 1 / their size (which minimises the sum of sizes), or none when no damping helps.

    events: what they add to the logarithm of each row's closed form, as far as it does not depend on the numbers.
    """
    names = list(begin)
    chips = np.array([question.machine.profile.chip.name for question in asked])
    low, high = np.log([BOUNDS[name.rpartition(": ")[2].partition(".")[0]] for name in names]).T

    def at(point: np.ndarray, rows: Sequence[int] = range(len(asked))) -> np.ndarray:
        numbers = dict(zip(names, np.exp(point).tolist(), strict=True))
        smooth: np.ndarray = errors([asked[row] for row in rows], numbers, in_closed_form) + events[list(rows)]
        return smooth

    def loss(found: np.ndarray, point: np.ndarray) -> float:
        return float(np.minimum(np.abs(found), LIMIT).sum() + pull * np.abs(point - origin).sum()) / len(found)

    origin = np.clip(np.log([begin[name] for name in names]), low, high)
    best, damping = origin, 1e-2
    found = at(best)
    for _ in range(rounds):
        slopes = np.zeros((len(found), len(names)))
        for column, name in enumerate(names):
            step = STEP if best[column] + STEP <= high[column] else -STEP
            place = name.rpartition(": ")[0]
            rows = np.flatnonzero(chips == place).tolist() if place else list(range(len(asked)))
            slopes[rows, column] = (at(best + step * np.eye(len(names))[column], rows) - found[rows]) / step
        weights = np.where(np.abs(found) > LIMIT, LIMIT, 1.0) / np.maximum(np.abs(found), NEAR)
        moved = pull * (best - origin)
        held = 1.0 / np.maximum(np.abs(moved), NEAR)
        normal = slopes.T @ (weights[:, None] * slopes) + pull**2 * np.diag(held)
        force = slopes.T @ (weights * found) + pull * held * moved
        for _ in range(6):
            move = np.linalg.solve(normal + damping * len(found) * np.eye(len(names)), -force)
            point = np.clip(best + np.clip(move, -LARGEST, LARGEST), low, high)
            tried = at(point)
            if loss(tried, point) < loss(found, best) - 1e-6:
                best, found, damping = point, tried, max(damping / 3.0, 1e-5)
                break
            damping *= 4.0
        else:
            break
    return dict(zip(names, np.exp(best).tolist(), strict=True))


def fit(
    asked: Sequence[TrainingQuestion], start: Mapping[str, float], leave_out: bool = True, pull: float = 0.0
) -> Fit:
    """Fit, and then without each model in turn, from the same start. What events add to the closed form is simulated
    anew REPEATS times."""
    numbers = dict(start)
    for _ in range(REPEATS):
        events = errors(asked, numbers) - errors(asked, numbers, in_closed_form)
        numbers = search(asked, start, events, pull)
    names = np.array([question.architecture.name for question in asked])
    left: list[float] = []
    models = sorted(set(names.tolist()))
    for model in models if leave_out and len(models) > 1 else ():
        own, rest = np.flatnonzero(names == model).tolist(), np.flatnonzero(names != model).tolist()
        found = search([asked[row] for row in rest], start, events[rest], pull)
        left += list(errors([asked[row] for row in own], found))
    return Fit(numbers, errors(asked, numbers), np.array(left))


def start(
    asked: Sequence[TrainingQuestion], names: Sequence[str], around: TrainingStack | None = None
) -> dict[str, float]:
    """The present numbers of the stack, or of the one `around` which it lies, under these names; CHIP stands for every
    chip that has rows, matmul for every format that its rows compute in."""
    chips = {
        q.machine.profile.chip.name: around.on_profile(q.machine.profile) if around else q.machine.stack for q in asked
    }
    formats = {
        (q.machine.profile.chip.name, q.machine.profile.compute_format(q.recipe.precision.weights)) for q in asked
    }
    found: dict[str, float] = {}
    for name in names:
        for chip, stack in chips.items() if name.startswith("CHIP: ") else [("", around or asked[0].machine.stack)]:
            key = name.removeprefix("CHIP: ")
            prefix = f"{chip}: " if chip else ""
            if key == "matmul":
                for of, format in sorted(formats):
                    if of == chip or not chip:
                        table = stack.matmul
                        found[f"{prefix}matmul.{format}"] = float(table.get(format) or table["default"])
            else:
                found[prefix + key] = max(float(getattr(stack, key)), BOUNDS[key][0])
    return found


def main() -> None:
    """Print the numbers and the errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("names", nargs="+", help="numbers to fit; 'CHIP: attention' for one on each chip")
    parser.add_argument("--no-leave-out", action="store_true")
    parser.add_argument("--bound", action="append", default=[], metavar="NAME=LOW:HIGH", help="other bounds")
    parser.add_argument("--around", metavar="STACK", help="begin at its numbers")
    parser.add_argument("--pull", type=float, default=0.0, help="towards where they begin")
    given = parser.parse_args()
    for name, _, ends in (bound.partition("=") for bound in given.bound):
        low, _, high = ends.partition(":")
        BOUNDS[name] = float(low), float(high)
    asked = questions(given.stack)
    around = TrainingStacks().load(given.around) if given.around else None
    found = fit(asked, start(asked, given.names, around), not given.no_leave_out, given.pull)
    for name, value in found.numbers.items():
        low, high = BOUNDS[name.rpartition(": ")[2].partition(".")[0]]
        print(f"{name} = {value:.4g}{' (at its bound)' if min(value / low, high / value) < 1.001 else ''}")
    for title, values in (("fit", found.errors), ("one model left out", found.left_out)):
        if len(values):
            sizes = np.abs(np.expm1(values))
            median, p90 = 100 * np.median(sizes), 100 * np.quantile(sizes, 0.9)
            bias = 100 * np.median(np.expm1(values))
            shown = f"median {median:.1f} %, mean {100 * sizes.mean():.1f} %, p90 {p90:.1f} %, bias {bias:+.1f} %"
            print(f"{title}: {len(values)} rows, {shown}")
    worst = sorted(zip(found.errors, asked, strict=True), key=lambda pair: -abs(pair[0]))[:6]
    for value, question in worst:
        print(f"  {100 * np.expm1(value):+6.1f} %  {question.row.id}")


if __name__ == "__main__":
    main()
