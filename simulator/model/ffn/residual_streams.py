"""What mixes residual streams, or runs beside one: hyper-connections (Qwen4), AltUp and LAuReL (Gemma 3n)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from simulator.model.ffn.fields import Count, Whole
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism


@dataclass(frozen=True)
class ResidualStreams(FFN):
    """`mixers` low-rank mixers a layer: W_up W_down of rank `rank`, over all `streams` streams of the model's width
    (`wide`, hyper-connections) or over one of them (LAuReL), with `streams` learned weights each.

    `turns`: matrices d x d that make the streams from one or lead them back into one (AltUp, first and last layer).
    Every chip of a tensor-parallel group holds and computes all of it.
    Sources: transformers 5.23.0, modeling_qwen4_exp.py (hyper-connections) and modeling_gemma3n.py (AltUp, LAuReL).
    """

    kind: ClassVar[str] = "residual_streams"
    beside: ClassVar[bool] = True

    streams: Annotated[Count, Field(description="Residual streams.")] = 4
    rank: Annotated[Count, Field(description="Rank of a mixer.")] = 64
    mixers: Annotated[Count, Field(description="Mixers of one layer.")] = 1
    wide: bool = True
    turns: Whole = 0

    def _width(self, hidden: int) -> int:
        return hidden * (self.streams if self.wide else 1)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """mixers*w*(2*rank + streams) + turns*hidden^2, w = streams*hidden or hidden; norms: w a mixer, or two and a
        scale of hidden with the coefficients of AltUp, streams^2 + streams^3."""
        width, streams = self._width(hidden), self.streams
        small = width if self.wide else 3 * width + streams**2 + streams**3
        count = self.mixers * width * (2 * self.rank + streams) + self.turns * hidden**2
        return {"ffn": float(count), "norm": float(self.mixers * small)}

    def active_parameters(self, hidden: int) -> float:
        """All of them."""
        return sum(self.parameters(hidden).values())

    def operations(self, visit: Visit) -> list[Operation]:
        """Down (with the weights of the streams), up, the turns; and the streams, read and written once a mixer."""
        hidden, tokens, stored, repeat = visit.hidden, visit.tokens, visit.precision.format_of("ffn"), visit.repeat
        width, rows = self._width(hidden), tokens * self.mixers
        streams = self.streams * hidden

        def product(name: str, n: float, k: float, count: float) -> Matmul:
            return Matmul(name, tokens * count, n, k, stored, "ffn", count, repeat)

        return [
            product("streams down", self.rank + self.streams, width, self.mixers),
            product("streams up", width, self.rank, self.mixers),
            Vector(
                "streams",
                rows * (2.0 * self.streams * streams),
                rows * (2 * streams * ACTIVATION_BYTES),
                repeat,
                visit.parallelism.tp,
            ),
            *([product("streams turned", hidden, hidden, self.turns)] if self.turns else []),
        ]

    def shape(self) -> str:
        """Such as "4 streams, mixed at rank 320"."""
        return f"{self.streams} streams, mixed at rank {self.rank}"
