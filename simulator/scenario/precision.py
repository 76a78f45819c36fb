"""Number formats as a scenario chooses them."""

from __future__ import annotations

from typing import Literal

from simulator.model.number_format import Precision
from simulator.strict import Strict

Format = Literal[
    "fp32", "bf16", "fp16", "fp8", "int8", "int4", "nvfp4", "mxfp4", "bfp8", "bfp4", "q8_0", "q6_k", "q4_k_m", "q4_0"
]


class PrecisionChoice(Strict):
    """Number formats by tensor class. What is left out follows the checkpoint, else bf16."""

    weights: Format | None = None
    kv: Format | None = None
    experts: Format | None = None
    attention: Format | None = None
    embedding: Format | None = None
    head: Format | None = None

    def over(self, precision: Precision) -> Precision:
        """`precision` with what is chosen here in place of its own."""
        chosen = self.model_dump(exclude_none=True)
        return Precision(**{**vars(precision), **chosen})
