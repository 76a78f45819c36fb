"""A candidate of a plan: one machine, or one for prompts and one for answers, and what a replica of it can hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from simulator.cost.steady import Replica
from simulator.cost.steady_pools import PrefillReplica
from simulator.scenario import Limits, LinkChoice, PrefillChoice, ServingMachineChoice
from simulator.serve import Case


@dataclass(frozen=True)
class Side:
    """Equal replicas of one machine: `share` of them for each replica of the candidate."""

    case: Case
    replica: Replica | PrefillReplica
    share: float = 1.0

    def count(self, replicas: int) -> int:
        """How many go with so many replicas of the candidate."""
        return max(1, ceil(replicas * self.share - 1e-9))

    @property
    def name(self) -> str:
        """Machine, layout, number format."""
        machine = self.case.machine
        return f"{machine.profile.name} {machine.parallelism} {self.case.precision.weights}"


@dataclass(frozen=True)
class Candidate:
    """Replicas that keep the SLO on average: `sides` that compute the prompts, if they are others, and that answer.
    rate: requests a second of one replica that answers; token_s: its time for a token; binding: what keeps it from
    holding more; link: what the plan says that joins the sides."""

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
    def name(self) -> str:
        """Machines, layouts, number formats, largest batch."""
        return f"{' > '.join(side.name for side in self.sides)} x{self.limits.max_num_seqs}"

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
