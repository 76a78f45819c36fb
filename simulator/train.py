"""Runs a training scenario: every model on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from simulator.cost.money import HourlyCost, Terms, common_basis
from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.memory import MemorySheet, memory_sheet
from simulator.cost.training.power import Power, run_power
from simulator.cost.training.search import MICRO_BATCHES, Candidate, search
from simulator.cost.training.step import Recipe, StepTime, step_time
from simulator.engine.failures import FailureKind, LongRunPlan, mean_between, optimal_interval
from simulator.engine.pipeline import PipelineRecord, StageWork
from simulator.engine.pipeline import step as run_pipeline
from simulator.engine.schedules import DECIDING, check_schedule
from simulator.errors import CapacityError, InputError, Problem, ScenarioError, unknown
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.long_run import long_run_summary
from simulator.metrics.training import HFU, MFU, step_rates
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import divisors
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import Recompute, looked_up
from simulator.provenance import weakest
from simulator.report.training.result import TrainingReport, TrainingRun
from simulator.scenario import Money, TrainingScenario
from simulator.scenario.model import build_model
from simulator.scenario.training import ParallelismChoice, TrainingMachineChoice
from simulator.serve import noting, prices
from simulator.stack.training.stack import TrainingStacks
from simulator.yaml_source import Source

DAY_S, HOUR_S = 86_400.0, 3600.0
HOPELESS = 3.0
"""Failures in the time of one checkpoint from which a run gets nowhere: one interval in 20 would be kept."""

RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class TrainingCase:
    """One model on so many chips of one machine, checked and ready to run."""

    choice: TrainingMachineChoice
    architecture: Architecture
    machine: TrainingMachine
    recipe: Recipe
    layout: TrainingLayout
    sheet: MemorySheet
    schedule: str
    runners_up: tuple[Candidate, ...]
    tried: int
    terms: Terms
    hourly: HourlyCost | None

    @property
    def name(self) -> str:
        """What results call the machine."""
        return self.choice.name or self.machine.profile.name


def prepare(scenario: TrainingScenario, source: Source, profiles: Sequence[Path] = ()) -> list[TrainingCase]:
    """Every case. Raise everything that is wrong at once: ScenarioError, or CapacityError with the memory sheets."""
    folders = (*profiles, Path(source.path).resolve().parent)
    catalogue, stacks = Catalogue(folders), TrainingStacks(folders)
    problems: list[Problem] = []
    models: list[Architecture] = []
    machines: list[tuple[int, TrainingMachineChoice, TrainingMachine]] = []
    for index, wanted in enumerate(scenario.models):
        place = ("model", index) if isinstance(scenario.model, tuple) else ("model",)
        with noting(problems, source.where(place)):
            models.append(build_model(wanted, folders, source.where, place))
    for index, choice in enumerate(scenario.machines):
        with noting(problems, source.where(("machines", index))):
            profile = catalogue.load(choice.hardware, source.where(("machines", index, "hardware")))
            stack = stacks.load(choice.stack) if choice.stack else stacks.default(profile)
            stack = stack.on_profile(profile)
            slices = 1 if choice.parallelism == "auto" else choice.parallelism.slices
            network = float(choice.network) if choice.network else None
            machines += [
                (index, choice, TrainingMachine(profile, stack, chips, slices, network, frozenset(choice.offload)))
                for chips in choice.sizes
            ]
    if problems:
        raise ScenarioError(problems)
    with noting(problems, source.where(("money",))):
        owned = [machine.profile for _, _, machine in machines]
        money = scenario.money or Money()
        money = money.model_copy(update={"basis": money.basis or common_basis(owned, money.capital, money.rental)})
        terms, hourly = prices(money, owned)
    if problems:
        raise ScenarioError(problems)
    cases: list[TrainingCase] = []
    too_large: list[str] = []
    for model in models:
        for (index, choice, machine), price in zip(machines, hourly, strict=True):
            with noting(problems, source.where(("machines", index))):
                try:
                    cases.append(_case(scenario, choice, machine, model, (terms, price)))
                except CapacityError as error:
                    too_large.append(str(error.at(source.where(("machines", index)))))
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    if too_large:
        raise CapacityError("\n".join(too_large))
    return cases


def _case(
    scenario: TrainingScenario,
    choice: TrainingMachineChoice,
    machine: TrainingMachine,
    model: Architecture,
    money: tuple[Terms, HourlyCost | None],
) -> TrainingCase:
    recipe = _recipe(scenario, choice)
    found: tuple[Candidate, ...]
    away = {tensor for tensor, tier in model.tiers if tier != machine.memory.tier}
    computed = sorted(away - looked_up(model))
    if computed:
        what = f"{model.name} wants {computed[0]} in another tier; training offloads tables, optimizer and activations"
        raise InputError(Problem(what, None, "leave its `tier` out"))
    there = [tier.tier for tier in machine.profile.node.memory]
    strange = sorted(tier for tensor, tier in model.tiers if tensor in away and tier not in there)
    if strange:
        raise InputError(unknown(f"tier of '{machine.profile.name}'", strange[0], [machine.memory.tier, *there]))
    machine = replace(machine, offloaded=machine.offloaded | away)
    micro = (scenario.batch.micro_batch,) if scenario.batch.micro_batch else MICRO_BATCHES
    modes = RECOMPUTES if scenario.recompute == "auto" else (scenario.recompute,)
    given = None
    if choice.parallelism != "auto":
        given = _layout(choice.parallelism, machine, recipe)
        problems = given.check(model)
        if problems:
            raise InputError(problems)
        recipe = replace(recipe, schedule=_schedule(scenario, given))
    if given is not None and len(micro) == len(modes) == 1:
        layout, found, tried = given, (), 1
        sheet = memory_sheet(model, recipe, layout, machine)
        sheet.check(float(scenario.utilization))
    else:
        looked = search(model, recipe, machine, float(scenario.utilization), micro, modes, given=given)
        best, found, tried = looked.fitting[0], looked.fitting[1:], looked.tried
        layout, recipe, sheet = best.layout, best.recipe, best.sheet
    schedule = _schedule(scenario, layout)
    problems = check_schedule(schedule, layout.pp, recipe.micro_batches(layout), layout.vpp)
    if problems:
        raise InputError(problems)
    return TrainingCase(choice, model, machine, recipe, layout, sheet, schedule, found, tried, *money)


def _schedule(scenario: TrainingScenario, layout: TrainingLayout) -> str:
    if scenario.schedule != "auto":
        return scenario.schedule
    return "interleaved" if layout.vpp > 1 else "1f1b"


def _recipe(scenario: TrainingScenario, choice: TrainingMachineChoice) -> Recipe:
    precision, batch = scenario.precision, scenario.batch
    return Recipe(
        choice.global_batch or batch.global_batch,
        float(batch.micro_batch or 1),
        batch.sequence_length,
        Precision(weights=precision.matrices, kv="bf16", embedding="bf16", head="bf16"),
        "none" if scenario.recompute == "auto" else scenario.recompute,
        gradient_bytes=precision.gradient_bytes,
        optimizer_bytes=precision.optimizer_bytes,
    )


def _layout(choice: ParallelismChoice, machine: TrainingMachine, recipe: Recipe) -> TrainingLayout:
    group = choice.tp * choice.pp * choice.cp
    dp = choice.dp or machine.chips // group
    if group * dp != machine.chips:
        parts = f"tp {choice.tp} x pp {choice.pp} x cp {choice.cp}"
        if choice.dp is None:
            fitting = [str(group * whole) for whole in (dp, dp + 1) if whole]
            what, mend = f"{machine.chips} chips are no multiple of {parts} = {group}", " or ".join(fitting)
            raise InputError(Problem(what, None, f"write chips: {mend}"))
        what = f"{parts} x dp {dp} are {group * dp} chips, not {machine.chips}"
        raise InputError(Problem(what, None, f"write chips: {group * dp}, or leave dp out"))
    if recipe.global_batch % dp:
        what = f"global_batch {recipe.global_batch} is no multiple of the {dp} replicas"
        raise InputError(Problem(what, None, "change global_batch, or cut the model over more chips"))
    return TrainingLayout(
        tp=choice.tp,
        pp=choice.pp,
        dp=dp,
        ep=choice.ep,
        cp=choice.cp,
        vpp=choice.vpp,
        sequence_parallel=choice.sequence_parallel and choice.tp > 1,
        zero=choice.zero,
        slices=choice.slices,
        shard=choice.shard,
    )


def run(
    scenario: TrainingScenario,
    source: Source,
    *,
    profiles: Sequence[Path] = (),
    seed: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    finished: Callable[[TrainingRun], None] | None = None,
) -> TrainingReport:
    """Run every case. `finished` gets each run when it is done."""
    first = scenario.seed if seed is None else seed
    cases = prepare(scenario, source, profiles)
    runs: list[TrainingRun] = []
    for number, case in enumerate(cases):
        result = simulate(scenario, case, first)
        runs.append(result)
        if finished:
            finished(result)
        if progress:
            progress("training runs", number + 1, len(cases))
    bill = None if scenario.bill is None else scenario.bill.model_dump()
    return TrainingReport(Path(source.path).stem, first, tuple(runs), bill)


def simulate(scenario: TrainingScenario, case: TrainingCase, seed: int) -> TrainingRun:
    """One run: the pipeline of a step in events, then the whole run with its failures."""
    cost = step_time(case.architecture, case.recipe, case.layout, case.machine)
    record = pipeline_of(case, cost)
    slowest = straggling(float(scenario.stragglers), case.machine.chips)
    pipeline = record.seconds * slowest
    cost = replace(cost, pipeline=pipeline, jitter=cost.jitter * pipeline / cost.pipeline)
    power = run_power(cost, case.machine)
    tokens_a_step = case.recipe.global_batch * case.recipe.length
    tokens = float(scenario.tokens) if scenario.tokens else float(scenario.steps or 1) * tokens_a_step
    growth = 1.0 + tokens_a_step / float(scenario.batch.critical) if scenario.batch.critical else 1.0
    steps = ceil(tokens * growth / tokens_a_step)
    whole = _whole_run(scenario, case, steps * cost.seconds, seed)
    summary = _summary(case, cost, record, power, steps, tokens, growth, whole)
    return TrainingRun({**summary, "scaling": scaling(case)}, record, cost, case.sheet)


def scaling(case: TrainingCase) -> list[dict[str, float]]:
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
        rates = step_rates(case.architecture, recipe, cost, machine, cost.seconds)
        points.append({"chips": float(machine.chips), "step_s": cost.seconds} | rates)
    return [{name: point[name] for name in ("chips", "step_s", "tokens_per_s", "mfu")} for point in points]


def straggling(deviation: float, chips: int) -> float:
    """Slowdown when every step waits for the slowest of so many chips whose speeds are normal around 1: the expected
    extreme, 1 + sigma sqrt(2 ln n)."""
    return 1.0 + deviation * float(np.sqrt(2.0 * np.log(chips))) if chips > 1 else 1.0


def pipeline_of(case: TrainingCase, cost: StepTime) -> PipelineRecord:
    """The events of one step's pipeline: one replica stands for all."""
    split = case.schedule in DECIDING
    stages = []
    for stage in cost.stages:
        # The products of the weights' gradients are as large as those of the inputs'.
        weights = 0.5 * stage.parts.get("matmul", 0.0) * 2.0 / 3.0 if split else 0.0
        stages.append(StageWork(stage.forward, stage.backward - weights, weights))
    blocking = float(case.machine.stack.pp_exposed) * cost.send
    return run_pipeline(case.schedule, stages, int(cost.micro_batches), case.layout.vpp, cost.send, blocking)


def _whole_run(scenario: TrainingScenario, case: TrainingCase, work: float, seed: int) -> dict[str, Any]:
    """Wall time with checkpoints and failures: mean over the drawn histories, and the middle 90 % of them."""
    given, checkpoints, chips = scenario.failures, scenario.checkpoints, case.machine.chips
    size = case.architecture.total_parameters() * (case.recipe.weight_bytes + case.recipe.optimizer_bytes)
    write = size / float(checkpoints.bandwidth)
    pause = write if checkpoints.mode == "sync" else float(checkpoints.pause)
    kinds = (
        {name: FailureKind(float(part.mtbf) / chips, float(part.shape)) for name, part in given.components.items()}
        if given
        else {}
    )
    restart = (float(given.restart) if given else 0.0) + write
    detection = float(given.detection) if given else 0.0
    best = optimal_interval(pause, write, mean_between(kinds), detection + restart) if kinds else work
    interval = best if checkpoints.interval == "auto" else float(checkpoints.interval)
    cycle, between = interval + max(write, pause), mean_between(kinds)
    if cycle > HOPELESS * between:
        what = (
            f"a failure every {between:.3g} s lets no checkpoint through, which takes {cycle:.3g} s with its interval"
        )
        raise ScenarioError(Problem(what, None, "use a larger mtbf, fewer chips, or a shorter checkpoints.interval"))
    plan = LongRunPlan(
        work,
        max(min(interval, work), 1e-6),
        pause,
        max(write, pause),
        kinds,
        detection,
        restart,
        float(given.manual) if given else 0.0,
        float(given.manual_time) if given else 0.0,
        given.spares if given else None,
        float(given.repair) if given else 0.0,
    )
    return long_run_summary(plan, scenario.samples, seed) | {
        "checkpoint_bytes": size,
        "optimal_interval_s": best if kinds else None,
    }


def _summary(
    case: TrainingCase,
    cost: StepTime,
    record: PipelineRecord,
    power: Power,
    steps: int,
    tokens: float,
    growth: float,
    whole: dict[str, Any],
) -> dict[str, Any]:
    machine, layout, recipe = case.machine, case.layout, case.recipe
    nodes = machine.chips / machine.profile.node.chips
    elapsed = whole["elapsed_s"]
    # Chips that wait for a restart idle; it is a small share, and counted at full power.
    joules = {name: getattr(power, name) * elapsed for name in ("chips", "nodes", "facility")}
    spent = case.hourly.of(elapsed, nodes, joules["facility"]) if case.hourly else None
    slowest = max(cost.stages, key=lambda stage: stage.both)
    parts = {name: seconds * cost.micro_batches for name, seconds in slowest.parts.items() if seconds}
    parts["bubble"] = cost.pipeline - cost.micro_batches * slowest.both
    parts |= {"gradients": cost.gradients, "slices": cost.slices, "optimizer": cost.optimizer, "jitter": cost.jitter}
    exposed = sum(parts.get(name, 0.0) for name in ("tp", "ep", "cp", "fsdp", "gradients", "slices"))
    return {
        "machine": case.name,
        "model": case.architecture.name,
        "stack": machine.stack.name,
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label())),
        "chips": machine.chips,
        "nodes": ceil(nodes),
        "layout": str(layout),
        "schedule": case.schedule,
        "recompute": recipe.recompute,
        "global_batch": recipe.global_batch,
        "micro_batch": recipe.micro_batch,
        "sequence_length": recipe.length,
        "micro_batches": cost.micro_batches,
        "step_s": cost.seconds,
        **step_rates(case.architecture, recipe, cost, machine, cost.seconds),
        "mfu_convention": MFU,
        "hfu_convention": HFU,
        "bubble": record.bubble,
        "exposed_communication": exposed / cost.seconds,
        "step_by_part_s": {name: seconds for name, seconds in parts.items() if seconds},
        "memory_bytes": case.sheet.total,
        "memory_capacity_bytes": case.sheet.capacity,
        "memory_by_use_bytes": case.sheet.held,
        "chip_power_w": power.chips / machine.chips,
        "node_power_w": power.nodes / nodes,
        "facility_power_w": power.facility,
        "power_limited": power.throttled,
        "steps": steps,
        "tokens": tokens,
        "tokens_over_small_batches": growth,
        "days": elapsed / DAY_S,
        **whole,
        "chip_hours": machine.chips * elapsed / HOUR_S,
        "energy_chips_mwh": joules["chips"] / 3.6e9,
        "energy_nodes_mwh": joules["nodes"] / 3.6e9,
        "energy_facility_mwh": joules["facility"] / 3.6e9,
        "cost_usd": sum(spent.values()) if spent else None,
        "cost_by_component_usd": spent,
        "cost_terms": {**vars(case.terms), "price_date": case.hourly.date} if case.hourly else None,
        "layouts_tried": case.tried,
        "runners_up": [
            {
                "layout": str(other.layout),
                "micro_batch": other.recipe.micro_batch,
                "recompute": other.recipe.recompute,
                "step_s": other.seconds,
                "memory_bytes": other.sheet.total,
            }
            for other in case.runners_up
        ],
    }
