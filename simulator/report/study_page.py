"""The page of a study: what was asked, what came out, pictures, tables, how to get it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.report.columns import SPREAD, label
from simulator.report.numerals import significant
from simulator.report.page import Cell, Column, Page, Section, Table, cell_of, picture
from simulator.report.plain import finite

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MOST_ROWS = 400


def study_page(
    name: str,
    description: str,
    findings: Sequence[str],
    pictures: Sequence[tuple[Path, str]],
    table: DataFrame,
    text: str,
    command: str,
) -> str:
    """The page as HTML. pictures: SVG files with captions; text: the YAML of the study."""
    sections = (
        Section("What came out", notes=tuple(findings)),
        Section("Pictures", pictures=tuple(picture(file, words) for file, words in pictures if file.is_file())),
        Section("Table", table=_table(table)),
        Section("How to get it again", f"Save as {name}.yaml:", code=text.rstrip()),
        Section("", code=command),
    )
    return Page(name, description, sections).html()


def _table(table: DataFrame) -> Table:
    """The first rows. A mean has its interval over seeds and its band over samples in its own cell; words that are the
    same in every row are said once, below."""
    shown = table.head(MOST_ROWS)
    own = [str(name) for name in shown.columns if not str(name).endswith(tuple(SPREAD))]
    alike = [name for name in own if len(shown) > 1 and _word_of_all(shown[name])]
    columns = [name for name in own if name not in alike]
    headings = tuple(Column(label(name), any(finite(value) is not None for value in shown[name])) for name in columns)
    rows = tuple(
        tuple((heading, _cell(row, name)) for heading, name in zip(headings, columns, strict=True))
        for row in shown.to_dict(orient="records")
    )
    said = [f"In every row: {', '.join(f'{label(name)} {shown[name].iloc[0]}' for name in alike)}."] if alike else []
    if len(table) > MOST_ROWS:
        said.append(f"The first {MOST_ROWS} of {len(table):,} rows; table.csv holds all.")
    if any(f"{name}_ci95" in shown for name in columns):
        said.append("±: half of the 95 % interval over seeds.")
    if any(f"{name}_low" in shown for name in columns):
        said.append("In brackets: the middle 80 % of the samples.")
    return Table(headings, rows, " ".join(said))


def _word_of_all(column: Series) -> bool:
    return bool(column.map(lambda value: isinstance(value, str)).all()) and column.nunique() == 1


def _cell(row: Mapping[str, Any], name: str) -> Cell:
    cell = cell_of(row[name])
    half, low, high = (finite(row.get(f"{name}{end}")) for end in SPREAD)
    text = cell.text + (f" ± {significant(half, 2)}" if half else "")
    band = low is not None and high is not None and low < high
    return Cell(f"{text}\n({significant(low)} to {significant(high)})" if band else text, cell.value)
