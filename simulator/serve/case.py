"""Cases of a serving scenario: one model on one machine, or on one that prefills and one that decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.money import HourlyCost, Terms
from simulator.cost.placement import CapacitySheet
from simulator.engine.batching import BatchLimits, batch_limits
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import LinkLimits
from simulator.engine.traffic import Workload, check_context
from simulator.errors import CapacityError, Problem, ScenarioError
from simulator.findings import Findings
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.slo import Slo, preset
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.scenario import (
    LinkChoice,
    MachineChoice,
    PrefillChoice,
    Scenario,
    ServingMachineChoice,
    SloChoice,
)
from simulator.scenario.model import build_models, model_places
from simulator.serve.machine import basis, machine_of, placed, places, prices
from simulator.stack.stack import Stack, Stacks
from simulator.workload import workload
from simulator.yaml_source import Source

Tokens = TypeVar("Tokens", float, np.ndarray)


@dataclass(frozen=True)
class Case:
    """One model on one machine, checked and ready to run. Where that only decodes, `prefill` is the same of the machine
    that computes the prompts, and `link` moves the caches."""

    choice: MachineChoice
    architecture: Architecture
    precision: Precision
    machine: Machine
    sheet: CapacitySheet
    limits: BatchLimits
    requests: Workload
    terms: Terms
    hourly: HourlyCost | None
    prefill: Case | None = None
    link: LinkLimits | None = None

    @property
    def name(self) -> str:
        """What results call the machine."""
        return self.choice.name or " > ".join(pool.machine.profile.name for pool in self.pools)

    @property
    def pools(self) -> tuple[Case, ...]:
        """The case of those that prefill, if they are others, and this one."""
        return (self.prefill, self) if self.prefill else (self,)

    @property
    def kv(self) -> KvLimits:
        """The cache of one replica."""
        sheet = self.sheet
        return KvLimits(sheet.kv_blocks, sheet.block_size, sheet.kv_fixed_blocks, sheet.kv_swap_blocks)

    @property
    def room(self) -> int:
        """Tokens of the longest request that the KV cache holds."""
        return self.kv.longest

    def requests_held(self, prompt: Tokens, output: Tokens) -> Tokens:
        """Requests of so many tokens that the KV cache holds at once, each with half of its answer on the mean."""
        return self.sheet.kv_tokens / (prompt + output / 2)


def prepare(scenario: Scenario, source: Source, profiles: Sequence[Path] = ()) -> list[Case]:
    """Every case of the scenario. Names are looked up in `profiles`, then beside the scenario, then in ramwise itself.

    Raise everything that is wrong at once, before anything runs: ScenarioError for what is written, CapacityError with
    a sheet for each model that does not fit.
    """
    beside = Path(source.path).resolve().parent
    folders = (*profiles, beside)
    catalogue, stacks = Catalogue(folders), Stacks(folders)
    wrong = Findings()
    machines: list[tuple[ServingMachineChoice, list[Machine]]] = []
    models = build_models(scenario.models, model_places(scenario.model), folders, source.where, wrong)
    for index, choice in enumerate(scenario.machines):
        pools: list[Machine] = []
        for pool, at in zip(choice.pools, places(choice, index), strict=True):
            with wrong.at(source.where(at)):
                machine = machine_of(pool, at, source, catalogue, stacks)
                pools.append(machine)
                wrong.add(p for model in models for p in machine.parallelism.check(model, source.where(at)))
        machines.append((choice, pools))
    with wrong.at(source.where(("traffic",))):
        requests = workload(scenario.traffic, scenario.seed, beside, source.where(("traffic",)))
    with wrong.at(source.where(("slo",))):
        slo(scenario, source)
    wrong.tell()
    with wrong.at(source.where(("money",))):
        profiles_of = [[machine.profile for machine in pools] for _, pools in machines]
        terms, hourly = prices(basis(scenario, catalogue), [each for group in profiles_of for each in group])
        rates = iter(hourly)
        priced = [[next(rates) for _ in group] for group in profiles_of]
    wrong.tell()
    cases: list[Case] = []
    for model in models:
        with wrong.at(source.where(("traffic",))):
            fitting = check_context(requests, model.max_context, model.name, scenario.traffic.longer)
            for index, ((choice, pools), price) in enumerate(zip(machines, priced, strict=True)):
                with wrong.at(source.where(("machines", index))):
                    cases.append(case_of(scenario, choice, pools, model, fitting, (terms, price)))
    wrong.tell()
    return cases


def case_of(
    scenario: Scenario,
    choice: ServingMachineChoice,
    machines: Sequence[Machine],
    model: Architecture,
    requests: Workload,
    money: tuple[Terms, Sequence[HourlyCost | None]],
) -> Case:
    """One model on the machines of a choice. Raise CapacityError with a sheet when it does not fit, ScenarioError where
    no link joins the machines."""
    terms, hourly = money
    whole = _pool(scenario, choice, machines[-1], model, requests, (terms, hourly[-1]))
    if choice.prefill is None:
        return whole
    prompts = replace(requests, output_tokens=np.zeros_like(requests.output_tokens))
    prefill = _pool(scenario, choice.prefill, machines[0], model, prompts, (terms, hourly[0]))
    if prefill.precision.kv != whole.precision.kv:
        what = f"prefill caches {prefill.precision.kv}, decode {whole.precision.kv}, and a cache moves as it is"
        raise ScenarioError(Problem(what, None, "write the same precision.kv for both"))
    return replace(whole, prefill=prefill, link=link_of(choice.link, prefill, whole))


def _pool(
    scenario: Scenario,
    choice: MachineChoice,
    machine: Machine,
    model: Architecture,
    requests: Workload,
    money: tuple[Terms, HourlyCost | None],
) -> Case:
    precision = choice.precision.over(scenario.precision.over(model.precision or Precision()))
    limits = _limits(scenario, choice, machine.stack)
    block_size = scenario.limits.block_size
    lengths = requests.input_tokens + requests.output_tokens
    machine, sheet = placed(
        choice,
        model,
        precision,
        machine,
        max(limits.max_num_seqs * float(lengths.mean()), float(lengths.max() + block_size)),
        block_size=block_size,
        memory_utilization=float(scenario.limits.memory_utilization),
        max_tokens=limits.max_num_batched_tokens,
        max_outputs=limits.max_num_seqs,
    )
    case = Case(choice, model, precision, machine, sheet, limits, requests, *money)
    longest = int(lengths.max())
    if longest > case.room:
        raise CapacityError(
            f"a request of {longest:,} tokens does not fit the KV cache of {case.room:,} tokens; use more chips, a "
            f"smaller `precision.kv`, or a larger `memory_utilization`\n{sheet.text()}"
        )
    return case


def _limits(scenario: Scenario, choice: MachineChoice, stack: Stack) -> BatchLimits:
    seqs, tokens = scenario.limits.max_num_seqs, scenario.limits.max_num_batched_tokens
    if isinstance(choice, PrefillChoice):
        seqs, tokens = choice.max_num_seqs or seqs, choice.max_num_batched_tokens or tokens
        if tokens < seqs:
            what = f"max_num_batched_tokens ({tokens}) of the prefill is below its max_num_seqs ({seqs})"
            raise ScenarioError(Problem(what, None, f"write prefill: {{max_num_seqs: {tokens}}}, or more tokens"))
    return batch_limits(stack, seqs, tokens)


def link_of(choice: LinkChoice | None, prefill: Case, decode: Case) -> LinkLimits:
    """What moves caches: as the scenario says, or over the networks of both machines, as their stacks use them.

    Raise ScenarioError where a machine has no network.
    """
    model, precision = decode.architecture, decode.precision
    cache = model.kv_bytes_per_token(precision), model.kv_bytes_per_sequence(precision)
    if choice is not None:
        layers = model.layer_count if choice.overlapped else 0
        return LinkLimits(float(choice.bandwidth), float(choice.bandwidth), float(choice.latency), *cache, layers)
    rates, latency = [], 0.0
    for machine in (prefill.machine, decode.machine):
        network = machine.profile.node.scale_out
        if network is None:
            what = f"'{machine.profile.name}' has no `scale_out` over which a KV cache could move"
            raise ScenarioError(Problem(what, None, "write link: {bandwidth: 50 GB/s, latency: 20 us}"))
        reached = float(machine.stack.collectives.scale_out_bandwidth)
        rates.append(machine.parallelism.chips * network.bandwidth_of(machine.profile.node.chips) * reached)
        latency = max(latency, float(network.latency))
    return LinkLimits(rates[0], rates[1], latency, *cache)


def slo(scenario: Scenario, source: Source) -> Slo | None:
    """The scenario's SLO: a preset's name, or limits of its own."""
    if isinstance(scenario.slo, str):
        return preset(scenario.slo, source.where(("slo",)))
    if isinstance(scenario.slo, SloChoice):
        choice = scenario.slo
        ttft, tpot, e2el = (None if x is None else float(x) for x in (choice.ttft, choice.tpot, choice.e2el))
        return Slo(ttft, tpot, e2el, percentile=choice.percentile)
    return None
