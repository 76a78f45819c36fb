"""One self-contained page: text, tables that sort, pictures inline; nothing is fetched from anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.report.numerals import significant
from simulator.report.plain import finite
from simulator.report.result import version

if TYPE_CHECKING:
    from pandas import DataFrame

MILLION = 10**6
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers stand at the right."""

    name: str
    number: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number that it sorts by."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table that sorts by a click on a heading."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[Column, Cell], ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An inline SVG with a caption."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: heading, text, notes, table, pictures, code."""

    heading: str
    text: str = ""
    notes: tuple[str, ...] = ()
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Page:
    """All of it. `description` says what was asked."""

    title: str
    description: str = ""
    sections: tuple[Section, ...] = ()
    version: str = field(default_factory=version)

    def html(self) -> str:
        """The page as text."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=self)


def table_of(names: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> Table:
    """A table from plain values: numbers are written with three digits and sort as numbers."""
    columns = tuple(
        Column(name, any(finite(row[index]) is not None for row in rows)) for index, name in enumerate(names)
    )
    return Table(
        columns,
        tuple(tuple((column, cell_of(value)) for column, value in zip(columns, row, strict=True)) for row in rows),
        caption,
    )


def table_of_frame(frame: DataFrame, caption: str = "") -> Table:
    """The same of a DataFrame."""
    return table_of(
        [str(name) for name in frame.columns], [list(row) for row in frame.itertuples(index=False)], caption
    )


def picture(file: Path, caption: str) -> Picture:
    """An SVG file inline. Names inside are made the picture's own, so that several stand on one page."""
    svg = file.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{file.stem}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{file.stem}-\1)", svg)
    return Picture(re.sub(r'href="#([^"]+)"', rf'href="#{file.stem}-\1"', svg), caption)


def cell_of(value: object) -> Cell:
    """A plain value as a cell: counts whole, other numbers with three digits."""
    number = finite(value)
    if number is not None:
        counted = isinstance(value, (int, np.integer)) and abs(number) < MILLION
        return Cell(f"{number:,.0f}" if counted else significant(number), number)
    return Cell("-" if value is None or isinstance(value, float) else str(value))
