"""A serving scenario: which models, on which machines, under which traffic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.quantity import Known, quantity
from simulator.scenario.limits import Limits, SloChoice
from simulator.scenario.machine import ServingMachineChoice
from simulator.scenario.model import ModelChoice
from simulator.scenario.money import Money
from simulator.scenario.precision import PrecisionChoice
from simulator.scenario.traffic import Traffic
from simulator.strict import Strict


class Scenario(Strict):
    """Models x machines under one traffic."""

    task: Literal["serve"] = "serve"
    description: str = ""
    model: str | ModelChoice | tuple[str | ModelChoice, ...] = Field(
        description="Names from the zoo, paths of config.json files, or models changed ({base, ffn, depth})."
    )
    machines: tuple[ServingMachineChoice, ...]
    precision: PrecisionChoice = PrecisionChoice()
    traffic: Traffic
    limits: Limits = Limits()
    router: Literal["round_robin", "least_outstanding"] = "least_outstanding"
    slo: str | SloChoice | None = None
    money: Money | None = None
    training_tokens: Annotated[
        Known, quantity(""), Field(description="For predicted losses: tokens that every model is thought trained on.")
    ] = Known(1.5e13, "estimated", "model cards: Llama 3.1 15e12, DeepSeek-V3 14.8e12", (1e12, 4e13), "")
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _something_to_run(self) -> Scenario:
        if not self.models:
            raise ValueError("model is an empty list; write model: llama-3.1-8b")
        if not self.machines:
            raise ValueError("machines is an empty list; write machines: [{hardware: h100-sxm-8}]")
        names = [str(model) for model in self.models]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"model names '{twice[0]}' twice; write each model once, or give them a `name`")
        return self

    @property
    def models(self) -> tuple[str | ModelChoice, ...]:
        """The models, one or several."""
        return self.model if isinstance(self.model, tuple) else (self.model,)
