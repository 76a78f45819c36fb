"""Runs of a serving scenario: every model on every machine. Results are objects with a summary and records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from simulator.cost.machine import Machine
from simulator.cost.step import StepCost, step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.swap import swapped_block
from simulator.engine.cluster import simulate
from simulator.engine.disaggregated import Pool, simulate_pools
from simulator.metrics.slo import Slo
from simulator.progress import Progress, untold
from simulator.report.result import Report, RunResult
from simulator.scenario import Scenario
from simulator.serve.case import Case, prepare, slo
from simulator.serve.summary import summary_of
from simulator.yaml_source import Source, as_yaml


def execute(
    case: Case,
    scenario: Scenario,
    objective: Slo | None,
    *,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Simulate one case and summarise it."""
    parts = [_pool(each) for each in case.pools]
    (_, last), costs = parts[-1], [cost for cost, _ in parts]
    if case.link is not None:
        records = simulate_pools(
            case.requests,
            parts[0][1],
            last,
            case.link,
            router=scenario.router,
            exact=exact,
            progress=progress,
        )
    else:
        records = simulate(
            case.requests,
            last.step,
            last.batch,
            last.kv,
            replicas=last.replicas,
            router=scenario.router,
            shared=last.shared,
            beside=last.beside,
            exact=exact,
            progress=progress,
        )
    return RunResult(summary_of(case, scenario, objective, records, costs), records)


def _pool(case: Case) -> tuple[StepCost, Pool]:
    """What steps cost on the machine of one pool, and its replicas."""
    machine = case.machine
    tables: list[list[StepTable]] = []  # while so many replicas are at work, so many of them on one link
    for busy in range(1, machine.replicas + 1 if machine.contended else 2):
        row = [replace(machine, busy=busy, on_link=float(k)) for k in range(1, min(busy, machine.beside) + 1)]
        tables.append([StepTable(_step_cost(case, one), machine) for one in row])
    pool = Pool(tables[0][0], case.limits, case.kv, case.choice.replicas, tables[1:], machine.beside)
    return _step_cost(case, machine), pool


def _step_cost(case: Case, machine: Machine) -> StepCost:
    limits = case.limits
    cost = step_cost(case.architecture, case.precision, machine, limits.max_num_batched_tokens, limits.max_num_seqs)
    return replace(cost, swap=swapped_block(case.sheet, machine))


def run(
    scenario: Scenario,
    source: Source,
    *,
    profiles: Sequence[Path] = (),
    seed: int | None = None,
    progress: Progress = untold,
    finished: Callable[[RunResult], None] = lambda result: None,
) -> Report:
    """Run every case. `progress(case, done, of)` is called now and then, `finished(result)` after each case."""
    if seed is not None:
        scenario = scenario.model_copy(update={"seed": seed})
    cases = prepare(scenario, source, profiles)
    objective = slo(scenario, source)
    results: list[RunResult] = []
    for case in cases:
        tell = partial(_tell, progress, f"{case.architecture.name} on {case.name}", len(case.requests))
        results.append(execute(case, scenario, objective, progress=tell))
        finished(results[-1])
    return report_of(scenario, source, results)


def _tell(progress: Progress, title: str, of: int, done: int) -> None:
    progress(title, done, of)


def report_of(scenario: Scenario, source: Source, runs: Sequence[RunResult]) -> Report:
    """The report of these runs of a scenario."""
    return Report(Path(source.path).stem, scenario.seed, tuple(runs), scenario.description, as_yaml(source.data))
