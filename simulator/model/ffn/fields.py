"""Types of the fields of feed-forward networks, as a scenario may write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from simulator.model.popularity import Popularity
from simulator.quantity import Known, quantity


@dataclass(frozen=True)
class Inner:
    """Marks a field that no scenario writes: it is filled in when the FFN is put into a model."""


Count = Annotated[int, Field(gt=0)]
Whole = Annotated[int, Field(ge=0)]
Matrices = Annotated[int, Field(ge=2, le=3, description="2, or 3 with a gate.")]
Share = Annotated[Known, quantity("", most=1.0, zero=True)]
Tensor = Annotated[str, Inner()]
InnerCount = Annotated[int, Inner()]
Choice = Annotated[Popularity, Field(description="How often each row is asked for: zipf, uniform or trace.")]
