"""How often a layer runs in a step, and with how many tokens: where not every token passes every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from simulator.model.operation import Array

Filled = Literal["none", "copied", "computed"]


@dataclass(frozen=True)
class Use:
    """Of one layer, in a step of B tokens.

    reach      probability that a token needs the layer
    lock_step  True: the batch moves together, so that the layer runs when any of its tokens needs it, with probability
               1 - (1 - reach)^B, and then with B*reach / that many tokens. False: tokens are gathered layer by layer
               (depth-wise batching, or a pipeline in space whose freed stages take other tokens), so that it always
               runs with B tokens, in a share `reach` of the steps
    passes     times that it is called in a step; width: tokens of each call for each token of the batch
    weights    share of its parameters that are its own; 0 where another layer's are used again
    kept       share of the tokens whose keys and values it keeps; seen: share of the context that a query attends to
    filled     keys of tokens that do not reach it: 'none' (shared, or not there); 'copied' (projected from the hidden
               state that the token left with); 'computed' (the layer runs for them with the next token that needs it)
    """

    reach: float = 1.0
    lock_step: bool = True
    passes: float = 1.0
    width: float = 1.0
    weights: float = 1.0
    kept: float = 1.0
    seen: float = 1.0
    filled: Filled = "none"

    def times(self, tokens: Array) -> Array:
        """Expected runs in a step of `tokens` tokens."""
        if self.reach >= 1.0:
            return self.passes
        if not self.lock_step:
            return self.passes * self.reach
        missed = np.log1p(-self.reach) if self.reach > 0.0 else 0.0
        times: Array = -self.passes * np.expm1(tokens * self.width * missed)
        return times

    def share(self, tokens: Array) -> Array:
        """Tokens of one run over those of the batch."""
        passing = 1.0 if self.filled == "computed" else self.reach
        return self.width * self.passes * passing / np.maximum(self.times(tokens), 1e-300)


ALWAYS = Use()


@dataclass(frozen=True)
class PathSearch:
    """A product with hidden x `width` that finds which of `width` ways a token takes, and the tokens' new order."""

    width: int
    use: Use
