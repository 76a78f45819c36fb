"""Work that is counted in samples or points instead of tokens: what recommenders and solvers have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

from pydantic import Field

from simulator.model.number_format import Precision
from simulator.model.operation import Array, Operation
from simulator.model.parallelism import Parallelism
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]


class SampleModel(Strict):
    """A step takes `count` samples (or points), cut over the dp chips of the layout; dense parts are copied."""

    unit: ClassVar[str] = "sample"

    kind: str
    name: str | None = Field(None, description="What results call it.")

    @property
    def title(self) -> str:
        """Its name, else its kind."""
        return self.name or self.kind

    @property
    @abstractmethod
    def launches(self) -> float:
        """Operations of a step that the software starts one by one."""

    @property
    @abstractmethod
    def precision(self) -> Precision:
        """What it is stored in."""

    @abstractmethod
    def parameters(self, parallelism: Parallelism) -> dict[str, float]:
        """Tensor class -> values held on one chip."""

    @abstractmethod
    def operations(self, count: Array, parallelism: Parallelism, precision: Precision) -> list[Operation]:
        """One chip's operations in a step of `count` samples in all."""


class SolverModel(SampleModel):
    """A SampleModel whose steps all have the same points."""

    unit: ClassVar[str] = "point"

    @property
    @abstractmethod
    def points_in_step(self) -> int:
        """Points of one step, all chips together."""

    iterations: Count = 1000
