"""Every token passes every layer."""

from __future__ import annotations

from typing import Literal

from simulator.model.architecture import Architecture
from simulator.model.depth.kind import Depth


class Full(Depth):
    """As the model was made."""

    kind: Literal["full"] = "full"

    def applied(self, model: Architecture) -> Architecture:
        """The model."""
        return model
