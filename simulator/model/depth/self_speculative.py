"""Self-speculation: the first layers draft, all layers verify (LayerSkip). Lossless."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.kind import Count, Depth, Share
from simulator.model.use import Use
from simulator.quantity import Known

ACCEPTANCE = Known(
    0.8, "estimated", "gives LayerSkip's speed-ups of 1.8 to 2.2 with an exit at a quarter of the depth", (0.6, 0.9), ""
)


class SelfSpeculative(Depth):
    """`drafts` tokens are drafted one after the other by the first `exit` layers and verified together by the others.

    A round emits E = (1 - a^(n+1)) / (1 - a) tokens, each draft accepted with probability a. Where a pass takes the
    same time for one token as for n + 1, the speed-up is E / (n*e/L + 1 - e/L); every draft and the verification pay a
    head. The queries of a verification read their sequence's keys once; prompts pass all layers once.
    Source: Elhoushi et al. 2024 (LayerSkip); the formula is recalled.
    """

    kind: Literal["self_speculative"]
    exit: Annotated[Count, Field(description="Layers that draft.")]
    drafts: Annotated[int, Field(ge=1, le=64, description="Tokens drafted in a round.")] = 4
    acceptance: Annotated[Share, Field(description="Probability that a draft is accepted.")] = ACCEPTANCE

    @property
    def emitted(self) -> float:
        """Tokens of a round."""
        return float(sum(float(self.acceptance) ** k for k in range(self.drafts + 1)))

    def applied(self, model: Architecture) -> Architecture:
        """Layers that draft run `drafts` times a round, the others once with drafts + 1 tokens of each sequence."""
        if self.exit >= model.layer_count:
            raise ValueError(f"exit {self.exit} is not inside a model of {model.layer_count} layers; write fewer")
        round_, width = 1.0 / self.emitted, self.drafts + 1.0
        draft, verify = Use(passes=self.drafts * round_), Use(passes=round_, width=width, seen=1.0 / width)
        uses = [draft if layer < self.exit else verify for layer in range(model.layer_count)]
        return replace(
            model,
            layers=group_layers(model.shapes(), uses),
            heads=(draft, verify),
            cycles=round_,
            prompts_in_full=True,
        )
