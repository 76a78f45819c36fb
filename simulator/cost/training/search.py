"""`parallelism: auto`: every legal layout that fits, the fastest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import get_args

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.memory import MemorySheet, memory_sheet
from simulator.cost.training.step import step_time
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture
from simulator.model.parallelism import divisors
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.recipe import Recipe
from simulator.model.training.recompute import Mode, Recompute

LONG = 16_384
"""Tokens of a sequence from which it is worth cutting."""

MICRO_BATCHES = (1, 2, 4, 8)
CHUNKS = (1, 2, 4, 8)
LARGEST_TP = 16
"""On a torus, where a slice has no edge that ends it."""


@dataclass(frozen=True)
class Candidate:
    """A layout with its recipe, the seconds of a step and the memory of the fullest chip."""

    layout: TrainingLayout
    recipe: Recipe
    seconds: float
    sheet: MemorySheet


@dataclass(frozen=True)
class Search:
    """The candidates that fit, the fastest first, and how many legal ones were looked at."""

    fitting: tuple[Candidate, ...]
    tried: int


def search(
    architecture: Architecture,
    recipe: Recipe,
    machine: TrainingMachine,
    utilization: float,
    micro_batches: tuple[int, ...] = MICRO_BATCHES,
    recomputes: tuple[Recompute, ...] = get_args(Mode),
    keep: int = 6,
    given: TrainingLayout | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Search:
    """Look at every legal layout of machine.chips chips, or at the given one alone.

    Raise CapacityError, with the sheet that comes nearest, when none fits.

    Less recompute is always faster and larger, so only the least that fits is priced; memory is cheaper to know than
    time, so it comes first. `progress(done, of)` counts layouts.
    """
    fitting: list[Candidate] = []
    nearest: MemorySheet | None = None
    tried = 0
    listed = list(layouts(architecture, recipe, machine)) if given is None else [given]
    for done, layout in enumerate(listed, 1):
        for micro in micro_batches:
            if recipe.global_batch % (layout.dp * micro):
                continue
            count = recipe.global_batch // (layout.dp * micro)
            if layout.vpp > 1 and count % layout.pp:
                continue
            for mode in recomputes:
                asked = replace(recipe, micro_batch=float(micro), recompute=mode)
                sheet = memory_sheet(architecture, asked, layout, machine)
                tried += 1
                if nearest is None or sheet.total < nearest.total:
                    nearest = sheet
                if sheet.fits(utilization):
                    seconds = step_time(architecture, asked, layout, machine).seconds
                    fitting.append(Candidate(layout, asked, seconds, sheet))
                    break
        progress(done, len(listed))
    if not fitting:
        if nearest is None:
            raise CapacityError(
                f"no layout of {machine.chips} chips divides a batch of {recipe.global_batch} sequences; use another "
                "global_batch or number of chips"
            )
        raise CapacityError(
            f"{architecture.name} does not fit {machine.chips} chips of '{machine.profile.name}' in any of {tried} "
            f"layouts; the one that comes nearest:\n{nearest.text()}"
        )
    fitting.sort(key=lambda candidate: (candidate.seconds, str(candidate.layout)))
    return Search(tuple(fitting[:keep]), tried)


def layouts(architecture: Architecture, recipe: Recipe, machine: TrainingMachine) -> Iterator[TrainingLayout]:
    """Legal layouts: tp inside a scale-up domain, cp for long sequences, ep over the experts, chunks where they divide
    the layers of a stage, optimiser state or everything cut over the replicas."""
    chips = machine.chips
    experts = max((layer.ffn.routed_experts for layer in architecture.layers if layer.ffn), default=0)
    layers = architecture.layer_count
    edge = machine.domain if machine.profile.family != "tpu-mesh" else min(LARGEST_TP, machine.domain)
    for tp in (d for d in divisors(chips) if d <= edge):
        for pp in (d for d in divisors(chips // tp) if d <= layers):
            if layers % pp and (layers + 2) % pp:
                continue
            for cp in (1, 2, 4, 8) if recipe.length >= LONG else (1,):
                if chips % (tp * pp * cp):
                    continue
                dp = chips // (tp * pp * cp)
                if recipe.global_batch % dp or dp % machine.slices:
                    continue
                spread = [ep for ep in divisors(experts) if experts and (tp * cp * dp) % ep == 0 and ep % tp == 0]
                for ep in spread or [1]:
                    for vpp in CHUNKS if pp > 1 else (1,):
                        if vpp > 1 and (layers % (pp * vpp) and (layers + 2) % (pp * vpp)):
                            continue
                        for zero in (1, 3) if pp == 1 else (1,):
                            layout = TrainingLayout(tp, pp, dp, ep, cp, vpp, tp > 1, zero, machine.slices)
                            if not layout.check(architecture):
                                yield layout
