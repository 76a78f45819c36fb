"""Speculative decoding by a module of the model that drafts (multi-token prediction), as rows under load have it.

A round checks `drafts` tokens beside the next one; each is kept with the request's probability a, so that a round gives
1 + a + ... + a^drafts tokens. The engine runs rounds in the place of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from simulator.model.architecture import Architecture, group_layers
from simulator.model.use import Use


@dataclass(frozen=True)
class Drafting:
    """`drafts` tokens a round. The chance that one is kept differs by request, evenly up to twice its mean `kept` (or
    down from 1 as far as that)."""

    drafts: int
    kept: float

    def tokens_a_round(self, requests: int, rng: Generator) -> np.ndarray:
        """[requests] tokens that a round gives on the mean of each request."""
        reach = min(self.kept, 1.0 - self.kept)
        chance = rng.uniform(self.kept - reach, self.kept + reach, requests)
        return np.asarray(np.sum([chance**count for count in range(self.drafts + 1)], axis=0))

    @property
    def mean_tokens(self) -> float:
        """Tokens of a round of a request like the mean."""
        return float(sum(self.kept**count for count in range(self.drafts + 1)))

    def model(self, plain: Architecture) -> Architecture:
        """The model whose steps are rounds: all layers run once with drafts + 1 tokens a sequence, reading its keys
        once; one more layer like the last, which drafts, and the head run for each draft too. Prompts pass all."""
        width = self.drafts + 1.0
        verify, draft = Use(width=width, seen=1.0 / width), Use(passes=float(self.drafts))
        shapes = plain.shapes()
        return replace(
            plain,
            layers=group_layers([*shapes, shapes[-1]], [verify] * len(shapes) + [draft]),
            heads=(verify, draft),
            cycles=width,
            prompts_in_full=True,
        )
