"""Experts in a latent space (Nemotron 3 Super and Ultra): tokens are projected down before they reach their experts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from simulator.model.ffn.fields import Count
from simulator.model.ffn.kind import Visit
from simulator.model.ffn.moe import MoEFFN
from simulator.model.operation import Matmul, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism


@dataclass(frozen=True)
class LatentMoEFFN(MoEFFN):
    """As experts behind a router, but the routed ones work on z = W_down x of `latent` values and W_up leads their sum
    back; the router and the shared experts read x. Experts are hidden / latent times smaller, and so are the messages
    that carry tokens to them.

    Source: NVIDIA Nemotron 3 (LatentMoE), config.json `moe_latent_size`.
    """

    kind: ClassVar[str] = "latent_moe"

    latent: Count = 1024

    def _expert(self, hidden: int) -> int:
        """Parameters of one routed expert, between latent values."""
        return super()._expert(self.latent)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of experts behind a router, and 2*hidden*latent of the two projections, copied to every chip."""
        counts = super().parameters(hidden, parallelism)
        return {**counts, "ffn": counts.get("ffn", 0.0) + 2.0 * hidden * self.latent}

    def at_experts(self, visit: Visit) -> Visit:
        """Tokens of `latent` values."""
        return replace(visit, hidden=self.latent)

    def operations(self, visit: Visit) -> list[Operation]:
        """The projections, then as experts behind a router."""
        return [*self._projections(visit), *super().operations(visit)]

    def _projections(self, visit: Visit) -> list[Operation]:
        stored = visit.precision.format_of("ffn")
        down = Matmul("to latent", visit.tokens, self.latent, visit.hidden, stored, "ffn", 1.0, visit.repeat)
        return [down, replace(down, name="from latent", n=visit.hidden, k=self.latent)]
