"""The table of a study on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.report.numerals import significant
from simulator.report.result import finite

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

MOST_ROWS = 60


def study_table(means: DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> Table:
    """A row for each point: what varies in it, model and machine where there are several, its metrics."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    named = [name for name in (*keys, "model", "machine") if name in means and means[name].nunique() > 1]
    for name in named:
        table.add_column(name.replace(".", ".\n", 1) if len(name) > 12 else name, overflow="fold")
    for metric in metrics:
        table.add_column(metric.replace("_", "\n", 1) if len(metric) > 12 else metric, justify="right", overflow="fold")
    for _, row in means.head(MOST_ROWS).iterrows():
        cells = [significant(v) if isinstance(v, float) else str(v) for v in (row[name] for name in named)]
        for metric in metrics:
            half = finite(row.get(f"{metric}_ci95"))
            cells.append(significant(finite(row.get(metric))) + (f" ± {significant(half, 2)}" if half else ""))
        table.add_row(*cells)
    if len(means) > MOST_ROWS:
        table.caption = f"the first {MOST_ROWS} of {len(means):,} points; table.csv holds all"
    return table
