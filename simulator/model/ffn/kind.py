"""What every kind of feed-forward network answers, and what it sees of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from simulator.errors import Problem
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism

if TYPE_CHECKING:
    from simulator.model.architecture import Architecture


@dataclass(frozen=True)
class Visit:
    """A micro-batch that passes the FFN of a layer.

    hidden      the model's width
    tokens      tokens on each data-parallel rank; all_tokens over all of them
    popularity  Zipf exponent of the experts' popularity where the FFN states none itself
    before      layers that ran before this one in the step: the time in which known addresses can be fetched
    repeat      layers of this shape
    """

    hidden: int
    tokens: Array
    all_tokens: Array
    parallelism: Parallelism
    precision: Precision
    popularity: float = 0.0
    before: float = 0.0
    repeat: Array = 1.0


class FFN(ABC):
    """A feed-forward network, or what stands in its place. The object holds its shape, all but the model's width.

    Fields with an annotation that pydantic understands are what a scenario writes; see model/ffn/choice.py.
    """

    kind: ClassVar[str]

    beside: ClassVar[bool] = False
    """True: added to the FFN that the model has; False: in its place. A scenario may say otherwise."""

    stored: ClassVar[str] = "ffn"
    """The tensor class that a scenario's `dtype` and `tier` mean."""

    @property
    def routed_experts(self) -> int:
        """Routed experts, 0 when there are none."""
        return 0

    @property
    def address_known(self) -> str:
        """'always' (every weight is read), 'token' (the token ids give the addresses), 'layer' (the layer's input)."""
        return "always"

    @abstractmethod
    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Tensor class -> parameters on one chip of a stage, one layer; with one chip the whole layer."""

    @abstractmethod
    def active_parameters(self, hidden: int) -> float:
        """Parameters that one token uses, one layer."""

    def memory_parameters(self, hidden: int) -> float:
        """Parameters that are looked up, not computed with: those that a slow memory may hold."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """What keeps this shape from being cut that way."""
        return []

    @abstractmethod
    def operations(self, visit: Visit) -> list[Operation]:
        """One chip's operations, collectives included."""

    @abstractmethod
    def shape(self) -> str:
        """The shape in a few words, for tables."""

    def fitted(self, architecture: Architecture, layers: int) -> FFN:
        """The same, with what it takes from the model that it is put into, in so many layers."""
        return self
