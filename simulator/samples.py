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
from simulator.cost.layer_groups import hand_over, node_amounts, once, run_seconds
from simulator.cost.machine import Machine
from simulator.cost.placement import CapacitySheet, capacity
from simulator.cost.step import StepCost, cost_of, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.depth import Path as DepthPath
from simulator.engine.depth import Policy, simulate_depth
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import Workload, offline
from simulator.errors import CapacityError, Problem, ScenarioError
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.depth import depth_usage
from simulator.metrics.steady import saturation
from simulator.metrics.usage import usage, usage_summary
from simulator.model.architecture import Architecture
from simulator.model.depth.paths import Paths
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.quality import quality
from simulator.model.recommender import Recommender
from simulator.model.samples import SampleModel, SolverModel
from simulator.model.solver import Jacobi, Pinn
from simulator.problems import Location
from simulator.progress import Progress, untold
from simulator.provenance import label_counts, weakest
from simulator.quantity import format_quantity
from simulator.report.sample_result import SampleReport, SampleRun
from simulator.scenario import MachineChoice
from simulator.scenario.placement import is_automatic, placement
from simulator.scenario.samples import AnySamples, Decode, SampleScenario
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

SOFTWARE = {"hbm-gpu": "tensorrt-dlrm-2024", "dram-node": "pytorch-dlrm-2024"}
"""What runs a recommender on a family of chips when the machine names no stack."""

OPERATIONS_OF_A_LAYER = 16.0
"""Products, norms, sums and copies of a layer of a language model, each with a barrier (llama.cpp; estimated)."""

BORROWED = "the stack is of language models: its kernels price a recommender or solver, and `dispatch` each launch"


@dataclass(frozen=True)
class Exits:
    """Tokens of different depth as events: ways through nodes, what a run of each node takes, and the nodes of each
    stage where stages have chips of their own."""

    paths: Paths
    amounts: list[Amount]
    policy: Policy
    stages: tuple[tuple[int, ...], ...]
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
            machines.append((choice, machine_of(choice, ("machines", index), source, catalogue, stacks)))
    for index, model in enumerate(scenario.models):
        if isinstance(model, Decode):
            place = ("model", index) if isinstance(scenario.model, tuple) else ("model",)
            with noting(problems, source.where(place)):
                language[index] = model.build(folders, source.where, place)
                problems += _of_decoding(model, language[index], source, place)
    for (_, machine), architecture in ((pair, a) for pair in machines for a in language.values()):
        problems += machine.parallelism.check(architecture, source.where(("machines",)))
    if problems:
        raise ScenarioError(problems)
    queries = workload(scenario.traffic.requests(), scenario.seed, beside, source.where(("traffic",)))
    cases: list[SampleCase] = []
    too_large: list[str] = []
    for index, model in enumerate(scenario.models):
        for at, (choice, machine) in enumerate(machines):
            try:
                if isinstance(model, Decode):
                    cases += _decoding(model, language[index], choice, machine)
                else:
                    cases.append(_sampling(model, choice, machine, stacks, queries, scenario.max_batch))
            except CapacityError as error:
                too_large.append(str(error.at(source.where(("machines", at)))))
    if too_large:
        raise CapacityError("\n".join(too_large))
    return cases


def _of_decoding(model: Decode, architecture: Architecture, source: Source, place: Location) -> list[Problem]:
    """What a language model of that shape cannot do."""
    found = []
    most = architecture.max_context - 1
    if model.context > most:
        what = f"context {model.context} is too long for {architecture.name}"
        found.append(Problem(what, source.where((*place, "context")), f"write {most} or less"))
    ways = model.depth.paths(architecture.layer_count) if model.depth else None
    layers = sum(node.layers for node in ways.nodes) if ways else 0
    if model.stages is not None and model.stages > layers:
        what = f"{model.stages} stages are more than the {layers} layers of {architecture.name}"
        found.append(Problem(what, source.where((*place, "stages")), f"write {layers} or less"))
    return found


def _sampling(
    model: Recommender | Jacobi | Pinn,
    choice: MachineChoice,
    machine: Machine,
    stacks: Stacks,
    queries: Workload,
    max_batch: int,
) -> SampleCase:
    """A recommender under queries, or a solver's steps one after the other."""
    own = SOFTWARE.get(machine.profile.family) if isinstance(model, Recommender) else None
    if own is not None and choice.stack is None and not choice.stack_change:
        machine = replace(machine, stack=stacks.load(own))
    layout = Parallelism(dp=machine.parallelism.chips)
    precision = choice.precision.over(model.precision)
    held = {t: count * precision.bytes_of(t) for t, count in model.parameters(layout).items()}
    machine = replace(machine, parallelism=layout, placement=placement(choice.placement, held))
    _fits(model, machine, held)
    solver = isinstance(model, SolverModel)
    count = np.array([0.0, model.points_in_step]) if isinstance(model, SolverModel) else np.arange(max_batch + 1.0)
    work = add(cost_of(operation, machine) for operation in model.operations(count, layout, precision))
    stack = machine.stack
    each = float(stack.dispatch) + float(stack.thread_overhead) / OPERATIONS_OF_A_LAYER * machine.cores
    cost = _step(add([work, Amount({OVERHEAD: model.launches * each})]).times(count > 0), machine, 0.0, max_batch)
    requests = _iterations(model.iterations) if isinstance(model, SolverModel) else queries
    units = model.points_in_step if isinstance(model, SolverModel) else 1
    limits = BatchLimits(1, 1) if solver else BatchLimits(max_batch, max_batch)
    warnings = () if stack.name in SOFTWARE.values() else (BORROWED,)
    return SampleCase(
        choice, machine, model, model.title, model.unit, precision, cost, requests, limits, units, warnings=warnings
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
    if is_automatic(choice.placement):
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
    for batch in model.batches:
        at = np.array([0, batch])
        contexts = [price.at(at).times(at * keys) for price, keys in zip(priced.keys, windows, strict=True)]
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
            _exits(model, architecture, precision, machine, batch, sheet),
            expected.warnings,
        )


def _exits(
    model: Decode, architecture: Architecture, precision: Precision, machine: Machine, batch: int, sheet: CapacitySheet
) -> Exits | None:
    """The ways of the model's tokens, with what each run of their layers costs; in a pipeline cut into its stages. Keys
    that tokens which leave copy into the layers after are left out: less than 1 % of the time. Raise CapacityError
    where the caches of all sequences in flight do not fit."""
    paths = model.depth.paths(architecture.layer_count) if model.depth and model.events else None
    if paths is None or model.events is None:
        return None
    context, first = float(model.context), once(architecture, precision, machine, batch)
    stages: tuple[tuple[int, ...], ...] = tuple((node,) for node in range(len(paths.nodes)))
    if model.stages is not None:
        tables = node_amounts(architecture, precision, machine, paths.nodes, context, batch)
        loads = [
            [node.share * float(np.asarray(table.total_seconds)[-1]) / node.layers] * node.layers
            for node, table in zip(paths.nodes, tables, strict=True)
        ]
        loads[0][0] += float(np.asarray(first.total_seconds)[-1])
        paths, stages = paths.cut(loads, model.stages)
    held, room = model.held(batch), sheet.kv_tokens_over(len(stages) if model.events == "pipeline" else 1)
    if room < held * model.context:
        what = f"{held} sequences in flight of {model.context} tokens do not fit the KV cache of {room:,} tokens"
        raise CapacityError(f"{what}; write in_flight: {room // model.context} or less\n{sheet.text()}")
    amounts = node_amounts(architecture, precision, machine, paths.nodes, context, batch)
    amounts[0] = add([amounts[0], first])
    if model.events == "pipeline":
        home = {node: stage for stage, nodes in enumerate(stages) for node in nodes}
        onward = {a for _, way in paths.ways for a, b in pairwise(way) if home[a] != home[b]}
        sending = hand_over(architecture, machine, batch) if onward else Amount()
        amounts = [add([table, sending]) if node in onward else table for node, table in enumerate(amounts)]
    return Exits(paths, amounts, model.events, stages, held)


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
    """What tokens of different depth make of the case's figures."""
    batch, machine, replicas = case.batch or 1, case.machine, case.choice.replicas
    found = simulate_depth(
        [DepthPath(share, way) for share, way in exits.paths.ways],
        [np.asarray(run_seconds(table, machine)).tolist() for table in exits.amounts],
        policy=exits.policy,
        sequences=exits.in_flight,
        batch=batch,
        tokens=max(EVENT_TOKENS, 20 * exits.in_flight),
        stages=exits.stages,
        seed=seed,
    )
    copies = len(exits.stages) if exits.policy == "pipeline" else 1
    rate, tokens = found.tokens_per_second * replicas, found.emitted * replicas
    spent = usage_summary(
        depth_usage(found.runs, exits.amounts, machine, replicas), machine, replicas * copies, found.elapsed_s, tokens
    )
    return {
        "chips": machine.parallelism.chips * replicas * copies,
        "samples": tokens,
        "makespan_s": found.elapsed_s,
        "samples_per_s": rate,
        "step_ms": 1e3 * batch * replicas / rate,
        "groups_busy": list(found.busy),
        "groups_batch_mean": list(found.batch),
        "stages_busy": [sum(found.busy[node] for node in stage) for stage in exits.stages],
        **_spent(spent, tokens),
    }


def _spent(spent: dict[str, Any], samples: int) -> dict[str, Any]:
    """What a run drew, and what bounds it."""
    return {
        "samples_per_joule": samples / spent["energy_j"] if spent["energy_j"] else None,
        "energy_per_sample_j": spent["energy_per_output_token_j"],
        **{key: spent[key] for key in ("mfu", "mbu", "utilisation", "average_power_w", "energy_j")},
        "energy_by_component_j": spent["energy_by_component_j"],
        "bound_by": spent["bound_by"],
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
        "step_ms": 1e3 * makespan * replicas / steps,
        "steps": steps,
        "query_p50_ms": float(np.percentile(latency, 50)) if queried else None,
        "query_p99_ms": float(np.percentile(latency, 99)) if queried else None,
        "saturated": bool(verdict and verdict.saturated),
        **_spent(spent, samples),
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
