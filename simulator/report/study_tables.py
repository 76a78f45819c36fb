"""The table of a study on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from simulator.report.numerals import percent, significant
from simulator.report.plain import finite

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
            half, low, high = (finite(row.get(f"{metric}{end}")) for end in ("_ci95", "_low", "_high"))
            text = significant(finite(row.get(metric))) + (f" ± {significant(half, 2)}" if half else "")
            band = low is not None and high is not None and low < high
            cells.append(f"{text}\n{significant(low)} to {significant(high)}" if band else text)
        table.add_row(*cells)
    if len(means) > MOST_ROWS:
        table.caption = f"the first {MOST_ROWS} of {len(means):,} points; table.csv holds all"
    return table


def ranking_lines(rankings: Mapping[str, DataFrame]) -> list[str]:
    """A line for each metric: who is ahead at how many points, and how sure that is."""
    lines = []
    for metric, table in rankings.items():
        if table.empty or len(table[["model", "machine"]].drop_duplicates()) == 0:
            continue
        parts = []
        for (model, machine), rows in table.groupby(["model", "machine"], sort=False):
            sure = rows["share"].dropna()
            share = f", holds in {percent(float(sure.mean()))} of the samples" if len(sure) else ""
            parts.append(f"{machine} with {model} at {len(rows)} of {len(table)} points{share}")
        lines.append(f"ahead in {metric}: " + "; ".join(parts))
    return lines


def area_lines(areas: Mapping[str, float]) -> list[str]:
    """A line for each contender: in which share of the map it is ahead."""
    none = "no contender runs and meets the condition"
    return [f"{name or none}: {percent(share)} of the map" for name, share in areas.items()]


def confirm_lines(asked: DataFrame | None) -> list[str]:
    """How many places of the borders events confirm, and where each lies by closed form and by events (with the 95 %
    interval over seeds), or between which two nodes where a contender drops out there. Empty where none was asked."""
    if asked is None:
        return []
    if asked.empty:
        return ["no border to confirm"]
    lines = [f"borders confirmed by events: {int(asked['agrees'].sum())} of {len(asked)} places"]
    for _, row in asked.iterrows():
        steady, mean, low, high = (finite(row[name]) for name in ("steady", "events", "events_low", "events_high"))
        place = f"{significant(row['from'])} to {significant(row['to'])}" if steady is None else significant(steady)
        seeds = "" if mean is None else f", by events {significant(mean)} ({significant(low)} to {significant(high)})"
        sides = (row["events_below"] or "nobody", row["events_above"] or "nobody")
        said = "" if row["agrees"] else f"; not confirmed: events have {' | '.join(dict.fromkeys(sides))} ahead"
        lines.append(f"  {row['below']} | {row['above']}: {row['along']} {place}{seeds}{said}")
    return lines
