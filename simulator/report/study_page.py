"""The page of a study: what was asked, what came out, pictures, tables, how to get it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.report.notebook import labelled
from simulator.report.page import Page, Section, picture, table_of_frame

if TYPE_CHECKING:
    from pandas import DataFrame

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
    shown = table.head(MOST_ROWS)
    caption = f"the first {MOST_ROWS} of {len(table):,} rows; table.csv holds all" if len(table) > MOST_ROWS else ""
    sections = (
        Section("What came out", notes=tuple(findings)),
        Section("Pictures", pictures=tuple(picture(file, words) for file, words in pictures if file.is_file())),
        Section("Table", table=table_of_frame(labelled(shown), caption)),
        Section("How to get it again", f"Save as {name}.yaml:", code=text.rstrip()),
        Section("", code=command),
    )
    return Page(name, description, sections).html()
