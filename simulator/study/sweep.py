"""A sweep: every point of a study, computed once, in parallel, kept by its content; a table of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError, Problem, RamwiseError, ScenarioError, Where, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.steady import student_t
from simulator.scenario import Scenario
from simulator.study.axes import points
from simulator.study.content import Contents
from simulator.study.executor import computed
from simulator.study.point import Point, points_of, simulated
from simulator.study.steady import steady_summaries
from simulator.study.store import STORE, Result, Store
from simulator.study.study import Study, read_study
from simulator.yaml_source import Source, read_yaml

if TYPE_CHECKING:
    from pandas import DataFrame

PLACE = ("model", "machine", "replication")


Row = tuple[Mapping[str, Any], Point | None, str]
"""Values of what varies, the point, and its key; or no point and why there is none."""


@dataclass(frozen=True)
class Sweep:
    """The rows of a study in its order: values, model, machine, replication, all numbers of the summary, error.

    computed: points that were simulated now; reused: rows whose result was already known.
    """

    name: str
    study: Study
    table: DataFrame
    computed: int
    reused: int

    @property
    def keys(self) -> list[str]:
        """The columns that vary."""
        return [*self.study.axes, *(key for group in self.study.together for key in group)]

    @property
    def failed(self) -> DataFrame:
        """The rows that have an error in the place of results."""
        return self.table[self.table["error"].notna()]

    def means(self) -> DataFrame:
        """A row for each point: means over its replications, and half of the 95 % interval (_ci95) of each metric."""
        return _means(self)

    def _repr_html_(self) -> str:
        return str(self.means().to_html(index=False, float_format="%.4g"))


def sweep(
    path: Path,
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    folders: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Sweep:
    """Compute what is not yet in `out`, and return all rows. `progress(done, of)` counts points to compute.

    A point that cannot run (a model that does not fit, say) is a row with its error. Raise ScenarioError for a study
    that is wrong as a whole.
    """
    study, source, scenario = read_study(path)
    base = read_yaml(scenario, error=ScenarioError)
    beside = scenario.resolve().parent
    key_of = Contents((*folders, beside)).key if study.evaluate == "events" else Scenario.model_dump_json
    rows, wanted = _points(study, base, (tuple(folders), beside), source.where(("axes",), key=True), key_of)
    if study.evaluate == "events":
        results, count = _by_events(wanted, Store(out / STORE), workers, cluster, progress)
    else:
        results, count = dict(_in_closed_form(wanted)), len(wanted)
    records = [_row(values, point, results, key) for values, point, key in rows]
    table = _table(records, study, source.where(("derived",)))
    return Sweep(path.stem, study, table, count, len(rows) - count)


def _points(
    study: Study, base: Source, folders: tuple[tuple[Path, ...], Path], at: Where, key_of: Callable[[Scenario], str]
) -> tuple[list[Row], dict[str, Point]]:
    """The rows of the study in order, and its distinct points by key. Raise what is wrong when no point can run."""
    rows: list[Row] = []
    distinct: dict[str, Point] = {}
    refused: InputError | None = None
    first, beside = folders
    catalogue = Catalogue((*first, beside))
    for changes in points(study.axes, study.together):
        try:
            found = list(points_of(base, changes, study.replications, catalogue, first, at))
            keys = [key_of(point.scenario) for point in found]
        except InputError as error:
            refused = refused or error
            rows.append((changes, None, str(error).splitlines()[0]))
            continue
        for point, key in zip(found, keys, strict=True):
            rows.append((point.values, point, key))
            distinct.setdefault(key, point)
    if refused is not None and not distinct:
        raise refused
    return rows, distinct


def _by_events(
    wanted: Mapping[str, Point],
    store: Store,
    workers: int,
    cluster: str | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Result], int]:
    """The results of all points; those that the store does not have are simulated and kept in it."""
    new = {key: point for key, point in wanted.items() if key not in store}
    passing: dict[str, Result] = {}
    for done, (key, result, lasting) in enumerate(_computed(new, workers, cluster), 1):
        if lasting:
            store.add(key, result)
        else:
            passing[key] = result
        if progress is not None:
            progress(done, len(new))
    return {key: passing.get(key) or store[key] for key in wanted}, len(new)


def _in_closed_form(wanted: Mapping[str, Point]) -> Iterator[tuple[str, Result]]:
    for key, found in steady_summaries(wanted):
        failed = isinstance(found, RamwiseError)
        yield key, {"error": str(found).splitlines()[0]} if failed else {"summary": found}


def _computed(wanted: Mapping[str, Point], workers: int, cluster: str | None) -> Iterator[tuple[str, Result, bool]]:
    """(key, result, whether it would always be so) of each point."""
    for (key, _), answer in computed(_work, wanted.items(), workers, cluster):
        if isinstance(answer, RamwiseError):
            yield key, {"error": str(answer).splitlines()[0]}, True
        elif isinstance(answer, Exception):
            yield key, {"error": f"{type(answer).__name__}: {answer}"}, False
        else:
            yield key, {"summary": answer}, True


def _work(task: tuple[str, Point]) -> dict[str, Any]:
    return simulated(task[1])


def _row(values: Mapping[str, Any], point: Point | None, results: Mapping[str, Result], key: str) -> dict[str, Any]:
    if point is None:
        return {**values, "error": key}
    machine = point.scenario.machines[0]
    place = {
        "model": point.scenario.models[0],
        "machine": machine.name or machine.hardware,
        "replication": point.replication,
    }
    numbers = {k: v for k, v in results[key].get("summary", {}).items() if not isinstance(v, (dict, list))}
    return {
        **values,
        **place,
        **{k: v for k, v in numbers.items() if k not in place},
        "error": results[key].get("error"),
    }


def _table(records: list[dict[str, Any]], study: Study, at: Any) -> DataFrame:
    """All rows, derived columns added, those that `keep` refuses left out. Raise ScenarioError for a bad formula."""
    from pandas import DataFrame

    table = DataFrame.from_records(records)
    for name, formula in study.derived.items():
        table[name] = _evaluated(table, formula, f"derived.{name}", at, "eval")
    if study.keep is not None:
        table = _evaluated(table, study.keep, "keep", at, "query")
    missing = [metric for metric in study.shown if metric not in table.columns]
    if missing:
        raise ScenarioError(unknown("metric", missing[0], [str(name) for name in table.columns], at))
    return table.reset_index(drop=True)


def _evaluated(table: DataFrame, formula: str, name: str, at: Any, how: str) -> Any:
    """A formula of column names (in backticks where they hold dots) by pandas' own evaluator."""
    try:
        return getattr(table, how)(formula, engine="python")
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = "write arithmetic on columns, those with dots in backticks: output_throughput / `traffic.request_rate`"
        raise ScenarioError(Problem(f"{name}: '{formula}' cannot be computed: {first}", at, mend)) from None


def _means(result: Sweep) -> DataFrame:
    from pandas import concat

    table, by = result.table, [*result.keys, "model", "machine"]
    by = [name for name in by if name in table.columns]
    good = table[table["error"].isna()]
    metrics = [metric for metric in result.study.shown if good[metric].dtype != object]
    grouped = good.groupby(by, sort=False, dropna=False)[metrics]
    count = grouped.size()
    mean, spread = grouped.mean(), grouped.std()
    if result.study.replications > 1:
        quantiles = count.map(lambda runs: student_t(runs - 1) if runs > 1 else float("nan"))
        half = spread.mul(quantiles, axis=0).div(count.pow(0.5), axis=0).add_suffix("_ci95")
        mean = concat([mean, half], axis=1)
    return mean.reset_index()
