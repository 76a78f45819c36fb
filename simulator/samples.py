"""Runs a scenario of samples or points: recommenders, solvers, decoding language models, on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.automatic import automatic
from simulator.cost.host_floor import host_floor
from simulator.cost.layer_groups import group_seconds
from simulator.cost.machine import Machine
from simulator.cost.placement import capacity
from simulator.cost.step import StepCost, cost_of, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.depth import Path as DepthPath
from simulator.engine.depth import Policy, prefixes, simulate_depth
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import Workload, offline
from simulator.errors import CapacityError, Problem, ScenarioError
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.steady import saturation
from simulator.metrics.usage import usage, usage_summary
from simulator.model.architecture import Architecture
from simulator.model.depth.early_exit import EarlyExit
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.quality import quality
from simulator.model.recommender import Recommender
from simulator.model.samples import SampleModel, SolverModel
from simulator.model.solver import Jacobi, Pinn
from simulator.progress import Progress, untold
from simulator.provenance import label_counts, weakest
from simulator.quantity import format_quantity
from simulator.report.sample_result import SampleReport, SampleRun
from simulator.scenario import MachineChoice, Traffic
from simulator.scenario.placement import placement
from simulator.scenario.samples import AnySamples, Decode, Queries, SampleScenario
from simulator.serve import machine_of, noting
from simulator.stack.stack import Stacks
from simulator.workload import workload
from simulator.yaml_source import Source, as_yaml

ROOM = KvLimits(blocks=2**40, block_size=2**10)
"""A query keeps nothing from step to step."""

EVENT_TOKENS = 20_000
"""Tokens of a run of events: throughputs to about one per cent."""

TRAINING_TOKENS = 1.5e13
"""For what is said of a language model's quality."""

BORROWED = "a layer of a recommender or solver has the overhead of one of the stack's language models; steps have none"


@dataclass(frozen=True)
class Exits:
    """Tokens of different depth as events: paths through groups of layers, and what each group takes."""

    paths: tuple[DepthPath, ...]
    seconds: list[list[float]]
    policy: Policy
    in_flight: int


@dataclass(frozen=True)
class SampleCase:
    """One model on one machine, priced and ready to run. `units`: samples of one token of the engine's."""

    choice: MachineChoice
    machine: Machine
    model: AnySamples
    title: str
    unit: str
    precision: Precision
    cost: StepCost
    requests: Workload
    limits: BatchLimits
    units: int
    batch: int | None = None
    exits: Exits | None = None
    warnings: tuple[str, ...] = ()


def prepare(scenario: SampleScenario, source: Source, profiles: Sequence[Path] = ()) -> list[SampleCase]:
    """Every case. Raise everything that is wrong at once: ScenarioError, or CapacityError for what does not fit."""
    beside = Path(source.path).resolve().parent
    folders = (*profiles, beside)
    catalogue, stacks = Catalogue(folders), Stacks(folders)
    problems: list[Problem] = []
    machines: list[tuple[MachineChoice, Machine]] = []
    language: dict[int, Architecture] = {}
    for index, choice in enumerate(scenario.machines):
        with noting(problems, source.where(("machines", index))):
            machines.append((choice, machine_of(choice, index, source, catalogue, stacks)))
    for index, model in enumerate(scenario.models):
        if isinstance(model, Decode):
            place = ("model", index) if isinstance(scenario.model, tuple) else ("model",)
            with noting(problems, source.where(place)):
                language[index] = model.build(folders, source.where, place)
                if model.context >= language[index].max_context:
                    most = language[index].max_context - 1
                    what = f"context {model.context} is too long for {language[index].name}"
                    problems.append(Problem(what, source.where((*place, "context")), f"write {most} or less"))
    for (_, machine), architecture in ((pair, a) for pair in machines for a in language.values()):
        problems += machine.parallelism.check(architecture, source.where(("machines",)))
    if problems:
        raise ScenarioError(problems)
    queries = workload(_traffic(scenario.traffic), scenario.seed, beside, source.where(("traffic",)))
    cases: list[SampleCase] = []
    too_large: list[str] = []
    for index, model in enumerate(scenario.models):
        for at, (choice, machine) in enumerate(machines):
            try:
                if isinstance(model, Decode):
                    cases += _decoding(model, language[index], choice, machine)
                else:
                    cases.append(_sampling(model, choice, machine, queries, scenario.max_batch))
            except CapacityError as error:
                too_large.append(str(error.at(source.where(("machines", at)))))
    if too_large:
        raise CapacityError("\n".join(too_large))
    return cases


def _traffic(queries: Queries) -> Traffic:
    """Queries as requests: their samples are the prompt, and one token answers."""
    way: dict[str, Any] = {"request_rate": queries.request_rate, "concurrency": queries.concurrency}
    given = {name: value for name, value in way.items() if value is not None} or {"offline": True}
    return Traffic(isl=queries.samples, osl=1, requests=queries.queries, **given)


def _sampling(
    model: Recommender | Jacobi | Pinn, choice: MachineChoice, machine: Machine, queries: Workload, max_batch: int
) -> SampleCase:
    """A recommender under queries, or a solver's steps one after the other."""
    layout = Parallelism(dp=machine.parallelism.chips)
    precision = choice.precision.over(model.precision)
    held = {t: count * precision.bytes_of(t) for t, count in model.parameters(layout).items()}
    machine = replace(machine, parallelism=layout, placement=placement(choice.placement, held))
    _fits(model, machine, held)
    solver = isinstance(model, SolverModel)
    count = np.array([0.0, model.points_in_step]) if isinstance(model, SolverModel) else np.arange(max_batch + 1.0)
    work = add(cost_of(operation, machine) for operation in model.operations(count, layout, precision))
    stack = machine.stack
    each = float(stack.layer_overhead) + float(stack.thread_overhead) * machine.cores
    cost = _step(add([work, Amount({OVERHEAD: model.layer_count * each})]).times(count > 0), machine, 0.0, max_batch)
    requests = _iterations(model.iterations) if isinstance(model, SolverModel) else queries
    units = model.points_in_step if isinstance(model, SolverModel) else 1
    limits = BatchLimits(1, 1) if solver else BatchLimits(max_batch, max_batch)
    return SampleCase(
        choice, machine, model, model.title, model.unit, precision, cost, requests, limits, units, warnings=(BORROWED,)
    )


def _decoding(
    model: Decode, architecture: Architecture, choice: MachineChoice, machine: Machine
) -> Iterator[SampleCase]:
    """A language model that gives each sequence of a batch a token in every step, batch by batch."""
    precision = choice.precision.over(architecture.precision or Precision())
    held = architecture.weight_bytes_per_chip(precision, machine.parallelism)
    most = max(model.batches)
    sizes: dict[str, Any] = {"memory_utilization": 0.9, "max_tokens": most, "max_outputs": most}
    machine = replace(machine, placement=placement(choice.placement, held, architecture.tiers))
    if choice.placement == "auto":
        machine = automatic(architecture, precision, machine, kv_tokens=float(most * model.context), **sizes)
    sheet = capacity(architecture, precision, machine, block_size=16, **sizes)
    if sheet.kv_tokens < most * model.context:
        raise CapacityError(
            f"{most} sequences of {model.context} tokens do not fit the KV cache of {sheet.kv_tokens:,} tokens; "
            f"use a smaller batch or context\n{sheet.text()}"
        )
    priced = step_cost(architecture, precision, machine, most, most)
    windows = [float(model.context if w is None else min(model.context, w)) for w in priced.windows]
    expected = quality(architecture, precision, TRAINING_TOKENS)
    exits = _exits(model, architecture, precision, machine) if model.events else None
    for batch in model.batches:
        at = np.array([0, batch])
        contexts = [price.times(at * keys) for price, keys in zip(priced.keys, windows, strict=True)]
        waiting = priced.waiting(at, [at * keys for keys in windows])
        work = add([priced.tokens.at(at), priced.outputs.at(at), *contexts, waiting])
        yield SampleCase(
            choice,
            machine,
            model,
            architecture.name,
            "token",
            precision,
            _step(work, machine, priced.floor.seconds, 1),
            _iterations(model.iterations),
            BatchLimits(1, 1),
            batch,
            batch,
            exits and replace(exits, in_flight=model.in_flight or 4 * batch),
            expected.warnings,
        )


def _exits(model: Decode, architecture: Architecture, precision: Precision, machine: Machine) -> Exits:
    """Groups of layers between the exits of a model, and the shares of the tokens that leave after each."""
    if not isinstance(model.depth, EarlyExit) or model.events is None:
        raise ScenarioError("events are of tokens with early exits; write depth: {kind: early_exit, ...}")
    layers = architecture.layer_count
    shares = model.depth.shares(layers)
    edges = [0, *shares, layers]
    sizes = [after - before for before, after in pairwise(edges)]
    seconds = group_seconds(architecture, precision, machine, sizes, float(model.context), max(model.batches))
    leaving = [*shares.values(), max(0.0, 1.0 - sum(shares.values()))]
    return Exits(prefixes(leaving), seconds, model.events, 0)


def _step(work: Amount, machine: Machine, floor: float, most: int) -> StepCost:
    """A table of steps by samples, without contexts."""
    nothing = Amount({OVERHEAD: np.zeros(most + 1)})
    return StepCost((), work, nothing, (), (), Amount(), replace(host_floor(machine.stack), seconds=floor))


def _iterations(count: int) -> Workload:
    """So many equal steps, one after the other."""
    return offline(np.array([1]), np.array([count]))


def _fits(model: SampleModel, machine: Machine, held: dict[str, float]) -> None:
    """Raise CapacityError where a tier is too small."""
    for name, tier in machine.tiers.items():
        inside = {t: size * share for t, size in held.items() for at, share in machine.parts(t) if at.name == name}
        if sum(inside.values()) > tier.capacity:
            rows = "\n".join(f"  {tensor:<18}{format_quantity(size, 'B'):>12}" for tensor, size in inside.items())
            raise CapacityError(
                f"{model.title} does not fit {name} of '{machine.profile.name}', {format_quantity(tier.capacity, 'B')} "
                f"a chip on {machine.parallelism.chips} chips; use more chips (tp), a smaller dtype, or place its "
                f"tables in another tier: {', '.join(machine.tiers)}\n{rows}"
            )


def execute(case: SampleCase, scenario: SampleScenario) -> SampleRun:
    """Simulate one case and summarise it."""
    machine, replicas = case.machine, case.choice.replicas
    table = StepTable(case.cost, machine)
    records = simulate(case.requests, table, case.limits, ROOM, replicas=replicas)
    summary = _summary(case, scenario, records)
    return SampleRun(summary if case.exits is None else summary | _as_events(case, case.exits, scenario.seed))


def _as_events(case: SampleCase, exits: Exits, seed: int) -> dict[str, Any]:
    """What tokens of different depth make of the case's figures; joules and bounds are not told for events."""
    batch = case.batch or 1
    found = simulate_depth(
        exits.paths,
        exits.seconds,
        policy=exits.policy,
        sequences=batch if exits.policy == "lock_step" else exits.in_flight,
        batch=batch,
        tokens=max(EVENT_TOKENS, 20 * exits.in_flight),
        seed=seed,
    )
    rate = found.tokens_per_second * case.choice.replicas
    chips = case.machine.parallelism.chips * case.choice.replicas
    if exits.policy == "pipeline":
        chips *= len(exits.seconds)
    return {
        "chips": chips,
        "samples_per_s": rate,
        "step_ms": 1e3 * batch * case.choice.replicas / rate,
        "groups_busy": list(found.busy),
        "groups_batch_mean": list(found.batch),
        **dict.fromkeys(("samples_per_joule", "energy_per_sample_j", "average_power_w", "energy_j", "bound_by")),
        **dict.fromkeys(("mfu", "mbu", "utilisation", "energy_by_component_j")),
    }


def _summary(case: SampleCase, scenario: SampleScenario, records: RunRecords) -> dict[str, Any]:
    requests, machine, replicas = records.requests, case.machine, case.choice.replicas
    queried = not isinstance(case.model, SolverModel | Decode)
    samples = int((requests.input_tokens if queried else requests.output_tokens).sum()) * case.units
    makespan = float(requests.finish_s.max() - requests.arrival_s.min())
    latency = 1e3 * (requests.finish_s - requests.arrival_s)
    spent = usage_summary(usage(records, case.cost, machine), machine, replicas, makespan, samples)
    verdict = saturation(requests) if queried and scenario.traffic.request_rate is not None else None
    steps = int(records.steps.steps.sum())
    return {
        "machine": case.choice.name or machine.profile.name,
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "model": case.title,
        "kind": case.model.kind,
        "unit": case.unit,
        "batch": case.batch,
        "stack": machine.stack.name,
        "labels": label_counts(machine.profile, machine.stack),
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label(), "estimated")),
        "replicas": replicas,
        "chips": machine.parallelism.chips * replicas,
        "nodes": ceil(machine.parallelism.chips * replicas / machine.profile.node.chips),
        "layout": str(machine.parallelism),
        "samples": samples,
        "makespan_s": makespan,
        "samples_per_s": samples / makespan,
        "samples_per_joule": samples / spent["energy_j"] if spent["energy_j"] else None,
        "energy_per_sample_j": spent["energy_per_output_token_j"],
        "step_ms": 1e3 * makespan * replicas / steps,
        "steps": steps,
        "query_p50_ms": float(np.percentile(latency, 50)) if queried else None,
        "query_p99_ms": float(np.percentile(latency, 99)) if queried else None,
        "saturated": bool(verdict and verdict.saturated),
        **{key: spent[key] for key in ("mfu", "mbu", "utilisation", "average_power_w", "energy_j")},
        "energy_by_component_j": spent["energy_by_component_j"],
        "bound_by": spent["bound_by"],
        "warnings": list(case.warnings),
    }


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
