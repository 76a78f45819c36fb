"""How a run is trained, beside its layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulator.model.number_format import Precision
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import MicroBatch
from simulator.model.training.recompute import Recompute

Graphs = Literal["none", "partial", "full"]


@dataclass(frozen=True)
class Recipe:
    """What a training script sets.

    precision    what the layers' matrices compute in
    recompute    what the backward pass computes again
    adapters     rank of the adapters that are trained (LoRA) beside frozen weights; 0: the weights are trained
    predictors   modules of multi-token prediction (DeepSeek-V3): each one layer more and a head more
    wide_layers  layers kept in 16 bits, whatever `precision` says
    graphs       what is launched as captured graphs: nothing, the parts of a layer whose shapes do not depend on the
                 tokens' experts, or the whole step
    once         whether a rank gets a token once, however many of its experts the token chose (DeepEP, HybridEP), and a
                 machine too; else a copy for each (all-to-all)
    overlap      whether the exchange of tokens between experts runs beside the computation of another micro-batch
    schedule     of the pipeline: how many micro-batches a stage holds at once
    row_state_bytes  of a value of a table of which a step updates single rows: what its optimiser keeps (Adam 12; an
                 optimiser with one number a row nearly nothing, and it works on the chip that has the gradients)
    *_bytes      of a parameter: the weight that layers read, its gradient, and what the optimiser keeps (Adam in mixed
                 precision: 4 of a master copy, 8 of two moments)
    """

    global_batch: int
    micro_batch: float
    length: int
    precision: Precision
    recompute: Recompute = "none"
    adapters: int = 0
    predictors: int = 0
    wide_layers: int = 0
    graphs: Graphs = "none"
    once: bool = False
    overlap: bool = True
    schedule: str = "1f1b"
    weight_bytes: float = 2.0
    gradient_bytes: float = 4.0
    optimizer_bytes: float = 12.0
    row_state_bytes: float = 12.0

    @property
    def micro(self) -> MicroBatch:
        """One micro-batch."""
        return MicroBatch(self.micro_batch, self.length)

    @property
    def frozen(self) -> bool:
        """Whether the weights stay as they are."""
        return self.adapters > 0

    def micro_batches(self, layout: TrainingLayout) -> float:
        """Micro-batches that pass the pipeline in a step."""
        return self.global_batch / (layout.dp * self.micro_batch)
