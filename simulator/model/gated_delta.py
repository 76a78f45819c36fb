"""Gated DeltaNet (Yang et al. 2024) and Kimi Delta Attention: linear attention with a state of fixed size."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.mamba import GATE_FLOPS, STATE_BYTES
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal
from simulator.model.scores import QUERY_TILE, scores
from simulator.model.single_entry import SingleEntry

CHUNK = 64
"""Tokens that share one pass over the state in a prefill kernel (chunk_size of the delta rule in transformers)."""

UPDATE_FLOPS = 7.0
"""Elementary operations per value of the state and token: decay one, S'k two, the outer product's sum two, S'q two."""


@dataclass(frozen=True)
class GatedDeltaNet(SingleEntry):
    """S_t = a_t*S_(t-1) + k_t*b_t*(v_t - (a_t*S_(t-1))'k_t)', o_t = S_t'q_t: a [key_dim, value_dim] state a value head.

    `key_heads` of queries and keys serve `heads` of values; a causal convolution of `kernel` taps passes over q, k and
    v; the output is gated by z. A sequence keeps heads*key_dim*value_dim values in 32 bits and kernel - 1 inputs of the
    convolution. The state is like the single entry of a cache with a window of one token. tp cuts the heads.
    Kimi Delta Attention lets every channel of the keys decay by itself, from a projection of rank `decay_rank`, and may
    make the gate from one of rank `gate_rank`; 0: one decay a head (Qwen3-Next, Qwen3.5), a whole matrix for the gate.
    """

    kind: ClassVar[str] = "gated_delta"

    heads: int
    key_heads: int
    key_dim: int
    value_dim: int
    kernel: int
    decay_rank: int = 0
    gate_rank: int = 0

    def _cut(self, tp: int) -> tuple[int, int, int]:
        """Value heads on one chip, the width of their queries (or keys), and of their values."""
        heads = ceil(self.heads / tp)
        return heads, max(1, ceil(self.key_heads / tp)) * self.key_dim, heads * self.value_dim

    def _ranks(self, tp: int) -> list[tuple[int, int]]:
        """(rank, columns) of the projections that go through a rank, on one chip: decays of channels, gate."""
        _, keys, values = self._cut(tp)
        return [pair for pair in ((self.decay_rank, keys), (self.gate_rank, values)) if pair[0]]

    def _columns(self, tp: int) -> int:
        """Columns that are projected from the input at once: q, k, v, the gate, the rates of each head."""
        heads, keys, values = self._cut(tp)
        gate = self.gate_rank or values
        return 2 * keys + values + gate + heads + (self.decay_rank or heads)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*(2*keys + 2*values + 2*heads) + values*hidden, keys = key_heads*key_dim, values = heads*value_dim;
        with ranks, hidden*rank + rank*columns for the decay or the gate instead.

        With the norms (never quantised): the convolution, dt and A of each head (or dt of each channel), and the gated
        norm of value_dim.
        """
        heads, keys, values = self._cut(parallelism.tp)
        count = hidden * (self._columns(parallelism.tp) + values)
        count += sum(rank * columns for rank, columns in self._ranks(parallelism.tp))
        small = (2 * keys + values) * self.kernel + heads + (keys if self.decay_rank else heads) + self.value_dim
        return {"attention": float(count), "norm": float(small)}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """heads/tp * key_dim * value_dim * 4: the state, of which there is one whatever the length."""
        return self._cut(tp)[2] * self.key_dim * STATE_BYTES

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """The last kernel - 1 inputs of the convolution, in 16 bits."""
        _, keys, values = self._cut(tp)
        return float((self.kernel - 1) * (2 * keys + values) * ACTIVATION_BYTES)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the value heads, and divides the key heads or is a multiple of them."""
        both = [tp for tp in divisors(self.heads) if self.key_heads % tp == 0 or tp % self.key_heads == 0]
        return not_legal("tp", parallelism.tp, f"{self.heads} value heads over {self.key_heads} key heads", both)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Projections (fused), those through ranks, convolution, the delta rule, gated norm, output projection.

        Decode: 7 FLOPs a value of the state, which is read and written. Prefill, in chunks of Q = 64 tokens (the WY
        form): a token and head cost 2*Q*(3*key_dim + 2*value_dim) FLOPs inside the chunk (k'k, q'k, and the products
        with keys and values) and 6*key_dim*value_dim with the state, which is written and read once a chunk.
        """
        tp = parallelism.tp
        heads, keys, values = self._cut(tp)
        stored, tokens = precision.format_of("attention"), batch.tokens
        channels, state = 2 * keys + values, values * self.key_dim
        moved = 2.0 * self.kv_bytes_per_token(precision, tp)
        inside = 2.0 * CHUNK * heads * (3 * self.key_dim + 2 * self.value_dim)
        return [
            Matmul("qkvz projection", tokens, self._columns(tp), hidden, stored, "attention", 1.0, repeat),
            *(
                Matmul("decay or gate expansion", tokens, columns, rank, stored, "attention", 1.0, repeat)
                for rank, columns in self._ranks(tp)
            ),
            Vector(
                "convolution",
                tokens * (2.0 * self.kernel * channels),
                tokens * (2 * channels * ACTIVATION_BYTES),
                repeat,
            ),
            *scores(
                batch,
                self.window,
                decode=(UPDATE_FLOPS * state, moved),
                prefill=(inside + 6.0 * state, moved * (QUERY_TILE / CHUNK)),
                format="fp32",
                repeat=repeat,
                scan=True,
            ),
            Vector("gated norm", tokens * (GATE_FLOPS * values), tokens * (3 * values * ACTIVATION_BYTES), repeat),
            Matmul("output projection", tokens, hidden, values, stored, "attention", 1.0, repeat),
        ]
