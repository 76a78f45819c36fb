"""A scenario that is counted in samples or points: recommenders, solvers, and language models beside them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simulator.model.depth.early_exit import EarlyExit
from simulator.model.depth.layer_tree import LayerTree
from simulator.model.recommender import Recommender
from simulator.model.solver import Jacobi, Pinn
from simulator.quantity import Rate
from simulator.scenario.machine import MachineChoice
from simulator.scenario.model import ModelChoice
from simulator.scenario.traffic import Length, Traffic
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]


class Queries(Strict):
    """Queries of `samples` samples each: all there at the start, at a rate, or so many in flight."""

    queries: Annotated[int, Field(gt=0, le=10_000_000)] = 2000
    samples: Length = 128
    request_rate: Rate | None = Field(None, description="Queries a second, as a Poisson process.")
    concurrency: Count | None = Field(None, description="Queries in flight in a closed loop.")

    @model_validator(mode="after")
    def _one_way(self) -> Queries:
        if self.request_rate is not None and self.concurrency is not None:
            raise ValueError("traffic gives request_rate and concurrency; write one of them")
        return self

    def requests(self) -> Traffic:
        """The same as requests: the samples are the prompt, and one token answers."""
        way: dict[str, Any] = {"request_rate": self.request_rate, "concurrency": self.concurrency}
        given = {name: value for name, value in way.items() if value is not None} or {"offline": True}
        return Traffic(isl=self.samples, osl=1, requests=self.queries, **given)


class Decode(ModelChoice):
    """A language model that decodes: every step gives each of `batch` sequences a token."""

    kind: Literal["decode"]
    batch: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        64, description="Sequences; a list makes one run each."
    )
    context: Annotated[int, Field(ge=1, description="Tokens that each sequence has behind it.")] = 1024
    iterations: Count = 1000
    events: Literal["lock_step", "depth_wise", "pipeline"] | None = Field(
        None,
        description="Of a model with early exits or a tree of layers: each token's own depth, as events. pipeline: the "
        "layers between two exits or forks on chips of their own, so many times those of the layout.",
    )
    stages: Count | None = Field(
        None, description="Of a pipeline: so many stages, cut where they carry equal loads; exits may lie inside them."
    )
    in_flight: Annotated[int, Field(gt=0, le=1_000_000)] | None = Field(
        None, description="Sequences that `events` holds; four batches when left out."
    )

    @model_validator(mode="after")
    def _events(self) -> Decode:
        if self.events is not None and not isinstance(self.depth, EarlyExit | LayerTree):
            raise ValueError("events are of tokens with early exits or a tree; write depth: {kind: early_exit, ...}")
        if self.in_flight is not None and self.events in (None, "lock_step"):
            raise ValueError("in_flight belongs to events: depth_wise or pipeline; in lock step it is the batch")
        if self.stages is not None and self.events != "pipeline":
            raise ValueError("stages belong to events: pipeline; leave them out, or write it")
        return self

    @property
    def batches(self) -> tuple[int, ...]:
        """The batches, one or several."""
        return self.batch if isinstance(self.batch, tuple) else (self.batch,)

    def held(self, batch: int) -> int:
        """Sequences whose caches are kept while `batch` of them are computed at once."""
        return batch if self.events in (None, "lock_step") else self.in_flight or 4 * batch


AnySamples = Annotated[Recommender | Jacobi | Pinn | Decode, Field(discriminator="kind")]

TASKS = {"recommend": ("dlrm",), "solve": ("jacobi", "pinn"), "classes": ("dlrm", "jacobi", "pinn", "decode")}


class SampleScenario(Strict):
    """Models x machines."""

    task: Literal["recommend", "solve", "classes"]
    description: str = ""
    model: AnySamples | tuple[AnySamples, ...] = Field(description="What is computed: kind dlrm, jacobi, pinn, decode.")
    machines: tuple[MachineChoice, ...]
    traffic: Queries = Field(Queries(), description="Of recommenders.")
    max_batch: Annotated[int, Field(gt=0, le=10_000_000)] = Field(
        8192, description="Samples in a step of a recommender."
    )
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _of_the_task(self) -> SampleScenario:
        for what in ("models", "machines"):
            if not getattr(self, what):
                raise ValueError(f"{what.rstrip('s')} is an empty list")
        strange = [model.kind for model in self.models if model.kind not in TASKS[self.task]]
        if strange:
            raise ValueError(f"task {self.task} has no kind {strange[0]}; write task: classes for all kinds")
        titles = [
            model.title(model.base) if isinstance(model, Decode) else model.name or model.kind for model in self.models
        ]
        twice = [title for title in titles if titles.count(title) > 1]
        if twice:
            raise ValueError(f"two models are called '{twice[0]}'; give them a `name`")
        return self

    @property
    def models(self) -> tuple[AnySamples, ...]:
        """The models, one or several."""
        return self.model if isinstance(self.model, tuple) else (self.model,)
