"""Training cases: every model on every machine of a scenario, checked, laid out and ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulator.cost.money import HourlyCost, Terms
from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.memory import MemorySheet, memory_sheet
from simulator.cost.training.search import MICRO_BATCHES, Candidate, search
from simulator.engine.schedules import check_schedule
from simulator.errors import InputError, Problem, unknown
from simulator.findings import Findings
from simulator.hardware.catalogue import Catalogue
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.training.layout import TrainingLayout
from simulator.model.training.micro_batch import MicroBatch, layer_operations, looked_up
from simulator.model.training.recipe import Recipe
from simulator.model.training.recompute import PartName, Recompute, parts_of
from simulator.progress import Progress, untold
from simulator.scenario import Money, TrainingScenario
from simulator.scenario.model import build_models, model_places
from simulator.scenario.training import ParallelismChoice, TrainingMachineChoice
from simulator.serve import prices
from simulator.serve.machine import on_common_basis
from simulator.stack.training.stack import TrainingStacks
from simulator.yaml_source import Source

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

    @property
    def title(self) -> str:
        """What progress calls the case."""
        return f"{self.architecture.name} on {self.name}, {self.machine.chips:,} chips"


def prepare(
    scenario: TrainingScenario, source: Source, profiles: Sequence[Path] = (), progress: Progress = untold
) -> list[TrainingCase]:
    """Every case. Raise everything that is wrong at once: ScenarioError, or CapacityError with the memory sheets."""
    folders = (*profiles, Path(source.path).resolve().parent)
    catalogue, stacks = Catalogue(folders), TrainingStacks(folders)
    wrong = Findings()
    machines: list[tuple[int, TrainingMachineChoice, TrainingMachine]] = []
    models = build_models(scenario.models, model_places(scenario.model), folders, source.where, wrong)
    for index, choice in enumerate(scenario.machines):
        with wrong.at(source.where(("machines", index))):
            profile = catalogue.load(choice.hardware, source.where(("machines", index, "hardware")))
            stack = stacks.load(choice.stack) if choice.stack else stacks.default(profile)
            stack = stack.on_profile(profile)
            slices = 1 if choice.parallelism == "auto" else choice.parallelism.slices
            network = float(choice.network) if choice.network else None
            machines += [
                (index, choice, TrainingMachine(profile, stack, chips, slices, network, frozenset(choice.offload)))
                for chips in choice.sizes
            ]
    wrong.tell()
    wrong.add(_parts_of_none(scenario, models, source))
    with wrong.at(source.where(("money",))):
        owned = [machine.profile for _, _, machine in machines]
        terms, hourly = prices(on_common_basis(scenario.money or Money(), owned), owned)
    wrong.tell()
    cases: list[TrainingCase] = []
    for model in models:
        for (index, choice, machine), price in zip(machines, hourly, strict=True):
            with wrong.at(source.where(("machines", index))):
                cases.append(_case(scenario, choice, machine, model, (terms, price), progress))
    wrong.tell()
    return cases


def _parts_of_none(scenario: TrainingScenario, models: Sequence[Architecture], source: Source) -> list[Problem]:
    """Parts named in `recompute` that no layer of any model has, so that nothing would be computed again."""
    if not isinstance(scenario.recompute, tuple):
        return []
    micro, layout, precision = MicroBatch(1.0, scenario.batch.sequence_length), TrainingLayout(), Precision()
    there = parts_of(
        operation
        for model in models
        for layer in model.layers
        for operation in layer_operations(model, layer, micro, layout, precision)
    )
    mend = "write one of: " + ", ".join(sorted(there))
    names = " or ".join(model.name for model in models)
    return [
        Problem(f"no layer of {names} has a part '{name}' to compute again", source.where(("recompute", index)), mend)
        for index, name in enumerate(scenario.recompute)
        if name not in there
    ]


def _case(
    scenario: TrainingScenario,
    choice: TrainingMachineChoice,
    machine: TrainingMachine,
    model: Architecture,
    money: tuple[Terms, HourlyCost | None],
    progress: Progress,
) -> TrainingCase:
    recipe = _recipe(scenario, choice)
    if recipe.wide_layers > model.layer_count:
        what = f"wide_layers {recipe.wide_layers} are more than the {model.layer_count} layers of {model.name}"
        raise InputError(Problem(what, None, f"write wide_layers: {model.layer_count} or less"))
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
    modes = RECOMPUTES if scenario.recompute == "auto" else (recipe.recompute,)
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
        title = f"layouts of {model.name} on {choice.name or machine.profile.name}, {machine.chips:,} chips"
        looked = search(
            model,
            recipe,
            machine,
            float(scenario.utilization),
            micro,
            modes,
            given=given,
            progress=lambda done, of: progress(title, done, of),
        )
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
    precision, batch, script = scenario.precision, scenario.batch, scenario.script
    return Recipe(
        choice.global_batch or batch.global_batch,
        float(batch.micro_batch or 1),
        batch.sequence_length,
        Precision(weights=precision.matrices, kv="bf16", embedding="bf16", head="bf16"),
        _recompute(scenario.recompute),
        script.adapters,
        script.predictors,
        script.wide_layers,
        script.graphs,
        script.exchange == "once",
        script.overlap,
        gradient_bytes=precision.gradient_bytes,
        optimizer_bytes=precision.optimizer_bytes,
        row_state_bytes=precision.row_state_bytes,
    )


def _recompute(choice: str | tuple[PartName, ...]) -> Recompute:
    if isinstance(choice, tuple):
        return frozenset(choice) or "none"
    return next((mode for mode in RECOMPUTES if mode == choice), "none")


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
