"""Number formats as a scenario chooses them."""

from __future__ import annotations

from simulator.model.number_format import FormatName, Precision
from simulator.strict import Strict


class PrecisionChoice(Strict):
    """Number formats by tensor class. What is left out follows the checkpoint, else bf16."""

    weights: FormatName | None = None
    kv: FormatName | None = None
    experts: FormatName | None = None
    attention: FormatName | None = None
    embedding: FormatName | None = None
    head: FormatName | None = None

    def over(self, precision: Precision) -> Precision:
        """`precision` with what is chosen here in place of its own."""
        chosen = self.model_dump(exclude_none=True)
        return Precision(**{**vars(precision), **chosen})
