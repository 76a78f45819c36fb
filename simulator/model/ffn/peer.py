"""PEER: a million experts of one neuron each, found by product keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from simulator.model.ffn.fields import Choice, Count, Tensor
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.look_up import SUM_BYTES, Shard, all_gather, asked_for, brought_together, exchanged, look_up
from simulator.model.ffn.product_key_memory import KEYS, product_keys
from simulator.model.operation import Collective, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, all_reduce


@dataclass(frozen=True)
class Peer(FFN):
    """y = sum over the heads' top_m experts of g_i * act(u_i . x) * v_i; keys^2 experts, a row holds u_i and v_i.

    H*m rows of 2d values and 4*H*m*d FLOPs a token. The heads share the half-keys and have their own queries.
    Source: He 2024, Mixture of a Million Experts: 1024^2 experts, 8 heads, 16 each; the width of a query is estimated.
    """

    kind: ClassVar[str] = "peer"
    stored: ClassVar[str] = "table"

    keys: Annotated[Count, Field(description="Half-keys; there are keys^2 experts.")] = 1024
    heads: Count = 8
    top_m: Annotated[Count, Field(description="Experts that a head reads.")] = 16
    query: Annotated[Count, Field(description="Width of a head's query, both halves.")] = 256
    shard: Shard = "column"
    popularity: Choice = KEYS
    tensor: Tensor = "table"

    def __post_init__(self) -> None:
        if self.top_m > self.keys:
            raise ValueError(f"top_m {self.top_m} is more than the {self.keys} half-keys; write top_m: {self.keys}")

    @property
    def address_known(self) -> str:
        """The query is the layer's input."""
        return "layer"

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """keys^2*2*hidden over tp*dp; half-keys and queries on each chip."""
        return {
            self.tensor: self.memory_parameters(hidden) / (parallelism.tp * parallelism.dp),
            "router": float(self.query * (self.keys + self.heads * hidden)),
        }

    def active_parameters(self, hidden: int) -> float:
        """The experts that a token visits, half-keys and queries."""
        return self.heads * self.top_m * 2.0 * hidden + self.parameters(hidden)["router"]

    def memory_parameters(self, hidden: int) -> float:
        """All experts."""
        return float(self.keys) ** 2 * 2.0 * hidden

    def operations(self, visit: Visit) -> list[Operation]:
        """Query, scores, candidates, rows, the neurons' products, and the messages of both."""
        hidden, tokens, tp, each = visit.hidden, visit.tokens, visit.parallelism.tp, self.heads * self.top_m
        rows = look_up(
            "single-neuron experts",
            self.tensor,
            visit,
            per_token=each,
            tables=1,
            rows=self.keys**2,
            width=2 * hidden,
            popularity=self.popularity,
            address_known="layer",
            shard=self.shard,
        )
        return [
            *product_keys("peer", visit, self.heads, self.keys, self.top_m, self.query, shared_keys=True),
            rows,
            Vector(
                "single-neuron products",
                tokens * (4.0 * each * hidden / tp),
                tokens * (2 * hidden * ACTIVATION_BYTES),
                visit.repeat,
            ),
            *self._messages(visit),
        ]

    def _messages(self, visit: Visit) -> list[Operation]:
        """What the tp*dp chips tell each other. dp > 1: which neurons each token asks for, to all.

        By column each chip has a slice of every neuron and of the tokens: sums of u . x over all chips, and slices of
        the outputs back. By row it has whole neurons: it needs all tokens, and its share of the outputs is summed.
        """
        parallelism, hidden, repeat = visit.parallelism, visit.hidden, visit.repeat
        each, everyone = self.heads * self.top_m, visit.all_tokens
        group = parallelism.tp * parallelism.dp
        if group == 1:
            return []
        asked = asked_for("single-neuron experts", visit, each)
        if self.shard == "column":
            sums = Collective(
                "single-neuron sums", "all_reduce", everyone * (each * SUM_BYTES), group, repeat, of_all=True
            )
            inputs = exchanged("single-neuron inputs", visit, hidden)
            return [*asked, *inputs, sums, *brought_together("single-neuron outputs", visit, hidden)]
        if parallelism.dp == 1:
            return [*all_reduce("ffn all-reduce", visit.tokens, hidden, group, repeat)]
        size = everyone * (hidden * ACTIVATION_BYTES)
        inputs = [Collective("single-neuron inputs", "all_gather", size, group, repeat, of_all=True)]
        outputs = Collective("single-neuron outputs", "reduce_scatter", size, group, repeat, of_all=True)
        return [*asked, *inputs, outputs, *all_gather("single-neuron outputs", visit, hidden)]

    def shape(self) -> str:
        """Such as "1048576 neurons, 8 x 16 a token"."""
        return f"{self.keys**2} neurons, {self.heads} x {self.top_m} a token"
