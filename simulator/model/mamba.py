"""Mamba-2 (Dao and Gu 2024): a state of fixed size in place of a cache that grows."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.number_format import FORMATS, Precision
from simulator.model.operation import Array, Batch, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal
from simulator.model.scores import QUERY_TILE, scores
from simulator.model.single_entry import SingleEntry

STATE_BYTES = FORMATS["fp32"].bytes
"""States are kept in 32 bits (mamba_ssm_cache_dtype in the configs of Nemotron 3)."""

UPDATE_FLOPS = 5.0
"""Elementary operations per value of the state and token: h = a*h + (dt*x)*b is three, y = c.h two."""

GATE_FLOPS = 10.0
"""Elementary operations per value of a gated norm: SiLU, product, square, sum, scale."""


@dataclass(frozen=True)
class Mamba2(SingleEntry):
    """h_t = a_t*h_(t-1) + dt_t*x_t*B_t', y_t = h_t*C_t: a [head_dim, state_size] state for each of `heads`.

    B and C are shared by heads of one of `groups`; a causal convolution of `kernel` taps passes over x, B and C.
    A sequence keeps heads*head_dim*state_size values in 32 bits and kernel - 1 inputs of the convolution. The state is
    like the single entry of a cache with a window of one token: a decode step reads it and writes it back.
    tp cuts the heads; with more chips than groups each chip keeps one, copied.
    """

    kind: ClassVar[str] = "mamba2"

    heads: int
    head_dim: int
    state_size: int
    groups: int
    kernel: int
    conv_bias: bool = True

    def _cut(self, tp: int) -> tuple[int, int, int]:
        """Heads on one chip, the width of their x, and of B (or C)."""
        heads = ceil(self.heads / tp)
        return heads, heads * self.head_dim, max(1, ceil(self.groups / tp)) * self.state_size

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*(2*inner + 2*groups*state + heads) + inner*hidden, inner = heads*head_dim.

        With the norms (never quantised): the convolution, dt, A and D of each head, and the gated norm of inner.
        """
        heads, inner, shared = self._cut(parallelism.tp)
        channels = inner + 2 * shared
        small = channels * (self.kernel + (1 if self.conv_bias else 0)) + 3 * heads + inner
        return {"attention": float(hidden * (inner + channels + heads) + inner * hidden), "norm": float(small)}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """heads/tp * head_dim * state_size * 4: the state, of which there is one whatever the length."""
        return self._cut(tp)[1] * self.state_size * STATE_BYTES

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """The last kernel - 1 inputs of the convolution, in 16 bits."""
        _, inner, shared = self._cut(tp)
        return float((self.kernel - 1) * (inner + 2 * shared) * ACTIVATION_BYTES)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the heads, and divides the groups or is a multiple of them."""
        both = [tp for tp in divisors(self.heads) if self.groups % tp == 0 or tp % self.groups == 0]
        return not_legal("tp", parallelism.tp, f"{self.heads} Mamba heads in {self.groups} groups", both)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Input projection, convolution, the recurrence (decode) or the chunked scan (prefill), gated norm, output.

        Decode: 5 FLOPs a value of the state, which is read and written. Prefill, in chunks of Q = 128 tokens
        (state-space duality): a token costs 2*Q*(groups*state + inner) FLOPs inside its chunk and 4*inner*state into
        and out of the chunk's state, which is written and read once a chunk.
        """
        heads, inner, shared = self._cut(parallelism.tp)
        stored, tokens = precision.format_of("attention"), batch.tokens
        channels = inner + 2 * shared
        moved = 2.0 * self.kv_bytes_per_token(precision, parallelism.tp)
        inside = 2.0 * QUERY_TILE * (shared + inner)
        return [
            Matmul("state projection", tokens, inner + channels + heads, hidden, stored, "attention", 1.0, repeat),
            Vector(
                "convolution",
                tokens * (2.0 * self.kernel * channels),
                tokens * (2 * channels * ACTIVATION_BYTES),
                repeat,
            ),
            *scores(
                batch,
                self.window,
                decode=(UPDATE_FLOPS * inner * self.state_size, moved),
                prefill=(inside + 4.0 * inner * self.state_size, moved),
                format="fp32",
                repeat=repeat,
                scan=True,
            ),
            Vector("gated norm", tokens * (GATE_FLOPS * inner), tokens * (3 * inner * ACTIVATION_BYTES), repeat),
            Matmul("output projection", tokens, hidden, inner, stored, "attention", 1.0, repeat),
        ]
