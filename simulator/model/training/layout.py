"""How a training run is laid over chips, and which layers each stage of its pipeline holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from simulator.errors import Problem, Where
from simulator.model.architecture import Architecture
from simulator.model.parallelism import Parallelism, divisors, not_legal


@dataclass(frozen=True)
class TrainingLayout:
    """The degrees of a run, in the words of Megatron; dp counts replicas, without context parallelism.

    tp    every matrix is cut over tp chips
    pp    the layers are cut into pp stages, vpp chunks of layers on each (interleaving)
    dp    replicas, each with its own sequences
    cp    a sequence is cut over cp chips
    ep    routed experts are spread over ep chips, carved out of tp*cp*dp
    sequence_parallel   norms and residuals are cut over tp too, so its all-reduces become gathers and scatters
    zero  0: optimiser state on every replica; 1: cut over dp*cp; 2: gradients too; 3: weights too (FSDP)
    slices  groups of chips joined by a data-centre network only; dp runs over them
    shard   chips that share one copy of what `zero` cuts; None for all dp*cp of a slice (hybrid sharding when fewer)
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    vpp: int = 1
    sequence_parallel: bool = False
    zero: int = 0
    slices: int = 1
    shard: int | None = None

    @property
    def chips(self) -> int:
        """Chips of the run."""
        return self.tp * self.pp * self.dp * self.cp

    @property
    def shards(self) -> int:
        """Chips over which `zero` cuts what is equal on all replicas."""
        whole = max(1, self.dp * self.cp // self.slices)
        return min(self.shard or whole, whole)

    @property
    def expert_shards(self) -> int:
        """Replicas of an expert: the chips over which `zero` cuts its state."""
        return max(1, self.dp * self.cp * self.tp // self.slices // max(self.ep, 1))

    @property
    def norm_cut(self) -> int:
        """Over how many chips norms and residuals are cut."""
        return self.tp if self.sequence_parallel else 1

    def of_one_stage(self) -> Parallelism:
        """The layout of one stage's chips as layers see it: the chips that share experts are dp of it."""
        return Parallelism(tp=self.tp, dp=max(1, self.ep // self.tp), ep=self.ep)

    def __str__(self) -> str:
        """'tp8 pp8 dp16 vpp3 sp zero1'; a single chip is 'dp1'."""
        degrees = {name: getattr(self, name) for name in ("tp", "pp", "dp", "ep", "cp", "vpp", "slices")}
        words = [f"{name}{degree}" for name, degree in degrees.items() if degree != 1] or ["dp1"]
        words += ["sp"] if self.sequence_parallel and self.tp > 1 else []
        return " ".join([*words, f"zero{self.zero}"] if self.zero else words)

    def check(self, architecture: Architecture, where: Where | None = None) -> list[Problem]:
        """Everything that keeps `architecture` from being trained this way."""
        degrees = {name: getattr(self, name) for name in ("tp", "pp", "dp", "ep", "cp", "vpp", "slices")}
        problems = [
            Problem(f"{name} is {degree}", where, "a degree of parallelism is a whole number from 1")
            for name, degree in degrees.items()
            if degree < 1
        ]
        if problems:
            return problems
        if self.ep > 1:
            group = self.tp * self.cp * self.dp
            problems += not_legal("ep", self.ep, f"tp*cp*dp = {group}", divisors(group))
            if not problems and self.ep > self.tp:
                problems += not_legal("ep", self.ep, f"a multiple of tp {self.tp}", range(self.tp, group + 1, self.tp))
        if self.vpp > 1 and self.pp == 1:
            problems.append(Problem(f"vpp {self.vpp} without a pipeline", None, "use vpp 1, or pp 2 or more"))
        if self.pp * self.vpp > architecture.layer_count + 2:
            what = f"pp*vpp = {self.pp * self.vpp} is more than the {architecture.layer_count} layers of "
            problems.append(Problem(what + architecture.name, None, "use fewer stages or chunks"))
        if self.dp % self.slices:
            problems += not_legal("slices", self.slices, f"dp {self.dp}", divisors(self.dp))
        if self.shard is not None and self.dp * self.cp // self.slices % self.shard:
            problems += not_legal("shard", self.shard, "the replicas of a slice", divisors(self.dp * self.cp))
        if not problems:
            problems += self.of_one_stage().check(architecture)
        return [replace(problem, where=problem.where or where) for problem in problems]


@dataclass(frozen=True)
class Stage:
    """What one chip of a stage holds: layers (a mean may be a fraction), and the ends of the model."""

    layers: float
    embedding: bool
    head: bool


def stages(layer_count: int, pp: int, vpp: int = 1, predictors: int = 0) -> tuple[Stage, ...]:
    """The layers of each stage, as Megatron's recipes cut them.

    Even where pp divides the layers. Where it divides the layers and two more, the embedding and the head count as a
    layer each (Llama-3 405B: 126 = 8 x 16 - 2). With modules of multi-token prediction the last stage holds them, and
    as many layers less and two for the heads (DeepSeek-V3: 61 = 16 x 4 - 3; Et*4|(t*4|)*14tmL in Megatron). Otherwise
    the chunks of an interleaved pipeline are alike but the last, which has what is left beside the head, and without
    chunks some stages hold one layer more than others.
    """
    ends = 2 + predictors
    each = (layer_count + ends) // pp
    if predictors and pp > 1 and (layer_count + ends) % pp == 0 and each > ends:
        counts: Sequence[float] = [*[each] * (pp - 1), each - ends]
    elif layer_count % pp == 0:
        counts = [layer_count // pp] * pp
    elif (layer_count + 2) % pp == 0:
        each = (layer_count + 2) // pp
        counts = [each - (index == 0) - (index == pp - 1) for index in range(pp)]
    elif vpp > 1:
        chunk = ceil(layer_count / (pp * vpp))
        fits = chunk * (pp * vpp - 1) <= layer_count
        most = chunk * vpp if fits else ceil(layer_count / pp)
        last = layer_count - most * (pp - 1)
        counts = [*[most] * (pp - 1), last] if last > 0 else [layer_count / pp] * pp
    else:
        more = layer_count % pp
        low = layer_count // pp
        counts = [ceil(layer_count / pp) if 0 < index <= more else low for index in range(pp)]
    return tuple(Stage(count, index == 0, index == pp - 1) for index, count in enumerate(counts))
