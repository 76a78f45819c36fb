"""`validate`: measurements in, simulated against measured out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from simulator.errors import Problem, Where, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.progress import Progress, untold
from simulator.stack.stack import Stacks
from simulator.validation.compare import Figures, Group, Point, figures, groups, reasons
from simulator.validation.inference import Inference
from simulator.validation.kernels.table import KernelTable
from simulator.validation.kernels.unseen import UnseenProducts
from simulator.validation.kinds import KINDS, Kind, kind_of, shipped
from simulator.validation.rows import MeasurementError, Row, verdicts


@dataclass(frozen=True)
class Validation:
    """Points that count, points that are doubted (apart), and rows that are left out, with reasons. `complete` is
    false when it was stopped before all rows were simulated."""

    points: tuple[Point, ...]
    apart: tuple[Point, ...]
    excluded: dict[str, str]
    complete: bool = True

    @cached_property
    def overall(self) -> Figures:
        """The figures over all points that count."""
        return figures(self.points)

    @cached_property
    def groups(self) -> dict[Group, Figures]:
        """The figures of each family, chip, stack and metric with a simulated row."""
        return {key: figures(members) for key, members in groups(self.points).items()}

    @cached_property
    def not_simulated(self) -> dict[str, int]:
        """Reason -> rows, the most frequent first."""
        return reasons(self.points)

    @property
    def doubts(self) -> dict[str, int]:
        """Why rows are kept apart -> rows, the most frequent first."""
        found = Counter(point.row.doubt or "out of line (measurements/excluded.csv)" for point in self.apart)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def assumed(self) -> dict[str, int]:
        """What was taken because rows do not say it -> simulated rows that rest on it."""
        found: dict[str, int] = {}
        for point in self.points:
            if point.assumed and point.simulated is not None:
                found[point.assumed] = found.get(point.assumed, 0) + 1
        return found

    def document(self) -> dict[str, Any]:
        """Plain data, what --json prints: errors as fractions, values in the unit of their row."""
        names = ("family", "chip", "stack", "metric")
        return {
            "complete": self.complete,
            "overall": self.overall.document(),
            "groups": [{**dict(zip(names, key, strict=True)), **f.document()} for key, f in self.groups.items()],
            "rows": [point.document() for point in self.points if point.simulated is not None],
            "not_simulated": self.not_simulated,
            "apart": {
                **figures(self.apart).document(),
                "reasons": self.doubts,
                "rows": [point.document() for point in self.apart if point.simulated is not None],
            },
            "excluded": self.excluded,
            "assumed": self.assumed,
        }


class Stopped(KeyboardInterrupt):
    """Ctrl-C, and what was found before it."""

    def __init__(self, found: Validation) -> None:
        super().__init__()
        self.found = found


def validate(
    files: Sequence[Path | str] = (),
    *,
    stack: str | None = None,
    chip: str | None = None,
    metric: str | None = None,
    kernels: bool = False,
    profiles: Sequence[Path] = (),
    leave_out: Literal["chip", "model"] | None = None,
    keep: Callable[[Row], bool] = lambda row: True,
    progress: Progress = untold,
) -> Validation:
    """Simulate every row of `files` that can be expressed, or of the shipped measurements when there are none: those of
    single kernels with `kernels`, else those of steps and runs. The columns of a file tell its kind (kinds.py).

    stack, chip, metric keep the rows of one stack, of one chip (as rows name it, or a profile's name) and of one
    metric; `profiles` are folders of machines, stacks and models beside the packaged ones. leave_out: rows of inference
    alone, each chip on the stack's numbers of other chips or each model on those of other models (leave_out.py); with
    `kernels` rows of products alone, by chip.
    keep: which rows to look at at all.

    Rows whose note starts with EXCLUDE are dropped, SUSPECT and CAUTION are kept apart; so are the few rows, known by
    their id, that measurements/excluded.csv names. Raise MeasurementError for a
    file that cannot be read, and for a stack, chip or metric that nobody knows; Stopped at Ctrl-C.
    """
    kinds: dict[str, Kind] = {name: kind(profiles) for name, kind in KINDS.items()}
    if leave_out is not None:
        products: KernelTable = UnseenProducts(profiles)
        kinds = {"inference": Inference(profiles, leave_out), "gemm": products}
    placed = [
        (name, row, kinds[name].place(row))
        for name, paths in _by_kind(files or shipped(kernels)).items()
        if name in kinds
        for row in kinds[name].rows(paths)
        if keep(row)
    ]
    if files and not placed:
        raise MeasurementError(
            Problem("there is no measurement in it", Where(str(path)), "write one a line") for path in files
        )
    if len({row.id for _, row, _ in placed}) < len(placed):
        raise MeasurementError("rows of different kinds share an id; give each its own id")
    all_rows = placed
    if stack is not None:
        _check("stack", stack, {*Stacks(profiles).paths(), *(place.stack for _, _, place in placed)})
        placed = [entry for entry in placed if entry[2].stack == stack]
    if chip is not None:
        _check("chip", chip, {*Catalogue(profiles).names(), *(row.hardware for _, row, _ in placed)})
        placed = [entry for entry in placed if chip in (entry[1].hardware, entry[2].profile)]
    if metric is not None:
        _check("metric", metric, {row.metric for _, row, _ in placed})
        placed = [entry for entry in placed if entry[1].metric == metric]
    judged = verdicts()
    wrong = {row.id: judged[row.id].reason for _, row, _ in placed if row.id in judged and judged[row.id].excluded}
    wanted = {row.id for _, row, _ in placed} - set(wrong)
    simulated = placed
    if leave_out is not None:  # rows of other chips and of other models tell what is left of a stack
        stacks = {place.stack for _, _, place in placed}
        simulated = all_rows if kernels else [entry for entry in all_rows if entry[2].stack in stacks]
    profiles_of = {row.id: place.profile for _, row, place in simulated}
    found: dict[str, Point] = {}
    complete = True
    try:
        for name, kind in kinds.items():
            asked = [row for of, row, _ in simulated if of == name and row.id not in wrong]
            for done, point in enumerate(kind.points(asked), 1):
                found[point.row.id] = replace(point, profile=profiles_of[point.row.id])
                progress(f"rows of {name}", done, len(asked))
    except KeyboardInterrupt:
        complete = False
    points = [found[row.id] for _, row, _ in simulated if row.id in wanted and row.id in found]
    apart = {point.row.id for point in points if point.row.apart or point.row.id in judged}
    validation = Validation(
        tuple(point for point in points if point.row.id not in apart),
        tuple(point for point in points if point.row.id in apart),
        wrong,
        complete,
    )
    if not complete:
        raise Stopped(validation)
    return validation


def _by_kind(files: Sequence[Path | str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in map(Path, files):
        found.setdefault(kind_of(path), []).append(path)
    return found


def _check(kind: str, name: str, names: Iterable[str]) -> None:
    known = set(names)
    if name not in known:
        raise MeasurementError(unknown(kind, name, known))
