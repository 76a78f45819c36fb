"""What a notebook shows of results: a short table with the units in the names of its columns, charts by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError, unknown
from simulator.report.columns import label
from simulator.report.numerals import NOTHING, significant
from simulator.report.plain import finite, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_ROWS = 60

Charts = Mapping[str, Callable[[], "Figure | None"]]
"""Name of a chart -> what draws it; the first one is drawn when none is named."""


class Shown(ABC):
    """Results that a notebook shows as their `frame`, and draws by `plot`."""

    @abstractmethod
    def frame(self) -> DataFrame:
        """The figures that matter, a row each; names of columns are words with units."""

    @abstractmethod
    def charts(self) -> Charts:
        """The charts that there are of these results."""

    def plot(self, chart: str | None = None) -> Figure:
        """A chart by its name, the first of `charts` when none is named. Raise InputError for a name that is none, and
        where there is nothing to draw."""
        charts = self.charts()
        name = next(iter(charts), "") if chart is None else chart
        if name not in charts:
            raise InputError(unknown("chart", name, charts))
        figure = charts[name]()
        if figure is None:
            raise InputError(
                f"the chart '{name}' has nothing to draw; others: {', '.join(c for c in charts if c != name)}"
            )
        return figure

    def _repr_html_(self) -> str:
        return html(self.frame())


def html(frame: DataFrame) -> str:
    """A table as HTML: numbers with three digits, the first and last rows of a long one."""
    known = frame.astype(object).where(frame.notna(), None)
    text = known.map(_written) if len(known.columns) else known
    return str(text.to_html(index=False, max_rows=MOST_ROWS, na_rep=NOTHING))


def _written(value: object) -> str:
    number = finite(value)
    if number is None:
        return NOTHING if value is None else str(value)
    return significant(number)


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """A row for each mapping, its values under `columns`, which are named in words with units."""
    from pandas import DataFrame

    return DataFrame(
        [[plain(row.get(key)) for key in columns] for row in rows], columns=[label(key) for key in columns]
    )


def labelled(table: DataFrame) -> DataFrame:
    """The same table, its columns named in words with units."""
    return table.rename(columns={name: label(str(name)) for name in table.columns})


def flat(summaries: Sequence[Mapping[str, Any]]) -> DataFrame:
    """All numbers and words of summaries, a row each, under their keys; what is inside another one as outer.inner."""
    from pandas import DataFrame

    return DataFrame.from_records([dict(_leaves(plain(summary))) for summary in summaries])


def _leaves(summary: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in summary.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            found.append((f"{prefix}{name}", value))
    return found
