"""Experts chosen by the token's id (hash layers; the first layers of DeepSeek-V4): addresses known before the step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from simulator.model.ffn.fields import Choice, InnerCount
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import TOKENS
from simulator.model.operation import Array, Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism
from simulator.model.popularity import Popularity
from simulator.model.routing import visited

if TYPE_CHECKING:
    from simulator.model.architecture import Architecture
    from simulator.model.ffn.kind import Visit


@dataclass(frozen=True)
class HashMoEFFN(MoEFFN):
    """A frozen table token id -> top_k experts stands in place of the router's choice; `weighted`: a learned router
    still weighs them (DeepSeek-V4). An expert's popularity is that of its tokens: sum over token ids hashed to it.

    Source: Roller et al. 2021, Hash Layers.
    """

    kind: ClassVar[str] = "hash_moe"

    weighted: bool = True
    popularity: Choice = TOKENS
    vocabulary: InnerCount = 1

    @property
    def address_known(self) -> str:
        """The token ids are hashed."""
        return "token"

    def fitted(self, architecture: Architecture, layers: int) -> HashMoEFFN:
        """The words that are hashed are the model's."""
        return replace(self, vocabulary=architecture.vocab_size)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Those of experts behind a router, less the router where none weighs; the table of ids counts as none."""
        counts = super().parameters(hidden, parallelism)
        return counts if self.weighted else {**counts, "router": 0.0}

    def exponent(self, popularity: float) -> float:
        """Of experts, not of words: nearly even, as thousands of words share one. What a cache holds is counted so."""
        return 0.0

    def chances(self, popularity: float) -> np.ndarray:
        """[experts] probability that a token is sent to each."""
        return chances(self.experts, self.top_k, self.vocabulary, self.popularity)

    def touched(self, tokens: Array, popularity: float) -> Array:
        """Distinct experts that `tokens` independent tokens are sent to."""
        return visited(self.chances(popularity), tokens)

    def routing(self, visit: Visit) -> list[Operation]:
        """The router, where it weighs."""
        return super().routing(visit) if self.weighted else []


@lru_cache(maxsize=32)
def chances(experts: int, top_k: int, words: int, popularity: Popularity) -> np.ndarray:
    """[experts] probability that a token is sent to expert i.

    Word of rank r goes to `top_k` experts, evenly spaced from a random one (a fixed seed); words by their popularity.
    """
    generator = np.random.default_rng(0)
    first = generator.integers(experts, size=words)
    apart = generator.integers(1, max(1, (experts - 1) // max(1, top_k - 1)) + 1, size=words) if top_k > 1 else first
    weight = np.arange(1, words + 1, dtype=float) ** -popularity.exponent
    weight /= weight.sum()
    found = np.zeros(experts)
    for nth in range(top_k):
        found += np.bincount((first + nth * apart) % experts, weights=weight, minlength=experts)
    found = np.minimum(found, 1.0)
    found.setflags(write=False)
    return found
