"""What stands beside the rows of a study: another study's row of the same model, and numbers that formulas alone use.

beside: {run: training-bill.yaml}      # its columns as run_cost_usd, run_energy_facility_mwh ...
given: {tokens_per_day: {log: [1e6, 1e12], points: 13}}
derived: {lifetime_usd: run_cost_usd + 1095 * tokens_per_day * cost_per_mtok_usd / 1e6}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import Problem, ScenarioError, Where, unknown
from simulator.study.axes import Values, points
from simulator.study.study import find_study

if TYPE_CHECKING:
    from pandas import DataFrame

OWN = ["replication", "sample", "error"]
"""Columns that each study has for itself."""

MOST_ROWS = 100_000
"""Of a table with what is given: beyond, its means take minutes."""

MOST_GIVEN = 1e300
"""Above it formulas overflow to infinities."""


def find_beside(file: str, folder: Path, within: tuple[Path, ...], at: Where) -> Path:
    """The file of a study that another one in `folder` names. Raise ScenarioError when it is none, or is one of those
    `within` which it is asked for."""
    path = folder / file if (folder / file).is_file() else find_study(file, at)
    if path.resolve() in within:
        raise ScenarioError(Problem(f"'{file}' stands beside itself", at, "name another study, or take it away"))
    return path


def joined(table: DataFrame, name: str, other: DataFrame, at: Where) -> DataFrame:
    """The table with the columns of `other` (its first seed, numbers as they are known) as `name`_column in each row of
    the same model. Raise ScenarioError where a model has no row there, or several.
    """
    known = other["error"].isna() & other["sample"].eq(0) & other["replication"].eq(0)
    rows = other[known].drop(columns=OWN)
    for model in dict.fromkeys(table["model"][table["error"].isna()]):
        count = int(rows["model"].eq(model).sum())
        if count == 0:
            raise ScenarioError(unknown(f"model in beside.{name}", str(model), list(rows["model"]), at))
        if count > 1:
            what = f"beside.{name} has {count} rows of the model '{model}'"
            raise ScenarioError(Problem(what, at, "let one machine and one setting of it remain"))
    columns = {column: f"{name}_{column}" for column in rows if column != "model"}
    twice = next((column for column in columns.values() if column in table), None)
    if twice:
        raise ScenarioError(Problem(f"beside.{name}: there is a column '{twice}'", at, "give it another name"))
    return table.merge(rows.rename(columns=columns), on="model", how="left", sort=False)


def repeated(table: DataFrame, given: Mapping[str, Values], at: Where) -> DataFrame:
    """A row for each combination of the given numbers, for every row of the table."""
    from pandas import DataFrame

    for name in given:
        if name in table.columns:
            raise ScenarioError(Problem(f"given.{name}: there is a column '{name}'", at, "give it another name"))
    combinations = DataFrame(list(points(given)))
    words = [name for name in combinations if combinations[name].map(lambda value: isinstance(value, str)).any()]
    if words:
        raise ScenarioError(Problem(f"given.{words[0]} is text", at, "write plain numbers: [1e6, 1e9]"))
    for name in combinations:
        for value in combinations[name]:
            if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST_GIVEN <= value <= MOST_GIVEN:
                what = f"given.{name} holds {str(value)[:40]}, which is no finite number"
                raise ScenarioError(Problem(what, at, "write plain numbers: [1e6, 1e9]"))
    rows = len(table) * len(combinations)
    if rows > MOST_ROWS:
        what = f"{len(combinations):,} given numbers make {rows:,} rows of {len(table):,}, more than {MOST_ROWS:,}"
        raise ScenarioError(Problem(what, at, "give fewer"))
    return table.merge(combinations, how="cross")
