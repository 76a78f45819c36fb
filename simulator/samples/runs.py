"""Runs of a scenario of samples or points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.cost.step_table import StepTable
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.progress import Progress, untold
from simulator.report.sample_result import SampleReport, SampleRun
from simulator.samples.case import SampleCase
from simulator.samples.prepare import prepare
from simulator.samples.summary import as_events, summary
from simulator.scenario.samples import SampleScenario
from simulator.yaml_source import Source, as_yaml

ROOM = KvLimits(blocks=2**40, block_size=2**10)
"""A query keeps nothing from step to step."""


def execute(case: SampleCase, scenario: SampleScenario) -> SampleRun:
    """Simulate one case and summarise it."""
    machine, replicas = case.machine, case.choice.replicas
    table = StepTable(case.cost, machine)
    records = simulate(case.requests, table, case.limits, ROOM, replicas=replicas)
    found = summary(case, scenario, records)
    return SampleRun(found if case.exits is None else found | as_events(case, case.exits, scenario.seed))


def run(
    scenario: SampleScenario,
    source: Source,
    *,
    profiles: Sequence[Path] = (),
    seed: int | None = None,
    progress: Progress = untold,
    finished: Callable[[SampleRun], None] = lambda result: None,
) -> SampleReport:
    """Run every case. `finished` gets each run when it is done."""
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    cases = prepare(scenario, source, profiles)
    runs: list[SampleRun] = []
    for case in cases:
        runs.append(execute(case, scenario))
        finished(runs[-1])
        progress("runs", len(runs), len(cases))
    return report_of(scenario, source, runs)


def report_of(scenario: SampleScenario, source: Source, runs: Sequence[SampleRun]) -> SampleReport:
    """The report of these runs of a scenario."""
    return SampleReport(Path(source.path).stem, scenario.seed, tuple(runs), scenario.description, as_yaml(source.data))
