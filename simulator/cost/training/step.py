"""Seconds of one training step: pipeline, gradient exchange, optimiser.

t_step = t_pipe (1 + jitter log2(chips / domain)) + t_gradients + t_slices + t_optimiser
t_pipe = M (t_max + exposed 2 v t_send) + (sum of stages - t_max) / v + 2 (p - 1) t_send
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import log2

import numpy as np

from simulator.cost.training.machine import NEAR, TrainingMachine
from simulator.cost.training.offload import host_update_seconds
from simulator.cost.training.stage import StageTime, stage_times
from simulator.model.architecture import Architecture
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.training.adapters import adapter_parameters
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import (
    MicroBatch,
    looked_up,
    parameters_on_a_chip,
    rows_of_a_micro_batch,
)
from simulator.model.training.recipe import Recipe

SEND_LATENCY = 10e-6
"""Of a message between stages (recalled: NCCL point to point over a network)."""

REDUCED_BYTES, WEIGHT_BYTES = 4.0, 2.0
"""Of a parameter and step: its gradient reduced in fp32, and itself gathered in 16 bits."""

GATHERED_SHARE = WEIGHT_BYTES / (REDUCED_BYTES + WEIGHT_BYTES)
"""Of them gathered; the rest is reduced."""

SLICE_BYTES = 4.0
"""Of a parameter that is reduced in fp32 alone."""

OPTIMIZER_BYTES = 34.0
"""Of a parameter that Adam in mixed precision reads and writes in a step (weights, gradient, master, two moments)."""

ROW_BYTES = 8.0
"""Of a value that an optimiser with one number a row updates: its fp32 gradient, itself read and written in 16 bits."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step by part, and the stages behind them."""

    stages: tuple[StageTime, ...]
    micro_batches: float
    pipeline: float
    send: float
    jitter: float
    gradients: float
    slices: float
    optimizer: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.pipeline + self.jitter + self.gradients + self.slices + self.optimizer

    @property
    def bubble(self) -> float:
        """Seconds that the slowest stage waits in the pipeline."""
        return self.pipeline - self.micro_batches * max(stage.both for stage in self.stages)


def step_time(architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine) -> StepTime:
    """The step of a run whose replicas are all alike."""
    found = stage_times(architecture, recipe, layout, machine)
    stack, count = machine.stack, recipe.micro_batches(layout)
    send = send_seconds(architecture, recipe.micro, layout, machine) if layout.pp > 1 else 0.0
    each = np.array([stage.both for stage in found])
    pipeline = float(uniform_pipeline(each, count, layout.vpp, send, send_exposed(layout, machine, recipe.schedule)))
    rows, behind = row_update_seconds(architecture, recipe, layout, machine)
    rows += max(0.0, behind - pipeline)  # the host writes behind the next step
    spread = max(1.0, machine.chips / machine.domain)
    return StepTime(
        found,
        count,
        pipeline,
        send,
        pipeline * float(stack.jitter) * log2(spread),
        gradient_seconds(architecture, recipe, layout, machine),
        slice_seconds(architecture, recipe, layout, machine),
        optimizer_seconds(architecture, recipe, layout, machine, found[0]) + rows,
    )


def uniform_pipeline(stages: np.ndarray, count: float, vpp: int, send: float, exposed: float) -> np.ndarray:
    """1F1B, interleaved over vpp chunks, in closed form: exact for equal stages, close for unequal ones.

    stages: [..., p] seconds of a micro-batch on each; [...] seconds of a step.
    """
    longest, pp = stages.max(axis=-1), stages.shape[-1]
    if pp == 1:
        return np.asarray(count * longest)
    busy = count * (longest + exposed * 2.0 * vpp * send)
    return np.asarray(busy + (stages.sum(axis=-1) - longest) / vpp + 2.0 * (pp - 1) * send)


def send_seconds(
    architecture: Architecture, micro: MicroBatch, layout: TrainingLayout, machine: TrainingMachine
) -> float:
    """One activation from a stage to the next; tp ranks send a part each."""
    size = micro.tokens(layout) * architecture.hidden_size * ACTIVATION_BYTES / layout.tp
    return size / (machine.link if send_path(layout, machine) == NEAR else machine.network) + SEND_LATENCY


def send_exposed(layout: TrainingLayout, machine: TrainingMachine, schedule: str) -> float:
    """The share of a message for which its sender cannot compute: the stack's where chunks interleave or passes are
    chosen as they come, all of it where a stage has one pass after the other (Megatron-Core hides messages,
    overlap_p2p_comm, with virtual stages only)."""
    in_turn = layout.vpp == 1 and schedule in ("gpipe", "1f1b")
    return 1.0 if in_turn else float(machine.stack.pp_exposed)


def send_path(layout: TrainingLayout, machine: TrainingMachine) -> str:
    """What carries messages between stages: the scale-up links only where the whole run is one domain."""
    return machine.path(layout.chips)


def _trained(architecture: Architecture, recipe: Recipe, layout: TrainingLayout) -> tuple[float, float]:
    """Parameters that the fullest stage trains on one chip: (equal on all replicas, of experts); tables are updated by
    row. Beside frozen weights these are the adapters."""
    if recipe.frozen:
        return adapter_parameters(architecture, layout, recipe.adapters), 0.0
    counts, table, top = parameters_on_a_chip(architecture, layout)
    layers = architecture.layer_count / layout.pp
    counts = {name: count for name, count in counts.items() if name not in looked_up(architecture)}
    experts = counts.get("expert", 0.0) * layers
    shared = sum(count for name, count in counts.items() if name != "expert") * layers
    return shared + (table + top if layout.pp == 1 else max(table, top)), experts


def gradient_seconds(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> float:
    """The part of the exchange of gradients and weights that compute does not hide, by the stack's measured share."""
    return float(machine.stack.dp_exposed) * sum(exchange_seconds(architecture, recipe, layout, machine).values())


def exchange_seconds(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> dict[str, float]:
    """Link -> seconds in which gradients are reduced and weights gathered over the replicas; FSDP does it in every
    micro-batch instead, and with hybrid sharding reduces once a step over the copies."""
    shared, experts = _trained(architecture, recipe, layout)
    ranks = layout.dp * layout.cp // layout.slices
    if layout.zero == 3 and layout.shards > 1:
        # Hybrid sharding: what a shard has gathered is reduced over the copies of the shards.
        copies, stride = ranks // layout.shards, layout.tp * layout.shards
        if copies == 1:
            return {}
        size = SLICE_BYTES * (shared + experts) / layout.shards
        return {machine.path(copies, stride): machine.collective("all_reduce", size, copies, stride)}
    found: dict[str, float] = defaultdict(float)
    groups = ((shared, ranks, layout.tp), (experts, layout.expert_shards, layout.ep))
    for held, copies, stride in groups:
        if held and copies > 1:
            reduced = machine.collective("reduce_scatter", REDUCED_BYTES * held, copies, stride)
            gathered = machine.collective("all_gather", WEIGHT_BYTES * held, copies, stride)
            found[machine.path(copies, stride)] += reduced + gathered
    return dict(found)


def slice_seconds(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> float:
    """Gradients reduced between slices over the data-centre network:

    dcn_exposed * 4 N / (chips of a slice) * 2 (S - 1)/S / network * (1 + S / S0)
    """
    count = layout.slices
    if count == 1:
        return 0.0
    stack = machine.stack
    if recipe.frozen:
        whole = adapter_parameters(architecture, layout, recipe.adapters) * layout.tp * layout.pp
    else:
        whole = architecture.total_parameters()
    size = SLICE_BYTES * whole / (layout.chips / count)
    growth = 1.0 + count / float(stack.dcn_slices)
    return float(stack.dcn_exposed) * size * 2.0 * (count - 1) / count / machine.network_bandwidth * growth


def optimizer_seconds(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine, last: StageTime
) -> float:
    """Adam over the shard of one chip, on the host where it is offloaded; `last`: the stage that ends last."""
    shared, experts = _trained(architecture, recipe, layout)
    if layout.zero:
        shared, experts = shared / layout.shards, experts / layout.expert_shards
    own = shared + experts
    if "optimizer" in machine.offloaded:
        sizes = recipe.gradient_bytes, recipe.weight_bytes, OPTIMIZER_BYTES
        return host_update_seconds(own, *sizes, last.backward, last.stage.layers, machine)
    return OPTIMIZER_BYTES * own / machine.bandwidth


def row_update_seconds(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> tuple[float, float]:
    """(on the chips, in the host) over the rows of tables that a step has read: Adam where they lie; with one number a
    row on the chip that has the gradients, from where rows in the host's memory are written back."""
    rows = rows_of_a_micro_batch(architecture, recipe.micro, layout, recipe.precision) * recipe.micro_batches(layout)
    values = rows / recipe.precision.bytes_of("ffn")
    if not values:
        return 0.0, 0.0
    share = float(machine.host.bandwidth) / machine.profile.node.chips
    away = bool(looked_up(architecture) & machine.offloaded)
    if recipe.row_state_bytes and away:
        return 0.0, OPTIMIZER_BYTES * values / share
    if recipe.row_state_bytes:
        return OPTIMIZER_BYTES * values / machine.bandwidth, 0.0
    size = recipe.weight_bytes * values
    back = size / min(machine.host_link, share) if away else 0.0
    return ROW_BYTES * values / machine.bandwidth, back
