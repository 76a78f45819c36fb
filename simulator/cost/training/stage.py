"""Seconds of one micro-batch on one chip of each pipeline stage: forward, and backward with what is computed again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.operation import COMPUTE, Work, joined, price
from simulator.model.architecture import Architecture, Layer
from simulator.model.number_format import Precision
from simulator.model.operation import Gather
from simulator.model.saved import saved_bytes
from simulator.model.training.adapters import with_adapters
from simulator.model.training.backward import backward
from simulator.model.training.layout import Stage, TrainingLayout, stages
from simulator.model.training.micro_batch import (
    MicroBatch,
    Recompute,
    attention_core,
    embedding_operations,
    head_operations,
    head_width,
    heads_on_a_chip,
    layer_operations,
    parameters_on_a_chip,
)

FLOOR_P, OVERLAP_P = 3.0, 6.0
ACCUMULATED_BYTES = 8.0
"""Adding a gradient in fp32: read and written."""

GATHERED_BYTES = 6.0
"""Of a parameter in a micro-batch of FSDP: two gathers and one scatter, 16 bits each."""


@dataclass(frozen=True)
class PassTime:
    """Seconds of one layer's (or end's) forward and backward pass; `parts` splits their sum by what it is spent on."""

    forward: float
    backward: float
    parts: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    model_flops: float = 0.0

    @property
    def both(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


@dataclass(frozen=True)
class StageTime:
    """Seconds of one micro-batch on a stage."""

    stage: Stage
    forward: float
    backward: float
    parts: dict[str, float]
    flops: dict[str, float]

    @property
    def both(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


def _exposed(work: Work, machine: TrainingMachine, before: float = 0.0) -> dict[str, float]:
    """Seconds by part after overlap: collectives at the stack's exposed shares; `before`: layers that run earlier."""
    stack = machine.stack
    parts = {name: work.of(name) for name in COMPUTE if work.of(name)}
    parts["tp"] = float(stack.tp_exposed) * work.of("tp")
    parts["ep"] = float(stack.ep_exposed) * work.of("ep")
    ring = work.of("cp")
    parts["cp"] = float(stack.cp_exposed) * ring + 0.5 * max(0.0, ring - work.of("attention"))
    # Rows whose addresses the token ids give are fetched while the layers before compute; gradients are written behind.
    parts["host rows"] = work.of("host rows") + max(0.0, work.of("early rows") - before * work.of(*COMPUTE))
    return {name: seconds for name, seconds in parts.items() if seconds}


def layer_time(
    architecture: Architecture,
    layer: Layer,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    machine: TrainingMachine,
    recompute: Recompute,
    adapters: int = 0,
) -> PassTime:
    """One layer: t = |forward, floor|_3 + |backward + recompute, 2 floor|_3 + adding the gradients.

    Full recompute is the forward pass again, collectives included. Selective: unfused stacks repeat the attention's
    core, which keeps the scores out of memory; fused ones the stack's share of the forward pass. `adapters`: rank of
    those that are trained in place of the weights, 0 for none.
    """
    stack = machine.stack
    operations = with_adapters(layer_operations(architecture, layer, micro, layout, precision), adapters, layout)
    width, heads = (
        (head_width(layer.attention), heads_on_a_chip(layer.attention, layout)) if layer.attention else (0, 0)
    )
    ahead, back = (
        price(listed, machine, layout, width, heads) for listed in (operations, backward(operations, adapters > 0))
    )
    before = max((float(o.layers_before) for o in operations if isinstance(o, Gather)), default=0.0)
    first, second = _exposed(ahead, machine, before), _exposed(back, machine, float(architecture.layer_count))
    forward, returning = sum(first.values()), sum(second.values())
    again, repeated = 0.0, {}
    if recompute == "full":
        again, repeated = forward, ahead.flops
    elif recompute == "selective" and stack.fused_attention:
        again = float(stack.selective) * forward
        repeated = {name: float(stack.selective) * work for name, work in ahead.flops.items()}
    elif recompute == "selective":
        core = price(attention_core(operations), machine, layout, width, heads)
        again, repeated = core.of(*COMPUTE), core.flops
    floor = float(stack.layer_floor)
    whole_forward = joined(FLOOR_P, forward, floor)
    whole_backward = joined(FLOOR_P, returning + again, 2.0 * floor)
    parts: dict[str, float] = defaultdict(float)
    for name, seconds in (*first.items(), *second.items()):
        parts[name] += seconds
    parts["recompute"] += again
    parts["host"] += whole_forward + whole_backward - forward - returning - again
    flops: dict[str, float] = defaultdict(float)
    for found in (ahead.flops, back.flops, repeated):
        for name, work in found.items():
            flops[name] += work
    return PassTime(whole_forward, whole_backward, dict(parts), dict(flops))


def mean_layer(
    architecture: Architecture,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    machine: TrainingMachine,
    recompute: Recompute,
    adapters: int = 0,
) -> PassTime:
    """The mean over all layers, gradients of its parameters added in fp32."""
    forward = returning = 0.0
    parts: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    for layer in architecture.layers:
        share = layer.count / architecture.layer_count
        found = layer_time(architecture, layer, micro, layout, precision, machine, recompute, adapters)
        forward += share * found.forward
        returning += share * found.backward
        for name, seconds in found.parts.items():
            parts[name] += share * seconds
        for name, work in found.flops.items():
            flops[name] += share * work
    if not adapters:
        counts, _, _ = parameters_on_a_chip(architecture, layout)
        added = float(machine.stack.accumulation) * ACCUMULATED_BYTES * sum(counts.values()) / machine.bandwidth
        returning += added
        parts["accumulation"] += added
    return PassTime(forward, returning, dict(parts), dict(flops))


def head_time(
    architecture: Architecture,
    micro: MicroBatch,
    layout: TrainingLayout,
    machine: TrainingMachine,
    adapters: int = 0,
) -> PassTime:
    """Head and loss."""
    operations = head_operations(architecture, micro, layout)
    ahead = price(operations, machine, layout, 0, 0)
    back = price(backward([o for o in operations if o.name != "softmax"], adapters > 0), machine, layout, 0, 0)
    flops = {name: ahead.flops.get(name, 0.0) + back.flops.get(name, 0.0) for name in ahead.flops}
    forward, returning = ahead.of(*COMPUTE), back.of(*COMPUTE)
    return PassTime(forward, returning, {"head": forward + returning}, flops)


def embedding_time(
    architecture: Architecture,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    machine: TrainingMachine,
) -> PassTime:
    """Look-up, and the scatter of its gradient."""
    operations = embedding_operations(architecture, micro, layout, precision)
    ahead = price(operations, machine, layout, 0, 0)
    back = price(backward(operations), machine, layout, 0, 0)
    forward, returning = ahead.of(*COMPUTE), back.of(*COMPUTE)
    return PassTime(forward, returning, {"embedding": forward + returning})


def stage_times(
    architecture: Architecture,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    machine: TrainingMachine,
    recompute: Recompute,
    adapters: int = 0,
) -> tuple[StageTime, ...]:
    """Every stage; FSDP's transfers joined with its compute: |compute, transfers|_6 + exposed * the smaller."""
    layer = mean_layer(architecture, micro, layout, precision, machine, recompute, adapters)
    head = head_time(architecture, micro, layout, machine, adapters)
    embedding = embedding_time(architecture, micro, layout, precision, machine)
    counts, table, top = parameters_on_a_chip(architecture, layout)
    found = []
    for stage in stages(architecture.layer_count, layout.pp, layout.vpp):
        pieces = [(stage.layers, layer)]
        pieces += [(1.0, embedding)] if stage.embedding else []
        pieces += [(1.0, head)] if stage.head else []
        forward = sum(count * piece.forward for count, piece in pieces)
        returning = sum(count * piece.backward for count, piece in pieces)
        parts: dict[str, float] = defaultdict(float)
        flops: dict[str, float] = defaultdict(float)
        for count, piece in pieces:
            for name, seconds in piece.parts.items():
                parts[name] += count * seconds
            for name, work in piece.flops.items():
                flops[name] += count * work
        if layout.zero == 3 and layout.shards > 1:
            held = stage.layers * sum(counts.values()) + stage.embedding * table + stage.head * top
            transfers = GATHERED_BYTES * held / gathering_rate(layout, machine)
            compute = forward + returning
            whole = joined(OVERLAP_P, compute, transfers) + float(machine.stack.dp_exposed) * min(compute, transfers)
            parts["fsdp"] += whole - compute
            forward, returning = forward * whole / compute, returning * whole / compute
        if "activations" in machine.offloaded:
            carried = 2.0 * stage.layers * _saved(architecture, micro, layout, precision, machine, recompute)
            late = max(0.0, carried / machine.host_link - forward - returning)
            parts["offload"] += late
            returning += late
        found.append(StageTime(stage, forward, returning, dict(parts), dict(flops)))
    return tuple(found)


def _saved(
    architecture: Architecture,
    micro: MicroBatch,
    layout: TrainingLayout,
    precision: Precision,
    machine: TrainingMachine,
    recompute: Recompute,
) -> float:
    """Bytes that a mean layer keeps of a micro-batch."""
    fused, whole = machine.stack.fused_attention, architecture.layer_count
    return sum(
        layer.count / whole * saved_bytes(architecture, layer, micro, layout, precision, recompute, fused)
        for layer in architecture.layers
    )


def gathering_rate(layout: TrainingLayout, machine: TrainingMachine) -> float:
    """B/s of one chip when weights are gathered over the chips that share them."""
    return machine.ring(layout.shards, layout.tp)
