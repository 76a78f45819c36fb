"""One step in events: what the engine needs of the costs of its stages, and what its record makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from simulator.cost.training.machine import FAR, TrainingMachine
from simulator.cost.training.step import (
    GATHERED_SHARE,
    StepTime,
    exchange_seconds,
    send_exposed,
    send_path,
    slice_seconds,
    step_time,
)
from simulator.cost.training.traffic import stage_traffic
from simulator.engine.exchange import Exchange
from simulator.engine.pipeline import PipelineRecord, StageWork
from simulator.engine.pipeline import step as run_pipeline
from simulator.engine.schedules import DECIDING
from simulator.model.architecture import Architecture
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.recipe import Recipe

FILLED = 2
"""Micro-batches over stages after which a pipeline repeats itself until its last ones, when nothing is exchanged."""


def event_time(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine, schedule: str
) -> StepTime:
    """A step as its events take it, without their record.

    A long step in a fixed order is two short ones, p micro-batches apart: between what is gathered at its beginning and
    reduced at its end the next p take as long as the p before them (the same as the whole step within 0.2 %; tests).
    """
    cost = step_time(architecture, recipe, layout, machine)
    parts = architecture, recipe, layout, machine, schedule
    exchanged = sum(exchange_seconds(architecture, recipe, layout, machine).values())
    beside = ceil(exchanged / max(stage.both for stage in cost.stages) / layout.pp)
    count, short = int(cost.micro_batches), (FILLED + beside) * layout.pp
    short += count % layout.pp
    if schedule in DECIDING or count <= short + 2 * layout.pp:
        record = step_events(cost, *parts)
        return as_recorded(cost, record.seconds, record.pipeline_s)
    first, second = (
        step_events(replace(cost, micro_batches=float(some)), *parts) for some in (short, short + layout.pp)
    )
    times = (count - short) / layout.pp
    seconds, pipeline = (
        begun + times * (further - begun)
        for begun, further in ((first.seconds, second.seconds), (first.pipeline_s, second.pipeline_s))
    )
    return as_recorded(cost, seconds, pipeline)


def as_recorded(cost: StepTime, seconds: float, pipeline: float) -> StepTime:
    """The step's cost with what the events took, `pipeline` of it in passes, in place of the closed form."""
    return replace(
        cost,
        pipeline=pipeline,
        jitter=cost.jitter * pipeline / cost.pipeline,
        gradients=seconds - pipeline - cost.slices,
    )


def step_events(
    cost: StepTime,
    architecture: Architecture,
    recipe: Recipe,
    layout: TrainingLayout,
    machine: TrainingMachine,
    schedule: str,
    slow: Sequence[float] = (),
) -> PipelineRecord:
    """The events of one step: one replica stands for all (the slowest one: `slow`, times of its stages over those of
    mean chips), and of a tensor-parallel group one chip."""
    gather, reduce = _exchanges(architecture, recipe, layout, machine)
    stages = []
    for stage, times in zip(cost.stages, slow or [1.0] * layout.pp, strict=True):
        # The products of the weights' gradients are as large as those of the inputs'.
        weights = 0.5 * stage.parts.get("matmul", 0.0) * 2.0 / 3.0 if schedule in DECIDING else 0.0
        ahead, back = stage_traffic(architecture, recipe, layout, machine, stage)
        layers = max(1, round(stage.stage.layers))
        seconds = times * stage.forward, times * (stage.backward - weights), times * weights
        stages.append(StageWork(*seconds, ahead, back, gather, reduce, layers))
    blocking = send_exposed(layout, machine, schedule) * cost.send
    link = send_path(layout, machine)
    return run_pipeline(schedule, stages, int(cost.micro_batches), layout.vpp, cost.send, blocking, link)


def _exchanges(
    architecture: Architecture, recipe: Recipe, layout: TrainingLayout, machine: TrainingMachine
) -> tuple[tuple[Exchange, ...], tuple[Exchange, ...]]:
    """Weights gathered before, gradients reduced after the passes of the fullest stage, at the stack's exposed shares.

    With hybrid sharding the copies of the shards reduce gradients alone: weights are gathered in every micro-batch.
    Slices of a TPU reduce theirs over the data-centre network, whose share is another one.
    """
    exposed = float(machine.stack.dp_exposed)
    gathered = 0.0 if layout.zero == 3 else GATHERED_SHARE
    found = [
        Exchange("gradients", link, seconds, exposed)
        for link, seconds in exchange_seconds(architecture, recipe, layout, machine).items()
    ]
    gather = tuple(replace(each, name="weights", seconds=gathered * each.seconds) for each in found if gathered)
    reduce = tuple(replace(each, seconds=(1.0 - gathered) * each.seconds) for each in found)
    between = slice_seconds(architecture, recipe, layout, machine)
    if between:
        share = float(machine.stack.dcn_exposed)
        reduce += (Exchange("gradients between slices", FAR, between / share, share),)
    return gather, reduce
