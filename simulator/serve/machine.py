"""The machines of a scenario: profile, stack, layout, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from simulator.cost.automatic import automatic
from simulator.cost.machine import Machine
from simulator.cost.money import HourlyCost, Terms, common_basis, hourly_cost
from simulator.cost.place import Placement
from simulator.cost.placement import CapacitySheet, capacity
from simulator.errors import Problem, ProfileError, ScenarioError, StackError, Where, unknown
from simulator.findings import Findings
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.host import with_host
from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.problems import Location
from simulator.provenance import changed
from simulator.scenario import MachineChoice, Money, Scenario, ServingMachineChoice
from simulator.scenario.placement import is_automatic, placement
from simulator.stack.stack import Stacks
from simulator.yaml_source import Source


def places(choice: ServingMachineChoice, index: int) -> tuple[Location, ...]:
    """Where each of the pools of a scenario's machine stands."""
    at = ("machines", index)
    return ((*at, "prefill"), at) if choice.prefill else (at,)


def machine_of(choice: MachineChoice, at: Location, source: Source, catalogue: Catalogue, stacks: Stacks) -> Machine:
    """The machine that a scenario names at a place. Raise InputError for what is wrong with it."""
    profile = _profile(choice, catalogue, source.where((*at, "hardware")), source.where((*at, "change")))
    if choice.host is not None:
        host = catalogue.load(choice.host, source.where((*at, "host")))
        profile = with_host(profile, host, choice.sockets)
    elif choice.sockets is not None:
        mend = "name the CPU node with host:, or take sockets away"
        raise ScenarioError(Problem("sockets without a host", source.where((*at, "sockets")), mend))
    largest = max(1, profile.node.chips // (choice.pp * choice.dp))
    copies = None if choice.redundant_experts == "auto" else choice.redundant_experts
    layout = Parallelism(choice.tp or largest, choice.pp, choice.dp, choice.ep, copies)
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
    machine = Machine(profile, stack, layout, Placement(), replicas, threads=choice.threads)
    named, wrong = placement(choice.placement, {}), Findings()
    for kind, place in named.places.items():  # each by itself, so that what is wrong with it stands where it is written
        with wrong.at(source.where((*at, "placement", kind))):
            replace(machine, placement=Placement({kind: place}))
    wrong.tell()
    return replace(machine, placement=named)


def placed(
    choice: MachineChoice,
    model: Architecture,
    precision: Precision,
    machine: Machine,
    kv_tokens: float,
    *,
    block_size: int,
    **sizes: Any,
) -> tuple[Machine, CapacitySheet]:
    """The machine with the model's tensors where the scenario puts them, and what then lies in its memory.

    `kv_tokens`: the cache that automatic placement makes room for; `sizes` as in `capacity`. Raise CapacityError when
    the model does not fit.
    """
    held = model.weight_bytes_per_chip(precision, machine.parallelism)
    machine = replace(machine, placement=placement(choice.placement, held, model.tiers))
    if is_automatic(choice.placement):
        machine = automatic(model, precision, machine, kv_tokens=kv_tokens, **sizes)
    return machine, capacity(model, precision, machine, block_size=block_size, **sizes)


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
    profiles = [_profile(pool, catalogue) for choice in scenario.machines for pool in choice.pools]
    names = {*catalogue.names(), *(profile.name for profile in profiles)}
    strange = [name for name in (*money.capital, *money.rental) if name not in names and "+" not in name]
    if strange:
        raise ScenarioError(unknown("hardware profile", strange[0], names))
    return on_common_basis(money, profiles)


def on_common_basis(money: Money, profiles: Sequence[Profile]) -> Money:
    """The terms; where they name no basis, that which all of the machines have in common."""
    if money.basis:
        return money
    return money.model_copy(update={"basis": common_basis(profiles, money.capital, money.rental)})


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
