"""Several FFNs in one layer, their outputs added: a table beside experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simulator.errors import Problem
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.operation import Operation
from simulator.model.parallelism import ONE_CHIP, Parallelism


@dataclass(frozen=True)
class Together(FFN):
    """y = sum of the parts' outputs."""

    kind: ClassVar[str] = "together"

    members: tuple[FFN, ...]

    @property
    def routed_experts(self) -> int:
        """Of all parts."""
        return sum(part.routed_experts for part in self.members)

    @property
    def address_known(self) -> str:
        """'token' where any part's addresses come from the token ids, 'layer' where any waits for the layer's input."""
        known = {part.address_known for part in self.members}
        return next((word for word in ("token", "layer") if word in known), "always")

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """The sum over the parts."""
        counts: dict[str, float] = {}
        for part in self.members:
            for tensor, count in part.parameters(hidden, parallelism).items():
                counts[tensor] = counts.get(tensor, 0.0) + count
        return counts

    def active_parameters(self, hidden: int) -> float:
        """The sum over the parts."""
        return sum(part.active_parameters(hidden) for part in self.members)

    def memory_parameters(self, hidden: int) -> float:
        """The sum over the parts."""
        return sum(part.memory_parameters(hidden) for part in self.members)

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """What any part has against it."""
        return [problem for part in self.members for problem in part.check(parallelism)]

    def operations(self, visit: Visit) -> list[Operation]:
        """Part after part."""
        return [operation for part in self.members for operation in part.operations(visit)]

    def shape(self) -> str:
        """The parts' shapes."""
        return " + ".join(part.shape() for part in self.members)


def members_of(ffn: FFN) -> tuple[FFN, ...]:
    """The parts of an FFN that is several, or the one."""
    return ffn.members if isinstance(ffn, Together) else (ffn,)
