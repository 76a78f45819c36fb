"""Mixture of depths: some layers take only the tokens that need them most."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.kind import Batching, Depth, Share
from simulator.model.use import ALWAYS, Use
from simulator.quantity import Known

CAPACITY = Known(0.125, "estimated", "best of Raposo et al. 2024, arXiv:2404.02258 (recalled)", (0.05, 0.5), "")


class MixtureOfDepths(Depth):
    """Every n-th layer passes a share `capacity` of the tokens, and the others around it.

    FLOPs are (n - 1 + c) / n of the full model's. A routed layer keeps keys of the tokens that it passed alone, and
    attends to those alone. Source: Raposo et al. 2024, arXiv:2404.02258.
    """

    kind: Literal["mixture_of_depths"]
    capacity: Annotated[Share, Field(description="Share of the tokens that a routed layer passes.")] = CAPACITY
    every: Annotated[int, Field(ge=1, description="Every n-th layer is routed.")] = 2
    batching: Batching = "lock_step"

    def applied(self, model: Architecture) -> Architecture:
        """Routed layers used by their share."""
        c = float(self.capacity)
        routed = Use(reach=c, lock_step=self.batching == "lock_step", kept=c, seen=c) if c < 1.0 else ALWAYS
        uses = [ALWAYS if (layer + 1) % self.every else routed for layer in range(model.layer_count)]
        return replace(model, layers=group_layers(model.shapes(), uses))
