"""A candidate of a plan: one machine, or one for prompts and one for answers, and what a replica of it can hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from simulator.cost.steady import Replica
from simulator.cost.steady_pools import PrefillReplica
from simulator.scenario import Limits, LinkChoice, PrefillChoice, ServingMachineChoice
from simulator.scenario.model import ModelChoice
from simulator.serve import Case

LOADS = 128
LEAST_LOAD = 1e-4
"""Loads at which the power of a replica is known, at even ratios from this share of all that it holds; straight between
them."""


@dataclass(frozen=True)
class Side:
    """Equal replicas of one machine: `share` of them for each replica of the candidate."""

    case: Case
    replica: Replica | PrefillReplica
    share: float = 1.0

    def count(self, replicas: int) -> int:
        """How many go with so many replicas of the candidate."""
        return max(1, ceil(replicas * self.share - 1e-9))

    def watts(self, rate: np.ndarray) -> np.ndarray:
        """Of one chip above idle, where each replica finishes so many requests a second: within 0.1 %."""
        rates, joules = self._curve
        return np.asarray(np.interp(rate, rates, joules))

    @cached_property
    def _curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Loads from none to all that a replica holds, and W of a chip at each."""
        if isinstance(self.replica, Replica):
            state = self.replica.along(np.geomspace(LEAST_LOAD, 1.0, LOADS) * self.replica.most)
        else:
            state = self.replica.at_rate(np.geomspace(LEAST_LOAD, 1.0, LOADS) * self.replica.at_rate(np.inf).rate)
        order = np.argsort(state.rate, kind="stable")
        return np.append(0.0, state.rate[order]), np.append(0.0, state.joules[order])

    @property
    def name(self) -> str:
        """Machine, layout, number format, stack, and where its tensors are placed automatically."""
        machine = self.case.machine
        placed = " placed" if self.case.choice.placement is not None else ""
        layout = f"{machine.parallelism} {self.case.precision.weights}"
        return f"{machine.profile.name} {layout} {machine.stack.name}{placed}"


@dataclass(frozen=True)
class Candidate:
    """Replicas that keep the SLO on average: `sides` that compute the prompts, if they are others, and that answer.
    model: as the scenario names it.
    rate: requests a second of one replica that answers; token_s: its time for a token; binding: what keeps it from
    holding more; link: what the plan says that joins the sides."""

    model: str | ModelChoice
    sides: tuple[Side, ...]
    limits: Limits
    rate: float
    token_s: float
    binding: str
    link: LinkChoice | None = None

    @property
    def case(self) -> Case:
        """That of the side that answers."""
        return self.sides[-1].case

    @property
    def prefill(self) -> Side | None:
        """The side that computes the prompts, where it is another."""
        return self.sides[0] if len(self.sides) > 1 else None

    @property
    def kind(self) -> tuple[str, ...]:
        """What tells it from candidates that only differ in the limits of a step."""
        return str(self.model), *(side.name for side in self.sides)

    @property
    def machines(self) -> str:
        """Machines and layouts."""
        cases = [side.case.machine for side in self.sides]
        return " > ".join(f"{machine.profile.name} {machine.parallelism}" for machine in cases)

    @property
    def name(self) -> str:
        """Model, machines, layouts, number formats, stacks, limits of a step."""
        limits = f"{self.limits.max_num_seqs} sequences, {self.limits.max_num_batched_tokens} tokens"
        return f"{self.model} on {' > '.join(side.name for side in self.sides)}, {limits}"

    def choice(self, replicas: int) -> ServingMachineChoice:
        """The machine of a scenario with so many replicas."""
        own = ServingMachineChoice.model_validate(self.case.choice.model_dump(exclude={"prefill", "link", "replicas"}))
        if self.prefill is None:
            return own.model_copy(update={"replicas": replicas})
        there = self.prefill.case
        prefill = PrefillChoice.model_validate(there.choice.model_dump(include=set(PrefillChoice.model_fields)))
        limits = {
            "max_num_seqs": there.limits.max_num_seqs,
            "max_num_batched_tokens": there.limits.max_num_batched_tokens,
        }
        prefill = prefill.model_copy(update={**limits, "replicas": self.prefill.count(replicas)})
        return own.model_copy(update={"replicas": replicas, "prefill": prefill, "link": self.link})


@dataclass(frozen=True)
class Refusal:
    """Why a candidate is none; for one that only misses the SLO, by which factor at the best."""

    why: str
    miss: float = float("inf")
