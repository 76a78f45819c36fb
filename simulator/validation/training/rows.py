"""Rows of training runs: their own columns, and their values as the seconds of a step."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from simulator.errors import Problem, Where
from simulator.validation.rows import MeasurementError, Row, text_of

COLUMNS = (
    "id",
    "hardware",
    "n_chips",
    "chips_per_node",
    "model",
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "ffn_hidden",
    "vocab",
    "seq_len",
    "moe",
    "dtype",
    "global_batch_seqs",
    "micro_batch",
    "tp",
    "pp",
    "dp",
    "ep",
    "cp",
    "vpp",
    "sequence_parallel",
    "zero_stage",
    "recompute",
    "metric",
    "value",
    "unit",
    "source",
    "confidence",
    "note",
)
TELLING = frozenset({"hardware", "model", "global_batch_seqs", "micro_batch", "recompute", "metric", "value", "unit"})


@dataclass(frozen=True)
class TrainingRow(Row):
    """A measured step, with the columns of training in `cells`. What is recalled is kept apart."""

    cells: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def apart(self) -> bool:
        """Doubted by its note, or known from memory only."""
        return super().apart or self.cells.get("confidence") == "recalled"

    def number(self, name: str) -> float | None:
        """A positive number in a column, None where there is none."""
        try:
            value = float(self.cells.get(name) or "")
        except ValueError:
            return None
        return value if value > 0 else None

    def whole(self, name: str, default: int = 1) -> int:
        """A whole number in a column; `default` where there is none."""
        value = self.number(name)
        return int(value) if value else default

    def in_seconds(self, seconds: float, how: str) -> TrainingRow:
        """The same measurement as the seconds of a step."""
        return replace(self, metric="iteration_time_s", unit="s", value=seconds, note=f"{how}; {self.note}")


def read_training_rows(path: Path) -> list[TrainingRow]:
    """The rows of a CSV file (or .csv.gz). Raise MeasurementError with everything that is wrong."""
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""))
    missing = sorted(TELLING - set(reader.fieldnames or ()))
    if missing:
        raise MeasurementError(Problem(f"no column '{missing[0]}'", Where(str(path), 1), "a file of training runs"))
    rows, problems = [], []
    for record in reader:
        cells = {name: (record.get(name) or "").strip() for name in COLUMNS}
        where = Where(str(path), reader.line_num)
        try:
            value = float(cells["value"])
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            problems.append(Problem(f"value {cells['value']!r} is no positive number", where, "write a plain number"))
            continue
        rows.append(_row(cells, value, f"{path.name}:{reader.line_num}"))
    if problems:
        raise MeasurementError(problems)
    return rows


def _row(cells: dict[str, str], value: float, name: str) -> TrainingRow:
    return TrainingRow(
        id=cells["id"] or name,
        hardware=cells["hardware"],
        n_chips=cells["n_chips"],
        model=cells["model"],
        dtype_weights=cells["dtype"],
        dtype_kv="",
        tp=cells["tp"],
        pp=cells["pp"],
        ep=cells["ep"],
        dp=cells["dp"],
        parallelism="",
        engine="",
        input_len=cells["seq_len"],
        output_len="",
        concurrency_or_batch=cells["global_batch_seqs"],
        request_rate="",
        metric=cells["metric"],
        value=value,
        unit=cells["unit"],
        source=cells["source"],
        note=cells["note"],
        cells=cells,
    )


def compact(rows: Iterable[TrainingRow]) -> str:
    """The rows as CSV text with COLUMNS."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(row.cells) for row in rows)
    return text.getvalue()
