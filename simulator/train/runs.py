"""Runs a training scenario: every model on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from simulator.cost.training.power import run_power
from simulator.cost.training.step import StepTime, send_exposed, step_time, uniform_pipeline
from simulator.engine.stragglers import Speeds, Stragglers, stragglers
from simulator.metrics.training import step_rates
from simulator.model.parallelism import divisors
from simulator.progress import Progress, untold
from simulator.report.training.result import TrainingReport, TrainingRun
from simulator.scenario import TrainingScenario
from simulator.train.case import TrainingCase, prepare
from simulator.train.step import as_recorded, step_events
from simulator.train.summary import summary, whole_run
from simulator.yaml_source import Source, as_yaml


def run(
    scenario: TrainingScenario,
    source: Source,
    *,
    profiles: Sequence[Path] = (),
    seed: int | None = None,
    progress: Progress = untold,
    finished: Callable[[TrainingRun], None] = lambda result: None,
) -> TrainingReport:
    """Run every case. `finished` gets each run when it is done."""
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    runs: list[TrainingRun] = []
    for case in prepare(scenario, source, profiles, progress):
        runs.append(simulate(scenario, case, progress))
        finished(runs[-1])
    return report_of(scenario, source, runs)


def report_of(scenario: TrainingScenario, source: Source, runs: Sequence[TrainingRun]) -> TrainingReport:
    """The report of these runs of a scenario."""
    bill = None if scenario.bill is None else scenario.bill.model_dump()
    text = as_yaml(source.data)
    return TrainingReport(Path(source.path).stem, scenario.seed, tuple(runs), scenario.description, text, bill)


def simulate(scenario: TrainingScenario, case: TrainingCase, progress: Progress = untold) -> TrainingRun:
    """One run: the pipeline of a step in events, then the whole run with its failures."""
    cost = step_time(case.architecture, case.recipe, case.layout, case.machine)
    slow = slowest(scenario, case, cost)
    parts = case.architecture, case.recipe, case.layout, case.machine
    record = step_events(cost, *parts, case.schedule, slow.stages if slow else ())
    cost = as_recorded(cost, record.seconds, record.pipeline_s)
    power = run_power(cost, case.machine)
    tokens_a_step = case.recipe.global_batch * case.recipe.length
    tokens = float(scenario.tokens) if scenario.tokens else float(scenario.steps or 1) * tokens_a_step
    growth = 1.0 + tokens_a_step / float(scenario.batch.critical) if scenario.batch.critical else 1.0
    steps = ceil(tokens * growth / tokens_a_step)
    whole = whole_run(scenario, case, steps * cost.seconds, progress)
    figures = summary(case, cost, record, slow, power, steps, tokens, growth, whole)
    return TrainingRun({**figures, "scaling": scaling(scenario, case)}, record, cost, case.sheet)


def scaling(scenario: TrainingScenario, case: TrainingCase) -> list[dict[str, float]]:
    """The same layout with more and fewer replicas at the same global batch (closed form of the pipeline)."""
    layout, recipe = case.layout, case.recipe
    group = layout.chips // layout.dp
    points = []
    for dp in divisors(int(recipe.global_batch // recipe.micro_batch)):
        if dp % layout.slices or (layout.vpp > 1 and recipe.global_batch / (dp * recipe.micro_batch) % layout.pp):
            continue
        other = replace(layout, dp=dp)
        if group * dp % case.machine.slices or other.check(case.architecture):
            continue
        machine = replace(case.machine, chips=group * dp)
        cost = step_time(case.architecture, recipe, other, machine)
        slow = slowest(scenario, replace(case, layout=other, machine=machine), cost)
        cost = replace(cost, pipeline=cost.pipeline * (slow.slowdown if slow else 1.0))
        rates = step_rates(case.architecture, recipe, cost, machine, cost.seconds)
        points.append({"chips": float(machine.chips), "step_s": cost.seconds} | rates)
    return [{name: point[name] for name in ("chips", "step_s", "tokens_per_s", "mfu")} for point in points]


def slowest(scenario: TrainingScenario, case: TrainingCase, cost: StepTime) -> Stragglers | None:
    """What chips of different speed make of a step; None where all are alike."""
    given, layout = scenario.speeds, case.layout
    speeds = Speeds(float(given.deviation), float(given.slow), float(given.slowdown))
    if not speeds.deviation and not speeds.slow:
        return None
    stages = np.array([stage.both for stage in cost.stages])
    send, exposed = cost.send, send_exposed(layout, case.machine, case.schedule)

    def seconds(times: np.ndarray) -> np.ndarray:
        return uniform_pipeline(times * stages, cost.micro_batches, layout.vpp, send, exposed)

    return stragglers(speeds, layout.dp, layout.pp, layout.tp * layout.cp, seconds, scenario.seed)
