"""What every kind of variable depth answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from simulator.model.architecture import Architecture
from simulator.model.depth.paths import Paths
from simulator.quantity import Known, quantity
from simulator.strict import Strict

Share = Annotated[Known, quantity("", most=1.0, zero=True)]
Count = Annotated[int, Field(gt=0)]
Batching = Annotated[
    Literal["lock_step", "depth_wise"],
    Field(
        description="lock_step: a layer runs when any token of the batch needs it. depth_wise: tokens are gathered "
        "layer by layer from more sequences than a batch, so that it runs full (also a balanced pipeline in space)."
    ),
]


class Depth(Strict):
    """How many of a model's layers a token passes. `applied` gives the model whose layers are used so."""

    kind: str

    def paths(self, layers: int) -> Paths | None:
        """The ways of tokens through a model of so many layers; None where no token can be followed alone."""
        return None

    @abstractmethod
    def applied(self, model: Architecture) -> Architecture:
        """`model` with this depth. Raise ValueError for a depth that it does not have."""
