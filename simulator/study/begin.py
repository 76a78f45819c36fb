"""How a sweep and a crossover begin: the study, the space that it looks at, and how points are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from simulator.study.evaluation import Evaluation, Progress
from simulator.study.space import Space
from simulator.study.store import STORE, Store
from simulator.study.study import Crossover, Study, read_study
from simulator.yaml_source import Source

S = TypeVar("S", Study, Crossover)


@dataclass(frozen=True)
class Begun(Generic[S]):
    """A study that was read, where, and what it is computed with."""

    name: str
    study: S
    source: Source
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
    events = read.evaluate == "events"
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
    return Begun(Path(source.path).stem, read, source, space, evaluation)
