"""A sweep: every point of a study, computed once, in parallel, kept by its content; a table of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.report.notebook import Charts, Shown, labelled
from simulator.report.study_charts import draw_metrics
from simulator.report.study_fronts import draw_capacity, draw_fronts
from simulator.study.axes import points
from simulator.study.begin import begin
from simulator.study.beside import find_beside, joined, repeated
from simulator.study.equal_loss import Level, level_lines
from simulator.study.evaluation import Progress
from simulator.study.space import check_names
from simulator.study.study import Study
from simulator.study.table import derived, kept, means, rankings, records, several_units

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Sweep(Shown):
    """The rows of a study in its order: values, model, machine, replication, sample, all numbers, error.

    computed: points that were computed now; reused: rows whose result was already known.
    levels: what `at_equal_loss` resized, and every loss.
    """

    name: str
    study: Study
    table: DataFrame
    computed: int
    reused: int
    levels: tuple[tuple[Level, ...], ...] = ()

    @property
    def keys(self) -> list[str]:
        """The columns that vary, beside the model and the machine and what goes together with them alone."""
        keys = [*self.study.given, *(key for key in self.study.axes if key != "model")]
        for group in self.study.together:
            own = {"model", "machines"} & set(group)
            keys += [key for key in group if key not in own and not (own and self._told_by_model(key))]
        return keys

    def _told_by_model(self, key: str) -> bool:
        """Whether each model on each machine has one value of a key."""
        good = self.table[self.table["error"].isna()]
        return bool((good.groupby(["model", "machine"])[key].nunique() <= 1).all())

    @property
    def failed(self) -> DataFrame:
        """The rows that have an error in the place of results."""
        return self.table[self.table["error"].notna()]

    def means(self) -> DataFrame:
        """A row for each point, see `simulator.study.table.means`."""
        return means(self.table, self.keys, self.study.shown)

    def level_lines(self) -> list[str]:
        """What is said of the models' losses; nothing unless the study asks for equal ones."""
        wanted = self.study.at_equal_loss
        return level_lines(self.levels, wanted.tolerance) if wanted else []

    def rankings(self) -> dict[str, DataFrame]:
        """Metric -> who is ahead at each combination of values, and in which share of the samples; of models that count
        in different units for each model."""
        keys = [*self.keys, "model"] if several_units(self.table) else self.keys
        return {metric: rankings(self.table, keys, metric) for metric in self.study.shown}

    def frame(self) -> DataFrame:
        """`means` with the units in the names of columns."""
        return labelled(self.means())

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        return {
            "metrics": lambda: draw_metrics(self.means(), self.keys, self.study.shown),
            "front": lambda: draw_fronts(self._points(), self.keys),
            "capacity": lambda: draw_capacity(self._points(), self.keys),
        }

    def _points(self) -> DataFrame:
        """A row for each point with all numbers as they are known, seeds together; errors left out."""
        good = self.table[self.table["error"].isna() & self.table["sample"].eq(0)]
        by = [*self.keys, "model", "machine"]
        return good.groupby(by, sort=False, dropna=False).mean(numeric_only=True).reset_index()


def sweep(
    path: Path | Mapping[str, Any],
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    samples: int | None = None,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
    within: tuple[Path, ...] = (),
) -> Sweep:
    """Compute what is not yet in `out`, and return all rows. `progress(done, of)` counts points to compute.

    samples: draws of the numbers that have ranges, for each point, in place of the study's own.
    A point that cannot run (a model that does not fit, say) is a row with its error. Raise ScenarioError for a study
    that is wrong as a whole. `within`: files of the studies beside which this one stands.
    """
    options: dict[str, Any] = {"workers": workers, "cluster": cluster, "folders": folders, "progress": progress}
    begun = begin(path, Study, out, samples=samples, **options)
    study, space = begun.study, begun.space
    here = Path(begun.source.path).resolve()
    others: dict[str, Sweep] = {}
    for name, file in study.beside.items():
        there = begun.source.where(("beside", name))
        other = find_beside(file, here.parent, (*within, here), there)
        others[name] = sweep(other, out, **options, within=(*within, here))
    with begun.evaluation.without_collector():
        rows = [row for changes in points(study.axes, study.together) for row in space.rows(changes)]
        space.check()
        check_names(rows, {"model", "machines"} - (set(study.axes) - {"model"}), begun.source.where(()))
        results, count = begun.evaluation.results(space.points)
        table = records(rows, results)
    at = begun.source.where(("derived",))
    for name, found in others.items():
        table = joined(table, name, found.table, begun.source.where(("beside", name)))
    table = repeated(table, study.given, begun.source.where(("given",))) if study.given else table
    table = derived(table, study, at, begun.source.where(("metrics",)))
    table = kept(table, study.keep, begun.source.where(("keep",)))
    computed = count + sum(found.computed for found in others.values())
    reused = len(rows) - count + sum(found.reused for found in others.values())
    return Sweep(begun.name, study, table, computed, reused, space.levels)
