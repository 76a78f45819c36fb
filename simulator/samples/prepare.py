"""Cases of a scenario of samples or points: every model on every machine, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simulator.cost.machine import Machine
from simulator.errors import Problem
from simulator.findings import Findings
from simulator.hardware.catalogue import Catalogue
from simulator.model.architecture import Architecture
from simulator.problems import Location
from simulator.samples.case import SampleCase
from simulator.samples.decoding import decoding
from simulator.samples.sampling import sampling
from simulator.scenario import MachineChoice
from simulator.scenario.model import model_places
from simulator.scenario.samples import Decode, SampleScenario
from simulator.serve import machine_of
from simulator.stack.stack import Stacks
from simulator.workload import workload
from simulator.yaml_source import Source


def prepare(scenario: SampleScenario, source: Source, profiles: Sequence[Path] = ()) -> list[SampleCase]:
    """Every case. Raise everything that is wrong at once: ScenarioError, or CapacityError for what does not fit."""
    beside = Path(source.path).resolve().parent
    folders = (*profiles, beside)
    catalogue, stacks = Catalogue(folders), Stacks(folders)
    wrong, at_models = Findings(), model_places(scenario.model)
    machines: list[tuple[MachineChoice, Machine]] = []
    language: dict[int, Architecture] = {}
    for index, choice in enumerate(scenario.machines):
        with wrong.at(source.where(("machines", index))):
            machines.append((choice, machine_of(choice, ("machines", index), source, catalogue, stacks)))
    for index, (model, place) in enumerate(zip(scenario.models, at_models, strict=True)):
        if isinstance(model, Decode):
            with wrong.at(source.where(place)):
                language[index] = model.build(folders, source.where, place)
                wrong.add(_of_decoding(model, language[index], source, place))
    for (_, machine), architecture in ((pair, a) for pair in machines for a in language.values()):
        wrong.add(machine.parallelism.check(architecture, source.where(("machines",))))
    wrong.tell()
    queries = workload(scenario.traffic.requests(), scenario.seed, beside, source.where(("traffic",)))
    cases: list[SampleCase] = []
    for index, model in enumerate(scenario.models):
        for at, (choice, machine) in enumerate(machines):
            with wrong.at(source.where(("machines", at))):
                if isinstance(model, Decode):
                    cases += decoding(model, language[index], choice, machine)
                else:
                    cases.append(sampling(model, choice, machine, stacks, queries, scenario.max_batch))
    wrong.tell()
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
