"""Runs a serving scenario: every model on every machine. Results are objects with a summary and records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from simulator.cost.automatic import automatic
from simulator.cost.machine import Machine
from simulator.cost.money import HourlyCost, Terms, common_basis, hourly_cost, no_price
from simulator.cost.placement import CapacitySheet, capacity
from simulator.cost.step import StepCost, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import Workload, check_context
from simulator.errors import CapacityError, InputError, Problem, ProfileError, ScenarioError, StackError, Where, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.host import with_host
from simulator.hardware.profile import Profile
from simulator.metrics.latency import latency
from simulator.metrics.money import money_summary
from simulator.metrics.slo import Slo, preset
from simulator.metrics.steady import saturation, steady_state
from simulator.metrics.throughput import goodput, most_waiting, throughput
from simulator.metrics.usage import moved_summary, usage, usage_summary
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision, tensor_class
from simulator.model.parallelism import Parallelism
from simulator.model.quality import quality
from simulator.progress import Progress, untold
from simulator.provenance import changed, label_counts, weakest
from simulator.report.result import Report, RunResult
from simulator.scenario import Limits, MachineChoice, Money, Scenario, SloChoice
from simulator.scenario.model import build_model
from simulator.scenario.placement import Places, placement
from simulator.stack.stack import Stacks
from simulator.workload import workload
from simulator.yaml_source import Source, as_yaml


@dataclass(frozen=True)
class Case:
    """One model on one machine, checked and ready to run."""

    choice: MachineChoice
    architecture: Architecture
    precision: Precision
    machine: Machine
    sheet: CapacitySheet
    requests: Workload
    terms: Terms
    hourly: HourlyCost | None

    @property
    def name(self) -> str:
        """What results call the machine."""
        return self.choice.name or self.machine.profile.name

    @property
    def room(self) -> int:
        """Tokens of the longest request that the KV cache holds."""
        return _kv_limits(self.sheet).longest


def prepare(scenario: Scenario, source: Source, profiles: Sequence[Path] = ()) -> list[Case]:
    """Every case of the scenario. Names are looked up in `profiles`, then beside the scenario, then in ramwise itself.

    Raise everything that is wrong at once, before anything runs: ScenarioError for what is written, CapacityError with
    a sheet for each model that does not fit.
    """
    beside = Path(source.path).resolve().parent
    folders = (*profiles, beside)
    catalogue, stacks = Catalogue(folders), Stacks(folders)
    problems: list[Problem] = []
    models: list[Architecture] = []
    machines: list[tuple[MachineChoice, Machine]] = []
    requests: Workload | None = None
    for index, wanted in enumerate(scenario.models):
        place = ("model", index) if isinstance(scenario.model, tuple) else ("model",)
        with noting(problems, source.where(place)):
            models.append(build_model(wanted, folders, source.where, place))
    for index, choice in enumerate(scenario.machines):
        at = source.where(("machines", index))
        with noting(problems, at):
            machine = machine_of(choice, index, source, catalogue, stacks)
            machines.append((choice, machine))
            problems += [problem for model in models for problem in machine.parallelism.check(model, at)]
    with noting(problems, source.where(("traffic",))):
        requests = workload(scenario.traffic, scenario.seed, beside, source.where(("traffic",)))
    with noting(problems, source.where(("slo",))):
        slo(scenario, source)
    if problems or requests is None:
        raise ScenarioError(problems)
    with noting(problems, source.where(("money",))):
        terms, hourly = prices(basis(scenario, catalogue), [machine.profile for _, machine in machines])
    if problems:
        raise ScenarioError(problems)
    cases: list[Case] = []
    too_large: list[str] = []
    for model in models:
        with noting(problems, source.where(("traffic",))):
            fitting = check_context(requests, model.max_context, model.name, scenario.traffic.longer)
            for index, ((choice, machine), price) in enumerate(zip(machines, hourly, strict=True)):
                try:
                    cases.append(case_of(scenario, choice, machine, model, fitting, (terms, price)))
                except CapacityError as error:
                    too_large.append(str(error.at(source.where(("machines", index)))))
    if problems:
        raise ScenarioError(problems)
    if too_large:
        raise CapacityError("\n".join(too_large))
    return cases


@contextmanager
def noting(problems: list[Problem], where: Where) -> Iterator[None]:
    """Note what is wrong, at `where` unless it has a place of its own, and go on."""
    try:
        yield
    except InputError as error:
        problems += [replace(problem, where=problem.where or where) for problem in error.problems]


def machine_of(choice: MachineChoice, index: int, source: Source, catalogue: Catalogue, stacks: Stacks) -> Machine:
    """The machine that a scenario names at `index`. Raise InputError for what is wrong with it."""
    at = ("machines", index)
    profile = _profile(choice, catalogue, source.where((*at, "hardware")), source.where((*at, "change")))
    if choice.host is not None:
        host = catalogue.load(choice.host, source.where((*at, "host")))
        profile = with_host(profile, host, choice.sockets)
    elif choice.sockets is not None:
        mend = "name the CPU node with host:, or take sockets away"
        raise ScenarioError(Problem("sockets without a host", source.where((*at, "sockets")), mend))
    largest = max(1, profile.node.chips // (choice.pp * choice.dp))
    layout = Parallelism(tp=choice.tp or largest, pp=choice.pp, dp=choice.dp, ep=choice.ep)
    if layout.chips > profile.node.chips and profile.node.scale_out is None:
        raise ScenarioError(
            Problem(
                f"{layout} takes {layout.chips} chips, '{profile.name}' has {profile.node.chips} and no `scale_out`",
                source.where(at),
                f"write tp: {largest}, or take a larger machine, or one with a network to others",
            )
        )
    stack = stacks.load(choice.stack or profile.default_stack, source.where((*at, "stack")))
    if choice.stack_change:
        there = source.where((*at, "stack_change"))
        stack = changed(stack.on_profile(profile), choice.stack_change, there, StackError)
    replicas = max(1, min(choice.replicas, profile.node.chips // layout.chips))
    return Machine(profile, stack, layout, placement(choice.placement, {}), replicas, threads=choice.threads)


def _profile(
    choice: MachineChoice, catalogue: Catalogue, where: Where | None = None, changes: Where | None = None
) -> Profile:
    """The profile that a machine names, with what it changes. A thought experiment may contradict a datasheet."""
    profile = catalogue.load(choice.hardware, where)
    if not choice.change:
        return profile
    return changed(profile, choice.change, changes or where or Where(choice.hardware), ProfileError)


def basis(scenario: Scenario, catalogue: Catalogue) -> Money:
    """The scenario's terms, with the basis that all of its machines have in common where it names none."""
    money = scenario.money or Money()
    profiles = [_profile(choice, catalogue) for choice in scenario.machines]
    names = {*catalogue.names(), *(profile.name for profile in profiles)}
    strange = [name for name in (*money.capital, *money.rental) if name not in names and "+" not in name]
    if strange:
        raise ScenarioError(unknown("hardware profile", strange[0], names))
    common = common_basis(profiles, money.capital, money.rental)
    return money if money.basis else money.model_copy(update={"basis": common})


def prices(money: Money, profiles: Sequence[Profile]) -> tuple[Terms, list[HourlyCost | None]]:
    """The terms, and what each machine costs an hour; None for one without a price."""
    terms = Terms(
        money.basis or "rental",
        float(money.amortisation),
        float(money.interest),
        float(money.electricity),
        float(money.facility),
        float(money.operation),
        float(money.utilisation),
        money.memory_prices,
    )
    return terms, [hourly_cost(p, terms, money.capital.get(p.name), money.rental.get(p.name)) for p in profiles]


def case_of(
    scenario: Scenario,
    choice: MachineChoice,
    machine: Machine,
    model: Architecture,
    requests: Workload,
    money: tuple[Terms, HourlyCost | None],
) -> Case:
    """One model on one machine. Raise CapacityError with a sheet when it does not fit."""
    precision = choice.precision.over(scenario.precision.over(model.precision or Precision()))
    limits = scenario.limits
    sizes: dict[str, Any] = {
        "memory_utilization": float(limits.memory_utilization),
        "max_tokens": limits.max_num_batched_tokens,
        "max_outputs": limits.max_num_seqs,
    }
    lengths = requests.input_tokens + requests.output_tokens
    held = model.weight_bytes_per_chip(precision, machine.parallelism)
    machine = replace(machine, placement=placement(choice.placement, held, model.tiers))
    if choice.placement == "auto":
        wanted = max(limits.max_num_seqs * float(lengths.mean()), float(lengths.max() + limits.block_size))
        machine = automatic(model, precision, machine, kv_tokens=wanted, **sizes)
    sheet = capacity(model, precision, machine, block_size=limits.block_size, **sizes)
    longest = int(lengths.max())
    room = _kv_limits(sheet).longest
    if longest > room:
        raise CapacityError(
            f"a request of {longest:,} tokens does not fit the KV cache of {room:,} tokens; use more chips, a smaller "
            f"`precision.kv`, or a larger `memory_utilization`\n{sheet.text()}"
        )
    return Case(choice, model, precision, machine, sheet, requests, *money)


def _kv_limits(sheet: CapacitySheet) -> KvLimits:
    return KvLimits(sheet.kv_blocks, sheet.block_size, sheet.kv_fixed_blocks)


def slo(scenario: Scenario, source: Source) -> Slo | None:
    """The scenario's SLO: a preset's name, or limits of its own."""
    if isinstance(scenario.slo, str):
        return preset(scenario.slo, source.where(("slo",)))
    if isinstance(scenario.slo, SloChoice):
        choice = scenario.slo
        ttft, tpot, e2el = (None if x is None else float(x) for x in (choice.ttft, choice.tpot, choice.e2el))
        return Slo(ttft, tpot, e2el, percentile=choice.percentile)
    return None


def execute(
    case: Case,
    scenario: Scenario,
    objective: Slo | None,
    *,
    exact: bool = False,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """Simulate one case and summarise it."""
    limits = scenario.limits
    tables: list[list[StepTable]] = []  # while so many replicas are at work, so many of them on one link
    for busy in range(1, case.machine.replicas + 1 if case.machine.contended else 2):
        row = [replace(case.machine, busy=busy, on_link=k) for k in range(1, min(busy, case.machine.beside) + 1)]
        tables.append([StepTable(_step_cost(case, one, limits), case.machine) for one in row])
    records = simulate(
        case.requests,
        tables[0][0],
        BatchLimits(limits.max_num_seqs, limits.max_num_batched_tokens),
        _kv_limits(case.sheet),
        replicas=case.choice.replicas,
        router=scenario.router,
        shared=tables[1:],
        beside=case.machine.beside,
        exact=exact,
        progress=progress,
    )
    spent = usage(records, _step_cost(case, case.machine, limits), case.machine)
    return RunResult(_summary(case, scenario, objective, records, spent), records)


def _step_cost(case: Case, machine: Machine, limits: Limits) -> StepCost:
    return step_cost(case.architecture, case.precision, machine, limits.max_num_batched_tokens, limits.max_num_seqs)


def _summary(case: Case, scenario: Scenario, objective: Slo | None, records: RunRecords, spent: Any) -> dict[str, Any]:
    """The figures of one run, keys with their units."""
    requests, machine, replicas = records.requests, case.machine, case.choice.replicas
    expected = quality(case.architecture, case.precision, float(scenario.training_tokens))
    rates = throughput(requests)
    makespan = rates["makespan_s"] or 0.0
    verdict = saturation(requests) if scenario.traffic.concurrency is None else None
    saturated = bool(verdict and verdict.saturated)
    steady, reason = (None, "saturated") if saturated else steady_state(requests)
    waited = float((requests.scheduled_s - requests.arrival_s).sum())
    inside = float((requests.finish_s - requests.scheduled_s).sum())
    steps = int(records.steps.steps.sum())
    tokens = int(requests.output_tokens[requests.completed].sum())
    used = usage_summary(spent, machine, replicas, makespan, tokens)
    cached = int(records.steps.keys[:, 0].sum()) / max(1, steps) / max(1, records.kv_blocks * case.sheet.block_size)
    return {
        "machine": case.name,
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "model": case.architecture.name,
        "stack": machine.stack.name,
        "labels": label_counts(machine.profile, machine.stack),
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label())),
        "replicas": replicas,
        "chips": machine.parallelism.chips * replicas,
        "nodes": ceil(machine.parallelism.chips * replicas / machine.profile.node.chips),
        "layout": str(machine.parallelism),
        "precision": {name: value for name, value in vars(case.precision).items() if value},
        "limits": scenario.limits.model_dump(),
        "traffic": case.requests.note,
        "saturated": saturated,
        "sustainable_rate": verdict.sustainable_rate if verdict else None,
        "requests": len(requests),
        "requests_completed": int(requests.completed.sum()),
        **rates,
        **latency(requests, records.gaps),
        **goodput(requests, objective),
        "slo": objective.summary() if objective else None,
        **used,
        "moved_per_output_token_b": moved_summary(spent, records, case.architecture, case.precision, machine),
        **money_summary(
            case.hourly,
            case.terms,
            seconds=makespan,
            nodes=machine.parallelism.chips * replicas / machine.profile.node.chips,
            joules=used["energy_j"],
            output_tokens=tokens,
        ),
        "queue_mean": waited / makespan,
        "queue_max": most_waiting(requests),
        "running_mean": inside / makespan,
        **({"held_by_tier_b": case.sheet.held_by_tier} if len(case.sheet.tiers) > 1 else {}),
        "kv_tokens": case.sheet.kv_tokens * replicas,
        "kv_occupancy_mean": cached,
        "kv_occupancy_max": records.kv_used_max,
        "preemptions": int(requests.preemptions.sum()),
        "steps": steps,
        "quality": expected.summary(),
        "warnings": [*_warnings(case, scenario), *expected.warnings],
        "steady": steady if steady is not None else {"reason": reason},
        "events": records.events,
    }


def _warnings(case: Case, scenario: Scenario) -> list[str]:
    """What the figures leave out although the scenario asks for it, and what it asks for in vain."""
    found = [no_price(case.machine.profile, case.terms.basis)] if scenario.money and case.hourly is None else []
    placed = case.choice.placement
    if isinstance(placed, Places):
        held = {tensor_class(name) for name, count in case.architecture.parameters_by_class().items() if count} | {"kv"}
        for name in sorted(placed.model_fields_set - held):
            found.append(f"placement of '{name}' changes nothing: {case.architecture.name} has no such tensors")
    return found


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
