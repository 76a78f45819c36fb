"""How good a model is expected to be: parameters by what they do, and laws of its loss, with their sources and bands.

Good for differences between models trained on the same tokens, not for absolute losses. A kind of FFN for which nothing
is measured gets no loss, only a warning: its results are structure without quality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log, sqrt

from simulator.model.architecture import Architecture
from simulator.model.ffn.kind import FFN
from simulator.model.ffn.product_key_memory import ProductKeyMemory
from simulator.model.ffn.together import members_of
from simulator.model.number_format import FORMATS, Precision

SAME_PAPER, ACROSS_PAPERS = 0.01, 0.05
"""Nats by which single runs differ, of one paper and of several (UltraMemV2 table 3 against UltraMem's own)."""

LARGEST_SHARE = 0.6
"""Of the idle parameters in n-gram tables: the largest that Engram measured."""

DISTINGUISHABLE = 0.01
"""Nats of training loss below which two models count as equal (the spread of single training runs)."""


@dataclass(frozen=True)
class Law:
    """L = e + a/N^alpha + b/D^beta, N parameters and D training tokens."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float
    source: str

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats a token."""
        return float(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)


CHINCHILLA = Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024 (Epoch), replication of Chinchilla")
CHINCHILLA_2022 = Law(1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, approach 3, as published")


def sparse_loss(total: float, active: float, tokens: float) -> float:
    """L = a/N^al + b/D^be + c/(1-S)^la + d/((1-S)^de N^ga) + e, N all parameters, S = 1 - active/total idle ones.

    Abnar et al. 2025; the constants are recalled, so only differences are used: dense 4.1 B -> 26.7 B with 3.8 B active
    at 262 B tokens gives -0.141 nats, the Engram paper measured -0.134.
    """
    used = active / total
    found = 16612.5 / total**0.5962 + 5455.67 / tokens**0.3954 + 0.4598 / used**-0.1666
    return float(found + 17.26 / (used**0.1603 * total**0.1595) + 0.94)


@dataclass(frozen=True)
class Offset:
    """Nats by which a memory is worse than fine-grained experts with as many parameters and FLOPs, by the share of the
    idle parameters that it holds; its standard deviation; where that is from."""

    nats: Callable[[float], float]
    sigma: float
    source: str


def engram_offset(share: float) -> float:
    """0.155 * s * (s - 0.6): the parabola through the ties at s = 0 and 0.6 and the measured -0.013 at 0.22.

    Engram, arXiv:2601.07372: -0.012 (26.7 B), -0.0139 (9.9 B, s = 0.2); a tie at s = 0.6. Its fourth point, s = 0.52
    at 39.5 B, lies 0.006 off.
    """
    return 0.155 * share * (share - 0.6)


OFFSETS: dict[str, Offset] = {
    "ngram_table": Offset(engram_offset, SAME_PAPER, "Engram, arXiv:2601.07372, tables 1 and section 3.1"),
    "memory_plus": Offset(lambda share: 0.075, ACROSS_PAPERS, "Memory+ against OLMoE, UltraMemV2 table 3 (227M/1.2B)"),
    "hash_moe": Offset(lambda share: 0.0, ACROSS_PAPERS, "Roller et al. 2021: hash layers about as good as Switch"),
    "moe": Offset(lambda share: 0.0, SAME_PAPER, "Abnar et al. 2025"),
    "dense": Offset(lambda share: 0.0, SAME_PAPER, "Chinchilla"),
    "residual_streams": Offset(lambda share: 0.0, ACROSS_PAPERS, "mixers of streams count as parameters: a judgement"),
    "lut_gemm": Offset(lambda share: 0.0, SAME_PAPER, "the products are the same (bit-serial)"),
}
"""Kind of FFN -> offset. What is not here has no measured quality at scale."""

UNKNOWN: dict[str, str] = {
    "peer": "PEER's loss is published against dense models alone (C4 perplexity 16.45 to 18.31 at 2e19 FLOPs)",
    "per_layer_embedding": "no ablation of Gemma 3n's per-layer embeddings is published",
    "tree": "fast feed-forward networks: unverified, the published result could not be reproduced",
    "near_far": "no quality of a near and far field is published: structure only",
    "structured": "no quality of structured matrices is published at the scale of language models: structure only",
    "lut_gemm": "MADDNESS and PQ lose accuracy on whole networks (arXiv:2207.05808): structure only",
    "activation_sparse": "needs a model trained or thresholded for it; minimal loss is claimed to 50 % sparsity (TEAL)",
    "kv_retrieval": "RETRO matches models with 25 times the parameters on the Pile; no law is known",
}
"""Kind of FFN -> why no loss is predicted."""

FOUR_BITS = 0.02
"""Nats that weights of 4 bits cost: 0.01 to 0.03, a judgement; 8 bits count as free."""


@dataclass(frozen=True)
class Quality:
    """total, active: parameters, all and those that a token uses. memory: those that are looked up. loss: predicted
    nats a token, with one standard deviation; None where nothing is known."""

    total: float
    active: float
    memory: float
    loss: float | None
    sigma: float
    sources: tuple[str, ...]
    warnings: tuple[str, ...]

    def summary(self) -> dict[str, object]:
        """Plain data for summary.json."""
        return {
            "parameters_total": self.total,
            "parameters_active": self.active,
            "parameters_looked_up": self.memory,
            "predicted_loss_nats": self.loss,
            "predicted_loss_sigma_nats": None if self.loss is None else self.sigma,
            "sources": list(self.sources),
            "warnings": list(self.warnings),
        }


def quality(
    architecture: Architecture, precision: Precision, tokens: float, law: Law = CHINCHILLA, bits4: float = FOUR_BITS
) -> Quality:
    """The parameters of a model and the loss that it would have after `tokens` training tokens.

    loss = law(N_active, D) + [sparse(N_total, N_active, D) - sparse(N_active, N_active, D)] + offset of its memories
           + 4-bit weights. A memory's parameters count among the total; its offset is against experts of that size;
           with them the model is no worse than without.
    """
    total, active = float(architecture.total_parameters()), float(architecture.active_parameters())
    members = [(ffn, layer.count) for layer in architecture.layers if layer.ffn for ffn in members_of(layer.ffn)]
    held: dict[str, float] = {}
    warnings: list[str] = []
    for ffn, count in members:
        kind = _sort(ffn)
        held[kind] = held.get(kind, 0.0) + count * ffn.memory_parameters(architecture.hidden_size)
    memory = sum(size for kind, size in held.items() if kind not in ("moe", "dense", "hash_moe"))
    known = without = law.loss(active, tokens) - sparse_loss(active, active, tokens)
    known += sparse_loss(total, active, tokens)
    without += sparse_loss(max(total - memory, active), active, tokens)
    variance, sources = SAME_PAPER**2, [law.source]
    for kind, size in held.items():
        offset = OFFSETS.get(kind)
        if offset is None or _approximate(kind, members):
            warnings.append(UNKNOWN.get(kind, f"no quality of {kind} is published"))
            known = inf
            continue
        share = size / max(total - active, 1.0)
        if kind == "ngram_table" and share > LARGEST_SHARE:
            warnings.append(f"its tables are {100 * share:.0f} % of its idle parameters; measured up to 60 %")
        known += offset.nats(share)
        variance += (offset.sigma * (1.0 if size else 0.0)) ** 2
        sources.append(offset.source)
    for layer in architecture.layers:
        if layer.use.reach < 1.0 or layer.use.weights < 1.0:
            warnings.append("tokens leave layers out or pass them again: no law of its loss is known")
            known = inf
            break
    known = min(known, without) if known < inf else known  # a memory that does not help can be left unread
    stored = precision.format_of("expert" if "moe" in held else "ffn")
    if FORMATS[stored].bytes < 0.45:
        warnings.append(f"weights in {stored} are only as good where the model was trained so")
        known = inf
    elif FORMATS[stored].bytes < 0.75:
        known += bits4
        variance += (bits4 / 2) ** 2
    loss = None if known == inf else known
    return Quality(
        total, active, memory, loss, sqrt(variance), tuple(dict.fromkeys(sources)), tuple(dict.fromkeys(warnings))
    )


def equivalent_parameters(loss_gain: float, total: float, nats_per_fold: float = 0.134 / log(6.5)) -> float:
    """Parameters of an expert model that is better than one of `total` by `loss_gain` nats: total * exp(gain / slope).

    The slope of 0.072 nats an e-fold is the mean from 4.1 B to 26.7 B in the Engram paper: a single family.
    """
    return total * exp(loss_gain / nats_per_fold)


def distinguishable(one: Quality, other: Quality) -> bool:
    """Whether two models are expected to differ in loss, or cannot be compared at all."""
    if one.loss is None or other.loss is None:
        return True
    return abs(one.loss - other.loss) > DISTINGUISHABLE


def _sort(ffn: FFN) -> str:
    """The kind by which OFFSETS lists it."""
    return "memory_plus" if isinstance(ffn, ProductKeyMemory) else ffn.kind


def _approximate(kind: str, members: list[tuple[FFN, int]]) -> bool:
    """Whether look-ups stand for other products than those that were trained."""
    return kind == "lut_gemm" and any(getattr(ffn, "method", "") in ("maddness", "pq") for ffn, _ in members)
