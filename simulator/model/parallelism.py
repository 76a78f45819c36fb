"""How a replica is laid over chips: tensor, pipeline, data (of the attention) and expert parallelism."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from simulator.errors import Problem, Where
from simulator.model.operation import Array, Collective

if TYPE_CHECKING:
    from simulator.model.architecture import Architecture

ACTIVATION_BYTES = 2.0
"""Activations travel between layers and chips as 16-bit values, whatever the weights are stored in."""


@dataclass(frozen=True)
class Parallelism:
    """The degrees of one replica, in the words of vLLM and SGLang.

    tp  every matrix is cut over tp chips
    pp  the layers are cut into pp stages
    dp  attention (and dense FFN) is copied dp times, each copy serving its own sequences; experts are not copied
    ep  the experts are spread over ep ranks of the tp*dp chips of a stage; the rest cuts each expert's width
    redundant_experts  copies of each layer's busiest experts beside them; None: as few as let ep divide all

    Neighbouring chips share a tp group, neighbouring tp groups a stage: tp stays inside a machine as far as it can, and
    the stages of a pipeline are furthest apart.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    redundant_experts: int | None = 0

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def expert_tp(self) -> float:
        """Chips that share one expert's width."""
        return self.tp * self.dp / self.ep

    def at_work(self, tokens: Array) -> Array:
        """Share of the stages that work at a time in steps of so many tokens: with fewer than pp the others wait, and
        neither multiply nor read."""
        return np.minimum(1.0, np.maximum(tokens, 1.0) / self.pp)

    def __str__(self) -> str:
        """'tp8', 'tp4 pp2', 'dp8 ep8', 'dp144 ep144 +32'; a single chip is 'tp1'."""
        degrees = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "ep": self.ep}
        words = [f"{name}{degree}" for name, degree in degrees.items() if degree != 1] or ["tp1"]
        copied = self.redundant_experts
        return " ".join([*words, "+copies" if copied is None else f"+{copied}"] if copied != 0 else words)

    def redundant(self, experts: int) -> int:
        """Copies in a layer of so many experts."""
        return -experts % self.ep if self.redundant_experts is None else self.redundant_experts

    def check(self, architecture: Architecture, where: Where | None = None) -> list[Problem]:
        """Everything that keeps `architecture` from being laid out this way, each with the nearest legal values.

        The vocabulary is padded as serving software does, so it is never a problem.
        """
        degrees = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "ep": self.ep}
        problems = [
            Problem(f"{name} is {degree}", where, "a degree of parallelism is a whole number from 1")
            for name, degree in degrees.items()
            if degree < 1 or degree != int(degree)
        ]
        if problems:
            return problems
        found = self._misfits(architecture)
        for name in ("tp", "ep"):
            # What is legal for one matrix may not be for another: name degrees that are legal for all of them.
            cut = [p for p in found if p.what.startswith(name) and "does not divide" in p.what]
            tried = range(1, 2 * min(degrees[name], 1024) + 64) if cut else ()
            legal = [x for x in tried if not replace(self, **{name: x})._misfits(architecture)]
            if legal:
                mend = nearest(name, degrees[name], legal)
                found = [replace(p, mend=mend) if p in cut else p for p in found]
        if self.redundant_experts == 0 and found and not replace(self, redundant_experts=None)._misfits(architecture):
            found = [replace(p, mend=f"{p.mend}, or redundant_experts: auto") for p in found]
        return list(dict.fromkeys(replace(p, where=where) for p in found))

    def _misfits(self, architecture: Architecture) -> list[Problem]:
        """What does not fit, each with the degrees that are legal for that alone."""
        problems = []
        if self.pp > architecture.layer_count:
            what = f"pp {self.pp} is more than the {architecture.layer_count} layers of {architecture.name}"
            problems.append(Problem(what, None, f"use pp {architecture.layer_count} or less"))
        if self.ep > 1 and not any(layer.ffn and layer.ffn.routed_experts for layer in architecture.layers):
            problems.append(Problem(f"ep {self.ep}, but {architecture.name} has no experts", None, "use ep 1"))
        elif self.tp * self.dp % self.ep:
            problems += not_legal("ep", self.ep, f"tp*dp = {self.tp * self.dp}", divisors(self.tp * self.dp))
        elif self.ep == 1 and self.redundant_experts:
            what = f"redundant_experts {self.redundant_experts}, but ep 1 has no ranks to share them"
            problems.append(Problem(what, None, "write ep, or leave redundant_experts out"))
        for layer in architecture.layers:
            for part in (layer.attention, layer.ffn):
                problems += part.check(self) if part else []
        return problems


ONE_CHIP = Parallelism()


def divisors(number: int) -> list[int]:
    """All divisors, smallest first."""
    low = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*low, *(number // d for d in low)})


def not_legal(degree: str, value: float, of_what: str, legal: Iterable[int]) -> list[Problem]:
    """The Problem of a degree that does not divide `of_what`, with the nearest legal values; [] when it is legal."""
    legal = sorted(legal)
    if value in legal:
        return []
    return [Problem(f"{degree} {value:g} does not divide {of_what}", None, nearest(degree, value, legal))]


def nearest(degree: str, value: float, legal: Sequence[int]) -> str:
    """The legal values next to one that is not."""
    near = [max((x for x in legal if x < value), default=None), min((x for x in legal if x > value), default=None)]
    return f"nearest {degree}: " + " or ".join(str(x) for x in near if x is not None)


def all_reduce(name: str, tokens: Array, hidden: int, group: int, repeat: Array) -> list[Collective]:
    """The sum of [tokens, hidden] partial results over `group` chips; nothing for a group of one."""
    if group == 1:
        return []
    row = hidden * ACTIVATION_BYTES
    return [Collective(name, "all_reduce", tokens * row, group, repeat, row_bytes=row)]
