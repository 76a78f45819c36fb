"""Limits of batching and of latency."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from simulator.quantity import Fraction, Known, Seconds
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]


class Limits(Strict):
    """Limits of continuous batching, as vLLM names them."""

    max_num_seqs: Count = 256
    max_num_batched_tokens: Count = 8192
    block_size: Count = 16
    memory_utilization: Fraction = Known(0.9)

    @model_validator(mode="after")
    def _a_token_a_sequence(self) -> Limits:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs ({self.max_num_seqs}); "
                "every running sequence needs a token in each step"
            )
        return self


class SloChoice(Strict):
    """Limits on latency that requests should keep."""

    ttft: Seconds | None = None
    tpot: Seconds | None = None
    e2el: Seconds | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.0

    @model_validator(mode="after")
    def _some_limit(self) -> SloChoice:
        if self.ttft is None and self.tpot is None and self.e2el is None:
            raise ValueError("an slo needs a limit; write ttft: 2 s, tpot: 100 ms or e2el: 30 s")
        return self
