"""The table of a study: a row for each point, its means over seeds, its band over samples, and who is ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simulator.errors import Problem, ScenarioError, Where, unknown
from simulator.metrics.steady import student_t
from simulator.study.space import Row
from simulator.study.store import Result
from simulator.study.study import Crossover, Study

if TYPE_CHECKING:
    from pandas import DataFrame

LOW, HIGH = 0.1, 0.9
"""Quantiles over samples that a band shows."""

MORE = (
    "tokens_per",
    "samples_per",
    "nats_per",
    "hfu",
    "throughput",
    "goodput",
    "attainment",
    "per_joule",
    "mfu",
    "mbu",
    "rate",
)
"""Words in the name of a metric of which more is better; of all others less is."""


def table_of(rows: Sequence[Row], results: Mapping[str, Result], study: Study | Crossover, at: Where) -> DataFrame:
    """All rows, derived columns added. Raise ScenarioError for a bad formula and for a metric that is none."""
    return derived(records(rows, results), study, at)


def records(rows: Sequence[Row], results: Mapping[str, Result]) -> DataFrame:
    """All rows. Raise ScenarioError where no point can run."""
    from pandas import DataFrame

    table = DataFrame.from_records([_record(row, results) for row in rows])
    if len(table) and table["error"].notna().all():
        raise ScenarioError(Problem(f"no point can run: {error}") for error in dict.fromkeys(table["error"]))
    for key in dict.fromkeys(key for row in rows for key in row.values):
        if table[key].map(lambda value: isinstance(value, str)).nunique() > 1:  # a word among numbers: all are words
            table[key] = table[key].map(str)
    return table


def derived(table: DataFrame, study: Study | Crossover, at: Where, shown_at: Where | None = None) -> DataFrame:
    """The table with the study's derived columns. Raise ScenarioError for a bad formula, or (at `shown_at`) a metric
    that is none."""
    for name, formula in study.derived.items():
        if name in table.columns:
            raise ScenarioError(Problem(f"derived.{name}: there is a column '{name}'", at, "give it another name"))
        table[name] = _evaluated(table, formula, f"derived.{name}", at)
    missing = [metric for metric in study.shown if metric not in table.columns]
    if missing:
        raise ScenarioError(unknown("metric", missing[0], [str(name) for name in table.columns], shown_at or at))
    for metric in study.shown:
        if table[metric].map(lambda value: isinstance(value, str)).any():
            raise ScenarioError(Problem(f"the metric '{metric}' is text", shown_at or at, "name a column of numbers"))
    return table


def kept(table: DataFrame, condition: str | None, at: Where) -> DataFrame:
    """The rows that meet a condition on columns, and those that did not run; all without one. Raise ScenarioError for a
    bad condition."""
    if condition is None:
        return table
    stay = table["error"].notna() | _met(table, condition, "keep", at)
    return table[stay].reset_index(drop=True)


def conditioned(table: DataFrame, condition: str | None, metric: str, at: Where) -> DataFrame:
    """The table with no value of `metric` in the rows that do not meet a condition, or that are saturated."""
    table = table.copy()
    out = table["error"].notna()
    if condition:
        out = ~_met(table, condition, "within", at)
    if "saturated" in table.columns:
        out = out | table["saturated"].eq(True)
    table[metric] = table[metric].astype(float).mask(out.astype(bool))
    return table


def _record(row: Row, results: Mapping[str, Result]) -> dict[str, Any]:
    if row.point is None:
        return {**row.values, "error": row.refused}
    place = {
        "model": row.model,
        "machine": row.machine,
        "replication": row.point.replication,
        "sample": row.point.sample,
    }
    result = results[row.key]
    figures = result.get("summary", {})
    limits = {f"slo_{name}": limit for name, limit in (figures.get("slo") or {}).items()}
    figures = {**figures, **figures.get("quality", {}), **(figures.get("messages") or {}), **limits}
    named = {*place, *row.values}
    summary = {k: v for k, v in figures.items() if k not in named and not isinstance(v, (dict, list))}
    return {**row.values, **place, **summary, "error": result.get("error")}


def _evaluated(table: DataFrame, formula: str, name: str, at: Where) -> Any:
    """A formula of column names (in backticks where they hold dots) by pandas' own evaluator."""
    try:
        return table.eval(formula, engine="python")
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = "write arithmetic on columns, those with dots in backticks: output_throughput / `traffic.request_rate`"
        raise ScenarioError(Problem(f"{name}: '{formula}' cannot be computed: {first}", at, mend)) from None


def _met(table: DataFrame, condition: str, name: str, at: Where) -> Any:
    """Which rows meet a condition. Raise ScenarioError for a number that is none."""
    met = _evaluated(table, condition, name, at)
    if str(getattr(met, "dtype", "")) != "bool":
        raise ScenarioError(Problem(f"{name}: '{condition}' is no condition", at, "write tpot_mean_ms <= 50"))
    return met


def means(table: DataFrame, keys: Sequence[str], metrics: Sequence[str]) -> DataFrame:
    """A row for each point: means over its seeds with half of the 95 % interval (_ci95), and over its samples the band
    that holds the middle 80 % (_low, _high). A point of which nothing ran has none, and says why in `error`, a column
    that is there where any run failed."""
    from pandas import concat
    from pandas.api.types import is_numeric_dtype

    by = [name for name in (*keys, "model", "machine") if name in table.columns]
    ran = table["error"].isna()
    numbers = [metric for metric in metrics if is_numeric_dtype(table.loc[ran, metric])]
    figures = table[by].join(table[numbers].where(ran).astype(float))
    written = ~table["sample"].gt(0)  # as the profiles say; what could not be cut into points has no sample
    known = figures[written].groupby(by, sort=False, dropna=False)
    parts = [known[numbers].mean()]
    if table["replication"].nunique() > 1:
        runs = known[numbers].count()
        quantiles = runs.map(lambda count: student_t(count - 1) if count > 1 else float("nan"))
        parts.append((known[numbers].std() * quantiles / runs.pow(0.5)).add_suffix("_ci95"))
    if table["sample"].nunique() > 1:
        drawn = table[ran & ~written]
        sampled = drawn.groupby([*by, "sample"], sort=False, dropna=False)[numbers].mean()
        bands = sampled.groupby(by, sort=False, dropna=False)
        parts += [bands.quantile(LOW).add_suffix("_low"), bands.quantile(HIGH).add_suffix("_high")]
    if not ran.all():
        parts.append(table.groupby(by, sort=False, dropna=False)["error"].first())
    return concat(parts, axis=1).reset_index()


def more_is_better(metric: str) -> bool:
    """Whether a larger value of a metric wins."""
    return any(word in metric for word in MORE)


def several_units(table: DataFrame) -> bool:
    """Whether models count in different units, as classes of AI do: points of a grid are no tokens."""
    return "unit" in table.columns and table["unit"].nunique() > 1


def rankings(table: DataFrame, keys: Sequence[str], metric: str) -> DataFrame:
    """For each combination of the keys: who is ahead in a metric (model and machine), by which factor over the next,
    and in which share of the samples (nan without samples)."""
    from pandas import DataFrame

    good = table[table["error"].isna() & table[metric].notna()]
    by = [key for key in keys if key in table.columns]
    sign = -1.0 if more_is_better(metric) else 1.0
    records = []
    for values, rows in good.groupby(by, sort=False, dropna=False) if by else [((), good)]:
        each = rows.groupby(["sample", "model", "machine"], sort=False)[metric].mean()
        first: dict[int, tuple[str, str]] = {}
        ahead = float("nan")
        for sample, column in each.groupby("sample", sort=False):
            order = (sign * column).sort_values(kind="stable")
            _, model, machine = order.index[0]
            first[int(sample)] = (model, machine)
            if sample == 0 and len(order) > 1:
                best, second = abs(float(order.iloc[0])), abs(float(order.iloc[1]))
                ahead = max(best, second) / max(min(best, second), 1e-300)
        if 0 not in first:
            continue
        sampled = [winner == first[0] for sample, winner in first.items() if sample]
        share = sum(sampled) / len(sampled) if sampled else float("nan")
        place = dict(zip(by, values if isinstance(values, tuple) else (values,), strict=True))
        records.append({**place, "model": first[0][0], "machine": first[0][1], "factor": ahead, "share": share})
    return DataFrame.from_records(records)


def contenders(models: Iterable[str], machines: Iterable[str], table: DataFrame) -> list[str]:
    """Names of contenders: the machine, the model, or both, whichever differs."""
    several = [column for column in ("model", "machine") if table[column].nunique() > 1]
    pairs = zip(models, machines, strict=True)
    if several == ["model"]:
        return [model for model, _ in pairs]
    return [f"{machine}, {model}" if len(several) == 2 else machine for model, machine in pairs]


def contender_of(table: DataFrame) -> list[str]:
    """The contender of each row."""
    return contenders(table["model"], table["machine"], table)
