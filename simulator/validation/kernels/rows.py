"""Tables of single kernels as they stand in CSV files: one row is one call on one chip, or one collective."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulator.errors import Problem, Where
from simulator.validation import aliases
from simulator.validation.rows import COLUMNS, FOLDER, MeasurementError, Row, text_of

SHIPPED = FOLDER / "kernels"
EMPTY = tuple(name for name in COLUMNS if name != "value")


@dataclass(frozen=True)
class KernelRow(Row):
    """A row with the cells of its table, as text."""

    cells: Mapping[str, str] = field(default_factory=dict, compare=False)

    def number(self, column: str) -> float:
        """A cell as a number; 0 where it is empty."""
        return float(self.cells.get(column) or 0.0)


Cells = dict[str, str]


def records(path: Path, prepared: Callable[[Cells, Path], Cells]) -> Iterator[tuple[int, Cells]]:
    """(line, cells) of a table, as its kind prepares them."""
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    for record in reader:
        yield reader.line_num, prepared({name: (text or "").strip() for name, text in record.items() if name}, path)


def read_kernel_rows(
    path: Path,
    metric: Callable[[Mapping[str, str]], str],
    shape: Sequence[str],
    numbers: Sequence[str],
    prepared: Callable[[Cells, Path], Cells],
) -> list[KernelRow]:
    """The rows of a table; `shape` columns describe a call to people, `numbers` must be numbers.

    Raise MeasurementError with all that is wrong.
    """
    problems: list[Problem] = []
    rows: list[KernelRow] = []
    for line, cells in records(path, prepared):
        absent = [name for name in ("device", "latency", *numbers) if name not in cells]
        if absent:
            raise MeasurementError(Problem(f"no column {', '.join(absent)}", Where(str(path), 1), "add it"))
        where = Where(str(path), line)
        wrong = next((name for name in ("latency", *numbers) if not _is_number(cells.get(name, ""))), None)
        if wrong is not None:
            problems.append(Problem(f"{wrong} {cells.get(wrong)!r} is no number from 0", where, "write a plain number"))
            continue
        if float(cells["latency"]) <= 0:
            problems.append(Problem("latency 0 is not positive", where, "remove the row"))
            continue
        entry = device_entry(cells["device"])
        said = " ".join(f"{name} {cells[name]}" for name in shape if cells.get(name))
        known = {
            **dict.fromkeys(EMPTY, ""),
            "id": f"{path.parent.name}/{path.name.removesuffix('.gz').removesuffix('.csv')}:{line}",
            "hardware": entry["hardware"] if entry else cells.get("device", ""),
            "model": said,
            "engine": f"{cells.get('kernel_source', '')} {cells.get('version', '')}".strip(),
            "metric": metric(cells),
            "unit": "ms",
        }
        rows.append(KernelRow(value=float(cells["latency"]), cells=cells, **known))
    if problems:
        raise MeasurementError(problems)
    return rows


def device_profile(row: KernelRow) -> str | None:
    """The profile that a row's device stands for."""
    return next((entry["profile"] for entry in aliases.table("devices") if entry["hardware"] == row.hardware), None)


def device_entry(text: str) -> aliases.Entry | None:
    """Of a device's own name, or of what a file or folder is called after."""
    words = aliases.plain(text)
    entries = aliases.table("devices")
    return next((entry for entry in entries if entry["device"] in words), None)


def timed_profiles() -> list[str]:
    """Profiles of the devices that libraries were timed on."""
    return list(dict.fromkeys(entry["profile"] for entry in aliases.table("devices") if entry["timed"]))


def library_of(row: KernelRow) -> str | None:
    """The kernel library that a row's source and version stand for."""
    source = row.cells.get("kernel_source", "")
    version = row.cells.get("version", "")
    found = aliases.longest("libraries", source=source, version=version)
    return found[0]["library"] if found else None


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def write_table(records: Iterable[Mapping[str, str]], columns: Sequence[str], path: Path) -> None:
    """Write some columns of a table as .csv.gz, latency with five digits; equal rows give equal bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        cells = {**record, "latency": f"{float(record['latency']):.5g}"}
        writer.writerow([cells.get(name, "") for name in columns])
    path.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))
