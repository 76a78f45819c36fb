"""The memory sheet of a training run: what the fullest chip holds, by what it is for."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.offload import KEPT_LAYERS
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture
from simulator.model.saved import saved_by_mean_layer
from simulator.model.training.adapters import adapter_parameters
from simulator.model.training.layout import TrainingLayout, stages
from simulator.model.training.micro_batch import looked_up, parameters_on_a_chip
from simulator.model.training.recipe import Recipe
from simulator.quantity import format_quantity

LOGIT_BYTES = 10.0
"""Kept of a logit: fp32 copy and gradient, and the 16-bit value."""

TEMPORARY_BYTES = 2.0
"""Of the largest tensor that a step makes and drops again."""


@dataclass(frozen=True)
class MemorySheet:
    """Bytes on the fullest chip, against its memory."""

    machine: str
    model: str
    layout: str
    tier: str
    capacity: float
    stage: int
    held: dict[str, float]
    host: dict[str, float]
    host_capacity: float

    @property
    def total(self) -> float:
        """All that is held."""
        return sum(self.held.values())

    def fits(self, utilization: float) -> bool:
        """Whether this share of the chip's memory, and its share of the host's, hold it."""
        return self.total <= utilization * self.capacity and sum(self.host.values()) <= self.host_capacity

    def text(self) -> str:
        """The sheet, one line a row."""
        head = f"{self.model} on {self.machine} ({self.layout}), fullest chip (stage {self.stage}), {self.tier}:"
        rows = [*self.held.items(), ("in all", self.total), ("capacity", self.capacity)]
        rows.append(("left", self.capacity - self.total))
        if self.host:
            rows += [(f"host: {name}", size) for name, size in self.host.items()]
            rows.append(("host: share of a chip", self.host_capacity))
        return "\n".join([head, *(f"  {name:<22}{format_quantity(size, 'B'):>12}" for name, size in rows)])

    def check(self, utilization: float = 1.0) -> None:
        """Raise CapacityError with the sheet when it takes more than this share of the memory."""
        if not self.fits(utilization):
            raise CapacityError(
                f"training {self.model} does not fit '{self.machine}' as {self.layout}; cut it further (tp, pp, zero), "
                f"recompute more, or take a smaller micro-batch\n{self.text()}"
            )


def memory_sheet(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> MemorySheet:
    """The sheet of the stage that holds most.

    Weights 2 B, gradients, optimiser 12 B a parameter, each cut over the shards as `zero` says; FSDP gathers one layer
    at a time. DualPipe holds two stages' weights and gradients on every chip.
    """
    tier = machine.memory
    capacity = float(tier.capacity) * float(tier.usable)
    sheets = []
    for index, stage in enumerate(stages(architecture.layer_count, layout.pp, layout.vpp, recipe.predictors)):
        if index in (0, layout.pp - 1):
            layers = stage.layers + stage.head * recipe.predictors
            held = _stage(architecture, recipe, layout, machine, index, layers)
            held, host = _offloaded(architecture, recipe, layout, machine, layers, held)
            name, shape = machine.profile.name, str(layout)
            room = float(machine.host.capacity) / machine.profile.node.chips if host else 0.0
            sheets.append(MemorySheet(name, architecture.name, shape, tier.tier, capacity, index, held, host, room))
    return max(sheets, key=lambda sheet: sheet.total)


def _stage(
    architecture: Architecture,
    recipe: Recipe,
    layout: TrainingLayout,
    machine: TrainingMachine,
    index: int,
    layers: float,
) -> dict[str, float]:
    counts, table, top = parameters_on_a_chip(architecture, layout)
    first, last = index == 0, index == layout.pp - 1
    counts = {name: count for name, count in counts.items() if name not in looked_up(architecture)}
    experts = layers * counts.get("expert", 0.0)
    shared = layers * sum(n for name, n in counts.items() if name != "expert") + first * table + last * top
    cut, expert_cut = layout.shards, layout.expert_shards

    def share(per: float, from_zero: int) -> float:
        if layout.zero < from_zero:
            return per * (shared + experts)
        return per * (shared / cut + experts / expert_cut)

    copies = 2.0 if recipe.schedule == "dualpipe" else 1.0  # a stage of either direction
    held = {
        "weights": copies * share(recipe.weight_bytes, 3),
        "gradients": copies * share(recipe.gradient_bytes, 2),
        "optimizer": share(recipe.optimizer_bytes, 1),
    }
    if recipe.frozen:
        own = adapter_parameters(architecture, layout, recipe.adapters)
        held = {
            "weights": held["weights"],
            "adapters": (recipe.weight_bytes + recipe.gradient_bytes + recipe.optimizer_bytes) * own,
        }
    if layout.zero == 3 and cut > 1:
        held["gathered layers"] = 2.0 * recipe.weight_bytes * sum(counts.values())
    fused = machine.stack.fused_attention
    held["activations"] = layers * in_flight(layout, index, recipe)
    held["activations"] *= saved_by_mean_layer(architecture, recipe, layout, fused)
    if recipe.recompute == "full":
        held["recomputed layer"] = saved_by_mean_layer(architecture, recipe, layout, fused, whole=True)
    tokens, columns = recipe.micro.tokens(layout), ceil(architecture.vocab_size / layout.tp)
    if last:
        held["logits"] = LOGIT_BYTES * tokens * columns * (1 + recipe.predictors)
    largest = max(tokens * columns if last else 0.0, table if first else 0.0, top if last else 0.0)
    held["temporary"] = TEMPORARY_BYTES * largest
    held["reserved"] = float(machine.stack.reserved)
    return {name: size for name, size in held.items() if size}


def _offloaded(
    architecture: Architecture,
    recipe: Recipe,
    layout: TrainingLayout,
    machine: TrainingMachine,
    layers: float,
    held: dict[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    """What stays on the chip, tables added, and what goes to the host. A table keeps weights and moments of every row;
    in the host's memory the chips of a node share one copy. Of offloaded activations those of two layers stay, of one
    micro-batch."""
    host: dict[str, float] = {}
    counts, _, _ = parameters_on_a_chip(architecture, layout)
    cut = layout.of_one_stage()
    sharing = max(1.0, min(machine.profile.node.chips, machine.chips) / (cut.tp * cut.dp))
    for name in sorted(looked_up(architecture)):
        size = layers * counts.get(name, 0.0) * (recipe.weight_bytes + recipe.row_state_bytes)
        if name in machine.offloaded:
            host[name] = size / sharing
        else:
            held[name] = size
    if "optimizer" in machine.offloaded:
        host["optimizer"] = held.pop("optimizer", 0.0)
    if "activations" in machine.offloaded:
        of_layer = saved_by_mean_layer(architecture, recipe, layout, machine.stack.fused_attention)
        stay = min(held["activations"], KEPT_LAYERS * of_layer)
        host["activations"] = held["activations"] - stay
        held["activations"] = stay
    return held, host


def in_flight(layout: TrainingLayout, index: int, recipe: Recipe) -> float:
    """Micro-batches whose activations a stage holds at once: p - i in 1F1B and zero bubble, (1 + (p - 1)/(p v)) times
    as many when interleaved, p + 1 in DualPipe, all of them in GPipe."""
    p, v, count = layout.pp, layout.vpp, recipe.micro_batches(layout)
    if recipe.schedule == "gpipe":
        return count
    if recipe.schedule == "dualpipe":
        return min(p + 1.0, count)
    return min((p - index) * (1.0 + (p - 1) / (p * v) if v > 1 else 1.0), count)
