"""How a sweep and a crossover begin: the study, the space that it looks at, and how points are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from simulator.errors import Problem, ScenarioError
from simulator.scenario import task_of
from simulator.study.evaluation import Evaluation, Progress
from simulator.study.space import Space
from simulator.study.store import STORE, Store
from simulator.study.study import Crossover, Study, read_study
from simulator.study.task import ASKED
from simulator.yaml_source import Source

S = TypeVar("S", Study, Crossover)


@dataclass(frozen=True)
class Begun(Generic[S]):
    """A study that was read, where, and what it is computed with."""

    name: str
    study: S
    source: Source
    scenario: Path
    folders: tuple[Path, ...]
    space: Space
    evaluation: Evaluation


def begin(
    study: Path | Mapping[str, Any],
    kind: type[S],
    out: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    samples: int | None = None,
    folders: Sequence[Path] = (),
    progress: Progress | None = None,
) -> Begun[S]:
    """Read a study, a file or what would stand in one. Results of events are kept in `out`; steady states are computed
    in less time than reading them takes. Raise ScenarioError for a study that is wrong as a whole."""
    read, source, scenario = read_study(study, kind)
    task = task_of(scenario)
    if task in ASKED:
        read = _of_task(read, task, source)
    events = task in ASKED or read.evaluate == "events"
    space = Space(
        scenario,
        source.where(("axes",), key=True),
        folders=folders,
        replications=read.replications if isinstance(read, Study) else 1,
        samples=read.samples if samples is None else samples,
        kept=events,
        equal=read.at_equal_loss,
    )
    evaluation = Evaluation(Store(out / STORE) if events else None, workers, cluster, progress)
    return Begun(Path(source.path).stem, read, source, scenario, tuple(folders), space, evaluation)


def _of_task(study: S, task: str, source: Source) -> S:
    """A study of training or of samples, with that task's metrics where it names none. Raise ScenarioError for what
    only serving has."""
    wanted = ASKED[task]
    if study.at_equal_loss is not None:
        what = f"at_equal_loss resizes models that are served, and the task is {task}"
        raise ScenarioError(Problem(what, source.where(("at_equal_loss",), key=True), "leave it out"))
    if study.samples and task == "train":
        what = "samples change a machine's numbers, and training has no `change`"
        raise ScenarioError(Problem(what, source.where(("samples",), key=True), "leave it out"))
    if isinstance(study, Crossover):
        if study.confirm is not None:
            what = f"confirm asks events beside steady states, and the task is {task}, which has none"
            raise ScenarioError(Problem(what, source.where(("confirm",), key=True), "leave it out"))
        return study if "metric" in study.model_fields_set else study.model_copy(update={"metric": wanted.decides})
    return study if study.metrics is not None else study.model_copy(update={"metrics": wanted.shown})
