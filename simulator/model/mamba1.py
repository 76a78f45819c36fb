"""Mamba (Gu and Dao 2023): a selective scan with a state for every channel."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.mamba import GATE_FLOPS, STATE_BYTES
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal
from simulator.model.scores import scores
from simulator.model.single_entry import SingleEntry

SCAN_FLOPS = 8.0
"""Elementary operations per value of the state and token: exp(dt*A) two, its product with h, dt*x*B two, the sum one,
y = C.h two."""


@dataclass(frozen=True)
class Mamba1(SingleEntry):
    """h_t = exp(dt_t*A)*h_(t-1) + dt_t*B_t*x_t, y_t = C_t.h_t + D*x_t, gated: `state_size` values for each of `inner`
    channels, with dt from a projection of rank `rank` and a causal convolution of `kernel` taps over x.

    A sequence keeps inner*state_size values in 32 bits and kernel - 1 inputs of the convolution; the state is like the
    single entry of a cache with a window of one token. A prompt's scan keeps it on the chip. tp cuts the channels.
    """

    kind: ClassVar[str] = "mamba1"

    inner: int
    state_size: int
    rank: int
    kernel: int
    conv_bias: bool = True

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*2*inner + inner*(rank + 2*state) + rank*inner + inner*hidden.

        With the norms (never quantised): the convolution, the bias of dt, A of each value of the state, and D.
        """
        inner = ceil(self.inner / parallelism.tp)
        small = inner * (self.kernel + (1 if self.conv_bias else 0) + 1 + self.state_size + 1)
        matrices = inner * (3 * hidden + 2 * self.rank + 2 * self.state_size)
        return {"attention": float(matrices), "norm": float(small)}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """inner/tp * state_size * 4: the state, of which there is one whatever the length."""
        return ceil(self.inner / tp) * self.state_size * STATE_BYTES

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """The last kernel - 1 inputs of the convolution, in 16 bits."""
        return float((self.kernel - 1) * ceil(self.inner / tp) * ACTIVATION_BYTES)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the channels."""
        return not_legal("tp", parallelism.tp, f"the {self.inner} channels", divisors(self.inner))

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Input projection, convolution, projections of dt, B and C, the scan, gate, output projection."""
        inner = ceil(self.inner / parallelism.tp)
        stored, tokens = precision.format_of("attention"), batch.tokens
        scan = SCAN_FLOPS * inner * self.state_size
        moved = 2.0 * self.kv_bytes_per_token(precision, parallelism.tp)

        def product(name: str, n: float, k: float) -> Matmul:
            return Matmul(name, tokens, n, k, stored, "attention", 1.0, repeat)

        return [
            product("state projection", 2 * inner, hidden),
            Vector(
                "convolution", tokens * (2.0 * self.kernel * inner), tokens * (2 * inner * ACTIVATION_BYTES), repeat
            ),
            product("dt, B and C projection", self.rank + 2 * self.state_size, inner),
            product("dt expansion", inner, self.rank),
            *scores(
                batch,
                self.window,
                decode=(scan, moved),
                prefill=(scan, 0.0),
                format="fp32",
                repeat=repeat,
                scan=True,
            ),
            Vector("gate", tokens * (GATE_FLOPS * inner), tokens * (3 * inner * ACTIVATION_BYTES), repeat),
            product("output projection", hidden, inner),
        ]
