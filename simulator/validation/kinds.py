"""The kinds of measurements: which columns tell a kind, and how its rows become points. A kind is a file and a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from simulator.errors import Problem, Where
from simulator.validation.compare import Place, Point
from simulator.validation.inference import Inference
from simulator.validation.kernels.kind import KERNEL_TABLES
from simulator.validation.kernels.power import POWER_TABLES
from simulator.validation.rows import REQUIRED, MeasurementError, Row, header
from simulator.validation.serving import Serving
from simulator.validation.training.kind import Training


class Kind(Protocol):
    """Rows of one kind to points. Made with `folders` of machines, stacks and models that come before the packaged."""

    columns: ClassVar[frozenset[str]]
    """A file with all of these columns is of this kind; of several kinds, of the one with the most columns."""

    shipped: ClassVar[tuple[Path, ...]]
    """Files that come with ramwise."""

    def __init__(self, folders: Sequence[Path] = ()) -> None: ...

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files, less those that are no measurement. Raise MeasurementError."""
        ...

    def place(self, row: Row) -> Place:
        """What a row is filtered and grouped by, simulated or not."""
        ...

    def points(self, rows: Sequence[Row]) -> Iterable[Point]:
        """Every row with its simulated value or the reason why there is none, as they are found."""
        ...


KINDS: dict[str, type[Kind]] = {
    "inference": Inference,
    "training": Training,
    **KERNEL_TABLES,
    **POWER_TABLES,
    "serving": Serving,
}


def kind_of(path: Path) -> str:
    """The kind that the first line of a file tells; the most similar one, whose reader will say what is missing.

    Raise MeasurementError when the file cannot be read, or has none of the columns of any kind.
    """
    found = header(path)
    if not any(kind.columns & found for kind in KINDS.values()):
        mend = f"its first line names the columns: {', '.join(REQUIRED)}, ..."
        raise MeasurementError(Problem("this is no table of measurements", Where(str(path), 1), mend))
    missing = {name: len(kind.columns - found) for name, kind in KINDS.items()}
    return min(KINDS, key=lambda name: (missing[name], -len(KINDS[name].columns)))


def shipped(kernels: bool = False) -> list[Path]:
    """The measurements that come with ramwise: of whole steps and runs, or of single kernels."""
    return [path for name, kind in KINDS.items() if (name in KERNEL_TABLES) == kernels for path in kind.shipped]
