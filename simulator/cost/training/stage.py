"""Seconds of one micro-batch on one chip of each pipeline stage: forward, and backward with what is computed again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.offload import KEPT_LAYERS, streamed
from simulator.cost.training.operation import COMPUTE, Work, joined, price
from simulator.model.architecture import Architecture, Layer
from simulator.model.operation import Gather, Matmul
from simulator.model.saved import saved_by_mean_layer
from simulator.model.training.adapters import with_adapters
from simulator.model.training.backward import backward
from simulator.model.training.layout import Stage, TrainingLayout, stages
from simulator.model.training.micro_batch import (
    attention_core,
    embedding_operations,
    head_operations,
    head_width,
    heads_on_a_chip,
    layer_operations,
    looked_up,
    parameters_on_a_chip,
    sent_once,
)
from simulator.model.training.recipe import Recipe
from simulator.model.training.recompute import computed_again

FLOOR_P, OVERLAP_P = 3.0, 6.0
ACCUMULATED_BYTES = 8.0
"""Adding a gradient in fp32: read and written."""

GATHERED_BYTES = 2.0
"""Of a parameter in each of FSDP's transfers of a micro-batch, two gathers and one scatter: 16 bits."""


@dataclass(frozen=True)
class PassTime:
    """Seconds of one layer's (or end's) forward and backward pass; `parts` splits their sum by what it is spent on."""

    forward: float
    backward: float
    parts: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)

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


def exposed(work: Work, machine: TrainingMachine, overlap: bool, before: float = 0.0) -> dict[str, float]:
    """Seconds by part after overlap: collectives at the stack's exposed shares, the experts' exchange in full where
    nothing runs beside it; `before`: layers that run earlier."""
    stack = machine.stack
    parts = {name: work.of(name) for name in COMPUTE if work.of(name)}
    parts["tp"] = float(stack.tp_exposed) * work.of("tp")
    parts["ep"] = (float(stack.ep_exposed) if overlap else 1.0) * work.of("ep")
    ring = work.of("cp")
    parts["cp"] = float(stack.cp_exposed) * ring + 0.5 * max(0.0, ring - work.of("attention"))
    # Rows whose addresses the token ids give are fetched while the layers before compute; gradients are written behind.
    parts["host rows"] = work.of("host rows") + max(0.0, work.of("early rows") - before * work.of(*COMPUTE))
    return {name: seconds for name, seconds in parts.items() if seconds}


@dataclass(frozen=True)
class LayerWork:
    """Work of a layer's forward and backward pass, and what the latter computes again: `share` of `again`. `before`:
    layers that run before its rows are needed."""

    ahead: Work
    back: Work
    again: Work
    share: float
    before: float


def layer_work(
    architecture: Architecture, layer: Layer, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> LayerWork:
    """The work of one layer of a micro-batch on one chip."""
    stack = machine.stack
    operations = layer_operations(architecture, layer, recipe.micro, layout, recipe.precision)
    operations = with_adapters(operations, recipe.adapters, layout)
    operations = sent_once(operations, layer) if recipe.once else operations
    width, heads = (
        (head_width(layer.attention), heads_on_a_chip(layer.attention, layout)) if layer.attention else (0, 0)
    )
    ahead, back = (
        price(listed, machine, layout, width, heads) for listed in (operations, backward(operations, recipe.frozen))
    )
    before = max((float(o.layers_before) for o in operations if isinstance(o, Gather)), default=0.0)
    again, share = ahead, 0.0
    if recipe.recompute == "full":
        share = 1.0
    elif recipe.recompute == "selective" and stack.fused_attention:
        share = float(stack.selective)
    elif isinstance(recipe.recompute, frozenset):
        again, share = price(computed_again(operations, recipe.recompute), machine, layout, width, heads), 1.0
    elif recipe.recompute == "selective":
        again, share = price(attention_core(operations), machine, layout, width, heads), 1.0
    return LayerWork(ahead, back, again, share, before)


def layer_time(
    architecture: Architecture, layer: Layer, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> PassTime:
    """One layer: t = |forward, floor|_3 + wait + |backward + recompute, 2 floor|_3, floor and wait of the host.

    Full recompute is the forward pass again, collectives included; of named parts, theirs. Selective: unfused stacks
    repeat the attention's core, which keeps the scores out of memory; fused ones the stack's share of the forward pass.
    """
    work = layer_work(architecture, layer, recipe, layout, machine)
    first = exposed(work.ahead, machine, recipe.overlap, work.before)
    second = exposed(work.back, machine, recipe.overlap, float(architecture.layer_count))
    forward, returning = sum(first.values()), sum(second.values())
    once = forward if work.again is work.ahead else sum(exposed(work.again, machine, recipe.overlap).values())
    again = work.share * once
    floor, wait = _host(layer, recipe, machine)
    whole_forward = joined(FLOOR_P, forward, floor) + wait
    whole_backward = joined(FLOOR_P, returning + again, 2.0 * floor)
    parts: dict[str, float] = defaultdict(float)
    for name, seconds in (*first.items(), *second.items()):
        parts[name] += seconds
    parts["recompute"] += again
    parts["host"] += whole_forward + whole_backward - forward - returning - again
    flops: dict[str, float] = defaultdict(float)
    for found, times in ((work.ahead, 1.0), (work.back, 1.0), (work.again, work.share)):
        for name, done in found.flops.items():
            flops[name] += times * done
    return PassTime(whole_forward, whole_backward, dict(parts), dict(flops))


def _host(layer: Layer, recipe: Recipe, machine: TrainingMachine) -> tuple[float, float]:
    """Seconds of a layer's forward pass that the host needs: to launch it while chips compute, and to read how many
    tokens chose each expert while they wait. Partial graphs launch what comes before the experts and full ones all."""
    stack = machine.stack
    floor = float(stack.layer_floor) * layer.parts / 2.0 if recipe.graphs == "none" else 0.0
    if layer.ffn is None or not layer.ffn.routed_experts or recipe.graphs == "full":
        return floor, 0.0
    return floor + float(stack.expert_floor), float(stack.expert_wait)


def _sum(pieces: Iterable[tuple[float, PassTime]]) -> PassTime:
    """Passes one after the other, each so many times."""
    forward = returning = 0.0
    parts: dict[str, float] = defaultdict(float)
    flops: dict[str, float] = defaultdict(float)
    for count, piece in pieces:
        forward += count * piece.forward
        returning += count * piece.backward
        for name, seconds in piece.parts.items():
            parts[name] += count * seconds
        for name, work in piece.flops.items():
            flops[name] += count * work
    return PassTime(forward, returning, dict(parts), dict(flops))


def mean_layer(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> PassTime:
    """The mean over all layers, those that stay in 16 bits included; gradients of its parameters added in fp32, but of
    tables, of which single rows have one."""
    whole = architecture.layer_count
    wide = replace(recipe, precision=replace(recipe.precision, weights="bf16"))
    pieces = []
    for kept, asked in ((recipe.wide_layers, wide), (whole - recipe.wide_layers, recipe)):
        for layer in architecture.layers if kept else ():
            share = layer.count / whole * kept / whole
            pieces.append((share, layer_time(architecture, layer, asked, layout, machine)))
    if not recipe.frozen:
        counts, _, _ = parameters_on_a_chip(architecture, layout)
        dense = sum(count for name, count in counts.items() if name not in looked_up(architecture))
        added = float(machine.stack.accumulation) * ACCUMULATED_BYTES * dense / machine.bandwidth
        pieces.append((1.0, PassTime(0.0, added, {"accumulation": added})))
    return _sum(pieces)


def predictor_time(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> PassTime:
    """One module of multi-token prediction (DeepSeek-V3 2024): [h; embedding] led back to the model's width, and a
    layer as the last ones that keep all keys and that have an FFN."""
    full = [layer.attention for layer in architecture.layers if layer.attention and layer.attention.window is None]
    last = max((layer for layer in architecture.layers if layer.ffn), key=lambda layer: layer.places[-1])
    hidden = architecture.hidden_size
    join = Matmul("join", recipe.micro.tokens(layout), hidden / layout.tp, 2 * hidden, "bf16", "ffn")
    ahead, back = (price(listed, machine, layout, 0, 0) for listed in ([join], backward([join])))
    joining = PassTime(ahead.of(*COMPUTE), back.of(*COMPUTE), {"matmul": ahead.of(*COMPUTE) + back.of(*COMPUTE)})
    layer = Layer(full[-1] if full else last.attention, last.ffn, last.places)
    return _sum([(1.0, joining), (1.0, layer_time(architecture, layer, recipe, layout, machine))])


def head_time(architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine) -> PassTime:
    """Head and loss."""
    operations = head_operations(architecture, recipe.micro, layout)
    ahead = price(operations, machine, layout, 0, 0)
    back = price(backward([o for o in operations if o.name != "softmax"], recipe.frozen), machine, layout, 0, 0)
    flops = {name: ahead.flops.get(name, 0.0) + back.flops.get(name, 0.0) for name in ahead.flops}
    forward, returning = ahead.of(*COMPUTE), back.of(*COMPUTE)
    return PassTime(forward, returning, {"head": forward + returning}, flops)


def embedding_time(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> PassTime:
    """Look-up, and the scatter of its gradient."""
    operations = embedding_operations(architecture, recipe.micro, layout, recipe.precision)
    ahead = price(operations, machine, layout, 0, 0)
    back = price(backward(operations), machine, layout, 0, 0)
    forward, returning = ahead.of(*COMPUTE), back.of(*COMPUTE)
    return PassTime(forward, returning, {"embedding": forward + returning})


def stage_times(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> tuple[StageTime, ...]:
    """Every stage; FSDP's transfers joined with its compute: |compute, transfers|_6 + exposed * the smaller."""
    layer = mean_layer(architecture, recipe, layout, machine)
    head = head_time(architecture, recipe, layout, machine)
    embedding = embedding_time(architecture, recipe, layout, machine)
    predictors = recipe.predictors
    predictor = predictor_time(architecture, recipe, layout, machine) if predictors else PassTime(0.0, 0.0)
    found = []
    for stage in stages(architecture.layer_count, layout.pp, layout.vpp, predictors):
        pieces = [(stage.layers, layer)]
        pieces += [(1.0, embedding)] if stage.embedding else []
        pieces += [(1.0 + predictors, head), (float(predictors), predictor)] if stage.head else []
        whole = _sum(pieces)
        forward, returning, parts = whole.forward, whole.backward, defaultdict(float, whole.parts)
        if layout.zero == 3 and layout.shards > 1:
            transfers = fsdp_seconds(architecture, layout, machine, stage)
            compute = forward + returning
            joint = joined(OVERLAP_P, compute, transfers) + float(machine.stack.dp_exposed) * min(compute, transfers)
            parts["fsdp"] += joint - compute
            forward, returning = forward * joint / compute, returning * joint / compute
        if "activations" in machine.offloaded:
            away = max(0.0, stage.layers - KEPT_LAYERS) * saved_by_mean_layer(
                architecture, recipe, layout, machine.stack.fused_attention
            )
            moved = away / machine.host_link
            late = streamed(forward, moved) - forward, streamed(returning, moved) - returning
            parts["offload"] += sum(late)
            forward, returning = forward + late[0], returning + late[1]
        found.append(StageTime(stage, forward, returning, dict(parts), whole.flops))
    return tuple(found)


def fsdp_seconds(architecture: Architecture, layout: TrainingLayout, machine: TrainingMachine, stage: Stage) -> float:
    """FSDP's transfers of one micro-batch on a stage, over the chips that share its weights."""
    counts, table, top = parameters_on_a_chip(architecture, layout)
    held = stage.layers * sum(counts.values()) + stage.embedding * table + stage.head * top
    once = GATHERED_BYTES * held
    gathered, scattered = (
        machine.collective(pattern, once, layout.shards, layout.tp) for pattern in ("all_gather", "reduce_scatter")
    )
    return 2.0 * gathered + scattered
