"""A machine as a scenario chooses it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simulator.quantity import Bandwidth, Known, quantity
from simulator.scenario.placement import PlacementChoice
from simulator.scenario.precision import PrecisionChoice
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]
Degree = Annotated[int, Field(gt=0, le=1_000_000)]
Replicas = Annotated[int, Field(gt=0, le=100_000)]


class MachineChoice(Strict):
    """A machine of the scenario: a hardware profile, how one replica is laid out on it, and how many replicas.

    A replica of tp*pp*dp chips may span several machines of the profile where their `scale_out` network joins them.
    """

    hardware: str = Field(description="Name of a hardware profile, or a path of one.")
    host: str | None = Field(None, description="Profile of the CPU node that holds the chips (hybrids).")
    sockets: Count | None = Field(None, description="Sockets of the host that take part; all when left out.")
    name: str | None = Field(None, description="What results call it; the profile's name when left out.")
    change: dict[str, Any] = Field(
        default_factory=dict, description="What if: path in the profile -> value; {chip.memory.hbm.capacity: 160 GB}."
    )
    tp: Degree | None = Field(None, description="Tensor parallelism; all chips of the machine when left out.")
    pp: Degree = Field(1, description="Pipeline parallelism.")
    dp: Degree = Field(1, description="Data parallelism of the attention inside a replica.")
    ep: Degree = Field(1, description="Expert parallelism.")
    redundant_experts: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        0, description="Copies of each layer's busiest experts (EPLB); auto: as few as let ep divide all of them."
    )
    replicas: Replicas = Field(1, description="Copies of the model behind the router, each on chips of its own.")
    threads: Count | None = Field(None, description="Threads on each CPU socket; one a core when left out.")
    stack: str | None = Field(None, description="Software stack; the profile's default when left out.")
    stack_change: dict[str, Any] = Field(default_factory=dict, description="The same for the stack on this chip.")
    precision: PrecisionChoice = Field(PrecisionChoice(), description="Overrides the scenario's.")
    placement: PlacementChoice | None = Field(
        None, description="Tensor class -> tier, or auto: the hottest bytes nearest. Left out: all in the main memory."
    )


class PrefillChoice(MachineChoice):
    """The machine that computes the prompts of one that only decodes."""

    max_num_seqs: Count | None = Field(None, description="Limit of its batches; the scenario's when left out.")
    max_num_batched_tokens: Count | None = Field(None, description="The same of the tokens in one of its steps.")


class LinkChoice(Strict):
    """What moves KV caches from the machines that prefill to those that decode."""

    bandwidth: Bandwidth = Field(description="Per direction, of one replica at either end.")
    latency: Annotated[Known, quantity("s", zero=True)] = Field(
        Known(0.0), description="From the last byte that leaves to its arrival."
    )
    overlapped: bool = Field(
        False, description="Layers move while later ones are computed, to room that is kept from before the prompt on."
    )


class ServingMachineChoice(MachineChoice):
    """A machine that serves requests, or one that decodes them after another has computed their prompts."""

    prefill: PrefillChoice | None = Field(
        None, description="Machines that compute the prompts; this one then only decodes. Left out: it does both."
    )
    link: LinkChoice | None = Field(
        None, description="Moves the KV cache from there to here; left out: the slower of the profiles' `scale_out`."
    )

    @model_validator(mode="after")
    def _joined(self) -> ServingMachineChoice:
        if self.link and not self.prefill:
            raise ValueError("a link leads from machines that prefill; write prefill: {hardware: h100-sxm-8}")
        return self

    @property
    def pools(self) -> tuple[MachineChoice, ...]:
        """The machines that prefill, if they are others, and those that decode."""
        return (self.prefill, self) if self.prefill else (self,)
