"""Early exit: a token whose answer is clear leaves before the last layer (CALM, FlexiDepth, EE-LLM)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.model.architecture import Architecture, group_layers
from simulator.model.depth.kind import Batching, Depth, Share
from simulator.model.depth.paths import Node, Paths
from simulator.model.use import ALWAYS, Filled, Use
from simulator.quantity import Known

MEAN = Known(
    0.85,
    "estimated",
    "models from 2024 on exit late and large batches diverge (arXiv:2603.23701; a survey of 2026); a judgement",
    (0.75, 0.9),
    "",
)

FILLED: dict[str, Filled] = {"copy": "copied", "recompute": "computed", "share": "none"}


class EarlyExit(Depth):
    """A share exits[l] of the tokens leaves after l layers; a layer i is reached by 1 - sum of exits[l], l <= i.

    Expected compute is sum p(l) l / L. In a lock-step batch of B a layer is read with probability 1 - (1 - reach)^B, so
    bytes return to dense at batches of 8 to 16. Keys and values of the layers that a token did not pass:
    copy        projected from the hidden state that it left with (CALM): 2*d*d_kv FLOPs for K and for V each
    recompute   the layers run for it later, with the next token that needs them: bytes are saved, FLOPs are not
    share       later layers read the keys of the layer that it left from: nothing to do
    Source: Schuster et al. 2022 (CALM); sparse-ffn.md 3.7.
    """

    kind: Literal["early_exit"]
    exits: dict[int, Share] | None = Field(
        None, description="Layers passed -> share of the tokens that leaves then; the rest passes all."
    )
    mean: Annotated[Share, Field(description="Without `exits`: mean depth over all layers; some leave at half.")] = MEAN
    missing_kv: Literal["copy", "recompute", "share"] = "copy"
    confidence: Annotated[
        Literal["classifier", "head"],
        Field(description="head: those who come to an exit evaluate the head there."),
    ] = "classifier"
    prompts: Annotated[Literal["full", "exit"], Field(description="Whether prompt tokens leave early too.")] = "full"
    batching: Batching = "lock_step"

    @model_validator(mode="after")
    def _shares(self) -> EarlyExit:
        if self.exits is not None and sum(self.exits.values()) > 1 + 1e-9:
            raise ValueError(f"exits add up to {sum(self.exits.values()):g}; shares of the tokens are at most 1 in all")
        if self.exits is None and self.mean < 0.5:
            raise ValueError(f"mean {self.mean:g} is below half depth; write `exits` instead")
        return self

    def shares(self, layers: int) -> dict[int, float]:
        """Layers passed -> share of the tokens, those that pass all left out. Raise ValueError for unknown layers."""
        if self.exits is None:
            return {max(1, layers // 2): min(1.0, (1.0 - float(self.mean)) * layers / (layers - max(1, layers // 2)))}
        for layer in self.exits:
            if not 1 <= layer < layers:
                raise ValueError(f"no exit after {layer} layers in a model of {layers}; write 1 to {layers - 1}")
        return {layer: float(share) for layer, share in sorted(self.exits.items())}

    def reach(self, layers: int) -> list[float]:
        """Share of the tokens that passes each layer."""
        exits = self.shares(layers)
        return [max(0.0, 1.0 - sum(share for after, share in exits.items() if after <= i)) for i in range(layers)]

    def paths(self, layers: int) -> Paths:
        """The layers between two exits are nodes; all ways are beginnings of the longest one."""
        shares, reach = self.shares(layers), self.reach(layers)
        nodes = tuple(
            Node(first, after - first, reach[first]) for first, after in pairwise([0, *shares, layers]) if reach[first]
        )
        leaving = [*shares.values(), max(0.0, 1.0 - sum(shares.values()))]
        return Paths(nodes, tuple((s, tuple(range(last + 1))) for last, s in enumerate(leaving) if s > 0))

    def applied(self, model: Architecture) -> Architecture:
        """Layers used by those who reach them; heads at the exits where they decide."""
        reach = self.reach(model.layer_count)
        lock_step, filled = self.batching == "lock_step", FILLED[self.missing_kv]
        # A prompt that passes all layers leaves keys in all of them.
        gone = self.missing_kv == "share" and self.prompts == "exit"
        uses = [
            Use(reach=r, lock_step=lock_step, filled=filled, kept=r if gone else 1.0) if r < 1.0 else ALWAYS
            for r in reach
        ]
        heads = [ALWAYS]
        if self.confidence == "head":
            # Those who leave are answered by the head that they leave with.
            last = Use(reach=reach[-1], lock_step=lock_step) if reach[-1] < 1.0 else ALWAYS
            heads = [*(Use(reach=reach[at - 1], lock_step=lock_step) for at in self.shares(model.layer_count)), last]
        return replace(
            model,
            layers=group_layers(model.shapes(), uses),
            heads=tuple(heads),
            prompts_in_full=self.prompts == "full",
        )
