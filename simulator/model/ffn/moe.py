"""Mixture of experts: a router picks the top k of many small FFNs for each token; shared experts serve every token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np

from simulator.errors import Problem
from simulator.model.ffn.dense import two_matmuls
from simulator.model.ffn.fields import Choice, Count, Matrices, Tensor, Whole
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Array, Collective, Matmul, Operation, Vector
from simulator.model.parallelism import (
    ACTIVATION_BYTES,
    ONE_CHIP,
    Parallelism,
    all_reduce,
    divisors,
    nearest,
    not_legal,
)
from simulator.model.replication import busiest, in_slots
from simulator.model.routing import imbalance, inclusion, touched, visited

ROUTING_FLOPS = 5.0
"""Elementary operations per router score: softmax or sigmoid, bias, comparison."""


@dataclass(frozen=True)
class MoEFFN(FFN):
    """`experts` FFNs of `width`, `top_k` of them for a token, beside shared experts of `shared_width` in all."""

    kind: ClassVar[str] = "moe"
    stored: ClassVar[str] = "expert"

    experts: Count
    top_k: Count
    width: Count
    shared_width: Whole = 0
    matrices: Matrices = 3
    bias: bool = False
    router_bias: bool = False
    popularity: Choice | None = None
    tensor: Tensor = "expert"

    def __post_init__(self) -> None:
        if self.top_k > self.experts:
            raise ValueError(f"top_k {self.top_k} is more than the {self.experts} experts; write top_k: {self.experts}")

    @property
    def routed_experts(self) -> int:
        """All of them."""
        return self.experts

    @property
    def address_known(self) -> str:
        """The router reads the layer's input."""
        return "layer"

    def slots(self, parallelism: Parallelism) -> int:
        """Experts that are held: all, and copies of the busiest."""
        return self.experts + parallelism.redundant(self.experts)

    def _expert(self, hidden: int) -> int:
        """Parameters of one routed expert."""
        bias = (self.matrices - 1) * self.width + hidden if self.bias else 0
        return self.matrices * hidden * self.width + bias

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Routed experts and copies over tp*dp chips; shared experts over tp, copied over dp; the router on each."""
        router = hidden * self.experts + (self.experts if self.router_bias else 0)
        counts = {
            self.tensor: self.slots(parallelism) * self._expert(hidden) / (parallelism.tp * parallelism.dp),
            "router": float(router),
        }
        if self.shared_width:
            counts["ffn"] = self.matrices * hidden * self.shared_width / parallelism.tp
        return counts

    def active_parameters(self, hidden: int) -> float:
        """top_k experts, the shared ones and the router."""
        counts = self.parameters(hidden)
        return self.top_k * self._expert(hidden) + counts["router"] + counts.get("ffn", 0.0)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """ep divides the experts with their copies, of which each rank can use one; what is left of tp*dp divides an
        expert's width, tp the shared experts' width."""
        problems = self._spread_badly(parallelism)
        if parallelism.tp * parallelism.dp % parallelism.ep == 0:
            legal = divisors(self.width)
            problems += not_legal("tp*dp/ep", parallelism.expert_tp, f"the expert width {self.width}", legal)
        if self.shared_width:
            legal = divisors(self.shared_width)
            problems += not_legal("tp", parallelism.tp, f"the shared experts' width {self.shared_width}", legal)
        return problems

    def memory_parameters(self, hidden: int) -> float:
        """The routed experts that a token does not visit: few bytes a token, many bytes in all."""
        return (self.experts - self.top_k) * float(self._expert(hidden))

    def exponent(self, popularity: float) -> float:
        """Zipf exponent of the experts' popularity: its own, or else `popularity`."""
        return popularity if self.popularity is None else self.popularity.exponent

    def chances(self, popularity: float) -> np.ndarray:
        """[experts] probability that a token visits each."""
        return inclusion(self.experts, self.top_k, self.exponent(popularity))

    def touched(self, tokens: Array, popularity: float) -> Array:
        """Distinct experts that `tokens` tokens visit."""
        return touched(self.experts, self.top_k, tokens, self.exponent(popularity))

    def load(self, parallelism: Parallelism) -> float:
        """Tokens of the busiest rank over the mean, as the FFN's own popularity says. Without one, 1: the exponent of a
        stack says which experts a batch touches, and ranks that wait are in its other numbers (charged beside them,
        they raise its errors on 1,400 measured loads)."""
        if self.popularity is None or parallelism.ep == 1:
            return 1.0
        return _load(self, parallelism.ep, parallelism.redundant(self.experts))

    def routing(self, visit: Visit) -> list[Operation]:
        """What finds the experts of a token: scores in 32 bits."""
        tokens, repeat, stored = visit.tokens, visit.repeat, visit.precision.format_of("router")
        scores = tokens * self.experts
        return [
            Matmul("router", tokens, self.experts, visit.hidden, stored, "router", 1.0, repeat),
            Vector("routing", scores * ROUTING_FLOPS, scores * 8.0, repeat),
        ]

    def at_experts(self, visit: Visit) -> Visit:
        """What the routed experts see of a visit: tokens of the layer's own width."""
        return visit

    def operations(self, visit: Visit) -> list[Operation]:
        """One chip's router, experts (grouped), shared experts and collectives.

        The tokens of all data-parallel ranks meet the same experts: touched(experts, top_k, all_tokens)/ep distinct
        ones on the mean rank, with all_tokens*top_k/ep rows over them; the rank that reads most reads `imbalance` times
        the mean, the busiest computes `load` times. An expert with copies sends each token to one of them.
        """
        inside, tokens, parallelism = self.at_experts(visit), visit.tokens, visit.parallelism
        slots = self.slots(parallelism)
        if slots > self.experts:
            hit = visited(in_slots(self.chances(visit.popularity), slots - self.experts), visit.all_tokens)
        else:
            hit = self.touched(visit.all_tokens, visit.popularity)
        rows = visit.all_tokens * (self.top_k / parallelism.ep)
        before, after = self._exchange(visit)
        products = two_matmuls(
            "experts",
            self.tensor,
            inside,
            rows,
            self.width / parallelism.expert_tp,
            self.matrices,
            hit / parallelism.ep,
            imbalance(slots, hit, parallelism.ep),
            self.load(parallelism),
        )
        routed = [self._chosen(o, visit, first=o is products[0]) for o in products]
        shared = (
            two_matmuls("shared experts", "ffn", visit, tokens, self.shared_width / parallelism.tp, self.matrices)
            if self.shared_width
            else []
        )
        # The weighted sum reads an expert's output for every row and writes each token once.
        moved = (rows + tokens) * (inside.hidden * ACTIVATION_BYTES)
        return [
            *self.routing(visit),
            *before,
            *routed,
            Vector("experts sum", rows * (2.0 * inside.hidden), moved, visit.repeat),
            *shared,
            *after,
        ]

    def _chosen(self, operation: Operation, visit: Visit, first: bool) -> Operation:
        """A product of experts, with how they are chosen; all matrices of an expert are asked for at once."""
        if not isinstance(operation, Matmul):
            return operation
        return replace(
            operation,
            choices=self.slots(visit.parallelism),
            chosen=self.top_k,
            zipf=self.exponent(visit.popularity),
            address_known=self.address_known,
            layers_before=visit.before,
            hops=float(first),
        )

    def shape(self) -> str:
        """Such as "2048 x 3 matrices"."""
        return f"{self.width} x {self.matrices} matrices"

    def _spread_badly(self, parallelism: Parallelism) -> list[Problem]:
        """Experts, with their copies, that ranks cannot hold equally many of, or more copies than ranks."""
        ep, held = parallelism.ep, self.slots(parallelism)
        if parallelism.redundant_experts == 0 or ep == 1:
            return not_legal("ep", ep, f"the {self.experts} experts", divisors(self.experts))
        copied, legal = held - self.experts, range(-self.experts % ep, self.experts * (ep - 1) + 1, ep)
        if copied in legal:
            return []
        what = f"{self.experts} experts and redundant_experts {copied} do not lie equally on {ep} ranks, once on each"
        return [Problem(what, None, nearest("redundant_experts", copied, legal))]

    def _exchange(self, visit: Visit) -> tuple[list[Operation], list[Operation]]:
        """Collectives before and after the experts.

        dp = 1: tokens are already on every chip of the group, so experts cut by tp or spread by ep end in one
        all-reduce. dp > 1: each chip dispatches its tokens/tp tokens to the ranks of their experts (at most
        min(top_k, ep) ranks of expert_tp chips) and combines what comes back; with ep = 1 every chip needs every
        token (all-gather, then reduce-scatter). The group's own tp chips then share the result.
        """
        tokens, parallelism, repeat = visit.tokens, visit.parallelism, visit.repeat
        shared = all_reduce("ffn all-reduce", tokens, visit.hidden, parallelism.tp, repeat)
        if parallelism.dp == 1:
            return [], list(shared)
        hidden, group = self.at_experts(visit).hidden, parallelism.tp * parallelism.dp
        if parallelism.ep == 1:
            size = visit.all_tokens * (hidden * ACTIVATION_BYTES)
            patterns = ("all_gather", "reduce_scatter")
        else:
            copies = min(self.top_k, parallelism.ep) * parallelism.expert_tp
            size = tokens * (copies * hidden * ACTIVATION_BYTES / parallelism.tp)
            patterns = ("all_to_all", "all_to_all")
        load, of_all = self.load(parallelism), parallelism.ep == 1
        before = Collective("experts dispatch", patterns[0], size, group, repeat, load=load, of_all=of_all)
        after = replace(before, name="experts combine", pattern=patterns[1])
        return [before], [after, *shared]


@lru_cache(maxsize=256)
def _load(ffn: MoEFFN, ranks: int, redundant: int) -> float:
    return busiest(ffn.chances(0.0), ranks, redundant)
