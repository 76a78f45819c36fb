"""The figures for people: a table on the terminal, and a folder with the document, the table and two plots."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import OutputError
from simulator.report.charts import save
from simulator.report.numerals import NOTHING, percent, significant
from simulator.report.tables import WIDE
from simulator.validation import plots
from simulator.validation.compare import Figures, Point, figures, worst
from simulator.validation.validation import Validation

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

DOCUMENT = "validation.json"
WORST = 10  # rows that are listed
REASONS = 12  # reasons that are listed, the rest is counted


def print_validation(validation: Validation, width: int = 120, console: Console | None = None) -> None:
    """Print the figures of every group, of the whole, the worst rows and why rows were not simulated."""
    from rich.console import Console

    console = console or Console(width=width)
    for part in _parts(validation, width):
        console.print(part, highlight=False)


def plain_text(validation: Validation, width: int = 120) -> str:
    """The same without colour."""
    from rich.console import Console

    file = io.StringIO()
    print_validation(validation, width, Console(file=file, width=width, color_system=None, emoji=False))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def write_validation(validation: Validation, folder: str | Path) -> list[Path]:
    """Write validation.json, validation.txt and, when it is complete, the plots into `folder`, made if need be; what
    is not goes beside a complete one, into `folder`-partial. Raise OutputError."""
    place = Path(folder)
    try:
        if not validation.complete and _holds_all(place / DOCUMENT):
            place = place.with_name(f"{place.name}-partial")
        place.mkdir(parents=True, exist_ok=True)
        document = json.dumps(validation.document(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        (place / DOCUMENT).write_text(document, encoding="utf-8")
        (place / "validation.txt").write_text(plain_text(validation), encoding="utf-8")
        written = [place / DOCUMENT, place / "validation.txt"]
        for name, figure in (plots.figures(validation) if validation.complete else {}).items():
            written += save(figure, place / name)
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(f"cannot write to '{folder}': {why}; choose another folder with --out DIR") from error
    return written


def _holds_all(document: Path) -> bool:
    """Whether a complete validation stands there."""
    try:
        return bool(json.loads(document.read_text(encoding="utf-8"))["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _parts(validation: Validation, width: int) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [_groups(validation, width >= WIDE), _worst(validation.points, width >= WIDE)]
    notes = [f"{rows:>6,} rows assume {what}" for what, rows in validation.assumed.items()]
    edge = [point for point in validation.points if point.ill_conditioned]
    if edge:
        median = _hundred(figures(edge).median_ape)
        notes.append(
            f"{len(edge):>6,} latencies ill-conditioned: at the edge of what the simulated system holds, where 1 %"
        )
        notes.append(f"         of its throughput is 20 % of the wait or more; counted above, median error {median} %")
    left = list(validation.not_simulated.items())
    if left:
        notes.append(f"{sum(rows for _, rows in left):>6,} rows not simulated:")
        notes += [f"{rows:>6,}   {reason}" for reason, rows in left[:REASONS]]
        rest = left[REASONS:]
        if rest:
            notes.append(f"{sum(rows for _, rows in rest):>6,}   {len(rest)} other reasons")
    if validation.excluded:
        notes.append(f"{len(validation.excluded):>6,} rows left out as wrong (measurements/excluded.csv)")
    apart = figures(validation.apart)
    if apart.rows:
        what = f": median error {_hundred(apart.median_ape)} % of the {apart.simulated} simulated"
        notes.append(f"{apart.rows:>6,} rows in doubt, kept apart{what if apart.simulated else ''}")
        notes += [f"{rows:>6,}   {reason}" for reason, rows in validation.doubts.items()]
    return [*parts, *(Text(note) for note in notes)]


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)


def _groups(validation: Validation, wide: bool) -> Table:
    """A row a group. On a narrow terminal its names share a column, and the rows that could not be simulated go."""
    table = _table("Simulated against measured")
    names = ("family", "chip", "stack", "metric") if wide else ("chip, stack, metric",)
    numbers = ("rows", "simulated", "median\nerror %", "p90\nerror %", "bias\n%")
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers if wide else numbers[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for key, found in validation.groups.items():
        if before and before != key[0]:
            table.add_section()
        before = key[0]
        family, chip, stack, metric = key
        titles = (family, chip, stack, metric) if wide else (f"{chip}, {stack}\n  {metric}",)
        table.add_row(*titles, *_cells(found, wide))
    table.add_section()
    overall = validation.overall
    label = f"all, coverage {percent(overall.coverage)}"
    table.add_row(label, *([""] * (len(names) - 1)), *_cells(overall, wide), style="bold")
    return table


def _cells(found: Figures, wide: bool) -> list[str]:
    sign = NOTHING if found.bias is None else f"{100 * found.bias:+.1f}"
    rows = [f"{found.rows:,}"] if wide else []
    return [*rows, f"{found.simulated:,}", _hundred(found.median_ape), _hundred(found.p90_ape), sign]


def _worst(points: tuple[Point, ...], wide: bool) -> Table:
    table = _table("Farthest off")
    table.add_column("row", overflow="fold")
    for name in ("measured", "simulated", "error %"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in worst(points, WORST if wide else WORST // 2):
        row = point.row
        names = (row.id, row.hardware, str(point.stack), row.model.rpartition("/")[2])
        table.add_row(
            f"{', '.join(names)}\n  {row.metric}: {_conditions(point)}",
            f"{significant(row.value)} {row.unit}",
            significant(point.simulated),
            f"{100 * point.error:+.0f}",
        )
    return table


def _conditions(point: Point) -> str:
    row = point.row
    shown: dict[str, Any] = {
        "": row.parallelism,
        "n": row.n_chips,
        "tp": row.tp,
        "ep": row.ep,
        "batch": row.concurrency_or_batch,
        "in": row.input_len,
        "out": row.output_len,
    }
    words = [f"{name} {value}".strip() for name, value in shown.items() if value]
    return " ".join([*words, row.dtype_weights])


def _hundred(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f}"
