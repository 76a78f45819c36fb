"""Measured points as they stand in CSV files: one row is one metric of one configuration on one machine."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from simulator.errors import InputError, Problem, Where, nearest

FOLDER = Path(__file__).parent / "measurements"
SHIPPED = ("gpu_inference.csv.gz", "nongpu_inference.csv.gz")

# unit of a row -> (its size in SI, unit that the figures are kept in)
UNITS = {
    "s": (1.0, "s"),
    "ms": (1e-3, "s"),
    "us": (1e-6, "s"),
    "tok/s": (1.0, "tok/s"),
    "tok/s/user": (1.0, "tok/s"),
    "tok/s/chip": (1.0, "tok/s"),
    "W": (1.0, "W"),
    "J/tok": (1.0, "J/tok"),
    "req/s": (1.0, "req/s"),
}

_NUMBER = re.compile(r"~?(\d+(?:\.\d+)?)\*?(?: max)?")

_DERIVED = re.compile(r"^derived \(ours\):[^.]*\.\s*")

DROPPED = "EXCLUDE"
APART = ("SUSPECT", "CAUTION")


class MeasurementError(InputError):
    """A file of measurements cannot be read."""


@dataclass(frozen=True)
class Row:
    """One measured value, all columns as text but `value`, which is in the row's own `unit`."""

    id: str
    hardware: str
    n_chips: str
    model: str
    dtype_weights: str
    dtype_kv: str
    tp: str
    pp: str
    ep: str
    dp: str
    parallelism: str
    engine: str
    input_len: str
    output_len: str
    concurrency_or_batch: str
    request_rate: str
    metric: str
    value: float
    unit: str
    source: str
    note: str

    @property
    def dropped(self) -> bool:
        """The note says that the row is no measurement of what it seems to measure."""
        return self.note.startswith(DROPPED)

    @property
    def run(self) -> str:
        """The words of the note about the run itself: what was derived from it is left out."""
        return _DERIVED.sub("", self.note)

    @property
    def doubt(self) -> str:
        """Why the row is reported but counts in no figure, "" where it counts."""
        return "doubted in their note" if self.note.startswith(APART) else ""

    @property
    def apart(self) -> bool:
        """Whether it is doubted."""
        return bool(self.doubt)


A = TypeVar("A")
P = ParamSpec("P")


@dataclass(frozen=True)
class Reason:
    """Why a row is not simulated, in words that rows of one kind share."""

    text: str


class RefusedError(Exception):
    """Raised where a row is read and cannot be simulated; the text is the Reason."""


def answered(ask: Callable[P, A]) -> Callable[P, A | Reason]:
    """The function, which returns a Reason where it raised RefusedError."""

    @wraps(ask)
    def answer(*given: P.args, **named: P.kwargs) -> A | Reason:
        try:
            return ask(*given, **named)
        except RefusedError as refused:
            return Reason(str(refused))

    return answer


R = TypeVar("R", bound=Row)
COLUMNS = tuple(field.name for field in fields(Row))
REQUIRED = ("hardware", "model", "metric", "value", "unit")


def amount(text: str) -> float | None:
    """A number that a cell states, "~5", "294*" and "128 max" too."""
    found = _NUMBER.fullmatch(text.strip())
    return float(found[1]) if found else None


def whole(text: str) -> int | None:
    """A whole number that a cell states."""
    value = amount(text)
    return int(value) if value and value == int(value) else None


@overload
def read_rows(path: str | Path) -> list[Row]: ...
@overload
def read_rows(path: str | Path, kind: type[R]) -> list[R]: ...
def read_rows(path: str | Path, kind: type[Any] = Row) -> list[Any]:
    """The rows of a CSV file (or .csv.gz) with some or all of the columns of `kind`, in its order; other columns are
    ignored.

    A row without an id is called by its line. Raise MeasurementError with everything that is wrong.
    """
    path = Path(path)
    text = text_of(path)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or ()
    problems = [_missing(name, columns, path) for name in REQUIRED if name not in columns]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    problems += [Problem(f"two columns are called '{name}'", Where(str(path), 1), "name each once") for name in twice]
    rows: list[Any] = []
    if not problems:
        for record in reader:
            where = Where(str(path), reader.line_num)
            made = _uneven(record, columns, where) or _row(record, where, kind)
            if isinstance(made, Problem):
                problems.append(made)
            else:
                rows.append(made)
    if problems:
        raise MeasurementError(problems)
    return rows


def header(path: Path) -> frozenset[str]:
    """The columns that the first line of a CSV file (or .csv.gz) names. Raise MeasurementError."""
    return frozenset(next(csv.reader(io.StringIO(text_of(path), newline="")), ()))


def text_of(path: Path) -> str:
    """The text of a CSV file (or .csv.gz). Raise MeasurementError."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MeasurementError(Problem(f"cannot read measurements: {why}", Where(str(path)))) from error


def _missing(name: str, columns: Iterable[str], path: Path) -> Problem:
    close = nearest(name, columns)
    mend = f"is '{close}' meant?" if close else f"the first line names the columns: {', '.join(REQUIRED)}, ..."
    return Problem(f"no column '{name}'", Where(str(path), 1), mend)


def _uneven(record: Mapping[Any, Any], columns: Sequence[str], where: Where) -> Problem | None:
    """Of a row with more cells than columns: a comma in a cell moves all that follows under other names."""
    more = len(record.get(None, ()))
    if not more:
        return None
    what = f"{len(columns) + more} cells stand under {len(columns)} columns"
    return Problem(what, where, 'put a cell that has a comma into quotes: "fp8, 2 nodes"')


def _row(record: dict[str, str | None], where: Where, kind: type[R]) -> R | Problem:
    cells = {field.name: (record.get(field.name) or "").strip() for field in fields(kind)}
    number = cells.pop("value")
    try:
        value = float(number)
    except ValueError:
        return Problem(f"value {number!r} is no number", where, "write a plain number, its unit goes into `unit`")
    if not 0 < value < float("inf"):
        return Problem(f"value {number} is not positive and finite", where, "remove the row")
    cells["id"] = cells["id"] or f"{Path(where.file).name}:{where.line}"
    return kind(value=value, **cells)


@dataclass(frozen=True)
class Verdict:
    """On a row of the shipped measurements that is wrong (excluded) or out of line with its own neighbours (apart)."""

    excluded: bool
    reason: str


def verdicts() -> dict[str, Verdict]:
    """Row id -> verdict, from measurements/excluded.csv: few rows, each with its reason."""
    with (FOLDER / "excluded.csv").open(encoding="utf-8", newline="") as file:
        return {
            record["id"]: Verdict(record["verdict"] == "excluded", record["reason"]) for record in csv.DictReader(file)
        }


def shipped() -> Iterator[Row]:
    """The measurements that come with ramwise."""
    for name in SHIPPED:
        yield from read_rows(FOLDER / name)


def measurements(files: Sequence[Path | str] = ()) -> list[Row]:
    """The rows of `files`, or the shipped ones when there are none, less those that are dropped.

    Equal rows count once. Raise MeasurementError when two different rows share an id.
    """
    return once((row for file in files for row in read_rows(file)) if files else shipped())


def once(rows: Iterable[R]) -> list[R]:
    """Each row once, less those that are dropped. Raise MeasurementError when two different rows share an id."""
    seen: dict[str, R] = {}
    for row in rows:
        if seen.setdefault(row.id, row) != row:
            raise MeasurementError(f"two different rows are called '{row.id}'; give each its own id")
    return [row for row in seen.values() if not row.dropped]


def write_compact(rows: Iterable[Row], path: str | Path) -> None:
    """Write rows as a .csv.gz with COLUMNS; equal rows give equal bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([f"{v:.10g}" if isinstance(v, float) else v for v in (getattr(row, n) for n in COLUMNS)])
    Path(path).write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
