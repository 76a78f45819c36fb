"""Mixture of experts: a router picks the top k of many small FFNs for each token; shared experts serve every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.ffn.dense import two_matmuls
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Collective, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce, divisors, not_legal
from simulator.model.routing import imbalance, touched

ROUTING_FLOPS = 5.0
"""Elementary operations per router score: softmax or sigmoid, bias, comparison."""


@dataclass(frozen=True)
class MoEFFN:
    """`experts` FFNs of `width`, `top_k` of them for a token, beside shared experts of `shared_width` in all."""

    kind: ClassVar[str] = "moe"

    experts: int
    top_k: int
    width: int
    shared_width: int = 0
    matrices: int = 3
    bias: bool = False
    router_bias: bool = False

    def _expert(self, hidden: int) -> int:
        """Parameters of one routed expert."""
        bias = (self.matrices - 1) * self.width + hidden if self.bias else 0
        return self.matrices * hidden * self.width + bias

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """Routed experts over tp*dp chips; shared experts over tp, copied over dp; the router on every chip."""
        router = hidden * self.experts + (self.experts if self.router_bias else 0)
        counts = {
            "expert": self.experts * self._expert(hidden) / (parallelism.tp * parallelism.dp),
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
        """ep divides the experts, what is left of tp*dp divides an expert's width, tp the shared experts' width."""
        problems = not_legal("ep", parallelism.ep, f"the {self.experts} experts", divisors(self.experts))
        if parallelism.tp * parallelism.dp % parallelism.ep == 0:
            legal = divisors(self.width)
            problems += not_legal("tp*dp/ep", parallelism.expert_tp, f"the expert width {self.width}", legal)
        if self.shared_width:
            legal = divisors(self.shared_width)
            problems += not_legal("tp", parallelism.tp, f"the shared experts' width {self.shared_width}", legal)
        return problems

    def operations(
        self,
        hidden: int,
        tokens: Array,
        all_tokens: Array,
        parallelism: Parallelism,
        precision: Precision,
        popularity: float,
        repeat: float,
    ) -> list[Operation]:
        """One chip's router, experts (grouped), shared experts and collectives.

        The tokens of all data-parallel ranks meet the same experts: touched(experts, top_k, all_tokens)/ep distinct
        ones on the mean rank, with all_tokens*top_k/ep rows over them; the hottest rank is `imbalance` times the mean.
        """
        hit = touched(self.experts, self.top_k, all_tokens, popularity)
        rows = all_tokens * (self.top_k / parallelism.ep)
        before, after = self._exchange(hidden, tokens, all_tokens, parallelism, repeat)
        routed = two_matmuls(
            "experts",
            "expert",
            hidden,
            rows,
            self.width / parallelism.expert_tp,
            self.matrices,
            precision,
            repeat,
            hit / parallelism.ep,
            imbalance(self.experts, hit, parallelism.ep),
        )
        shared = (
            two_matmuls(
                "shared experts",
                "ffn",
                hidden,
                tokens,
                self.shared_width / parallelism.tp,
                self.matrices,
                precision,
                repeat,
            )
            if self.shared_width
            else []
        )
        # Scores in 32 bits; the weighted sum reads an expert's output for every row and writes each token once.
        scores = tokens * self.experts
        return [
            Matmul("router", tokens, self.experts, hidden, precision.format_of("router"), "router", 1.0, repeat),
            Vector("routing", scores * ROUTING_FLOPS, scores * 8.0, repeat),
            *before,
            *routed,
            Vector("experts sum", rows * (2.0 * hidden), (rows + tokens) * (hidden * ACTIVATION_BYTES), repeat),
            *shared,
            *after,
        ]

    def _exchange(
        self, hidden: int, tokens: Array, all_tokens: Array, parallelism: Parallelism, repeat: float
    ) -> tuple[list[Operation], list[Operation]]:
        """Collectives before and after the experts.

        dp = 1: tokens are already on every chip of the group, so experts cut by tp or spread by ep end in one
        all-reduce. dp > 1: each chip dispatches its tokens/tp tokens to the ranks of their experts (at most
        min(top_k, ep) ranks of expert_tp chips) and combines what comes back; with ep = 1 every chip needs every
        token (all-gather, then reduce-scatter). The group's own tp chips then share the result.
        """
        shared = all_reduce("ffn all-reduce", tokens, hidden, parallelism.tp, repeat)
        if parallelism.dp == 1:
            return [], list(shared)
        group = parallelism.tp * parallelism.dp
        if parallelism.ep == 1:
            size = all_tokens * (hidden * ACTIVATION_BYTES)
            patterns = ("all_gather", "reduce_scatter")
        else:
            copies = min(self.top_k, parallelism.ep) * parallelism.expert_tp
            size = tokens * (copies * hidden * ACTIVATION_BYTES / parallelism.tp)
            patterns = ("all_to_all", "all_to_all")
        before = Collective("experts dispatch", patterns[0], size, group, repeat)
        after = Collective("experts combine", patterns[1], size, group, repeat)
        return [before], [after, *shared]
