"""Candidates of a plan: machines x layouts x number formats x batch limits, and what a replica of each can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from math import ceil, log2
from pathlib import Path
from typing import Literal

from simulator.errors import CapacityError, InputError, RamwiseError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.metrics.slo import Slo
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.scenario import Limits, PrecisionChoice, Scenario, ServingMachineChoice
from simulator.scenario.model import build_model, model_places
from simulator.serve import Case, basis, case_of, machine_of, prices
from simulator.stack.stack import Stacks
from simulator.study.candidate import Candidate, Refusal
from simulator.study.equal_loss import Level
from simulator.study.fleet import Demand
from simulator.study.judge import judged
from simulator.study.pairs import pairs
from simulator.study.study import Layout, Plan
from simulator.workload import workload
from simulator.yaml_source import Source


class Candidates:
    """All candidates of a plan for one scenario. `levels`: the loss of each model, in their order; with
    `at_equal_loss` those that are not equal to the reference are left out."""

    def __init__(
        self,
        plan: Plan,
        scenario: Scenario,
        source: Source,
        objective: Slo,
        demand: Demand,
        folders: Sequence[Path],
        levels: Sequence[Level] = (),
    ) -> None:
        self._plan, self._scenario, self._source, self._slo = plan, scenario, source, objective
        beside = Path(source.path).resolve().parent
        places = (*folders, beside)
        self._catalogue, self._stacks = Catalogue(places), Stacks(places)
        at = model_places(scenario.model)
        self._models = [
            (model, build_model(model, places, source.where, place))
            for model, place in zip(scenario.models, at, strict=True)
        ]
        self._requests = workload(scenario.traffic, scenario.seed, beside, source.where(("traffic",)))
        self._lengths = float(self._requests.input_tokens.mean()), float(self._requests.output_tokens.mean())
        self.tried = 0
        self.found: list[Candidate] = []
        self.refused: list[tuple[str, Refusal]] = []
        names = self._catalogue.names() if plan.machines == "auto" else plan.machines
        whole = scenario.model_copy(
            update={"machines": tuple(ServingMachineChoice(hardware=name, tp=1) for name in names)}
        )
        self._money = basis(whole, self._catalogue)
        for index, (model, architecture) in enumerate(self._models):
            if plan.at_equal_loss and levels and not plan.at_equal_loss.keeps(levels[index], levels):
                self._keep(Refusal("not at the loss of the reference"), str(model))
                continue
            cases: list[tuple[Case, Limits]] = []
            for choice, limits in self._choices(names, architecture):
                case = self._made(choice, limits, architecture)
                if isinstance(case, Refusal):
                    self._keep(case, choice.hardware)
                else:
                    cases.append((case, limits))
                    self._keep(judged(model, case, limits, objective, *self._lengths), choice.hardware)
            if plan.pools:
                for pair in pairs(model, cases, objective, demand, plan):
                    self._keep(pair, "prompts and answers apart")

    def _keep(self, made: Candidate | Refusal, name: str) -> None:
        self.tried += 1
        if isinstance(made, Refusal):
            self.refused.append((name, made))
        else:
            self.found.append(made)

    @property
    def reasons(self) -> dict[str, int]:
        """Why candidates were refused -> how many, the most frequent first."""
        return dict(Counter(refusal.why for _, refusal in self.refused).most_common())

    def _choices(self, names: Sequence[str], model: Architecture) -> Iterator[tuple[ServingMachineChoice, Limits]]:
        plan = self._plan
        budgets = plan.max_num_batched_tokens or (self._scenario.limits.max_num_batched_tokens,)
        for name in names:
            profile = self._catalogue.load(name)
            for precision, stack, layout in product(plan.precision, self._stacks_of(profile), plan.layouts or (None,)):
                layouts = [layout] if layout else self._layouts(profile, model, precision)
                for one, seqs, tokens, place in product(layouts, plan.max_num_seqs, budgets, self._placements(name)):
                    limits = self._scenario.limits.model_copy(
                        update={"max_num_seqs": seqs, "max_num_batched_tokens": max(tokens, seqs)}
                    )
                    degrees = one.model_dump()
                    yield (
                        ServingMachineChoice(
                            hardware=name, stack=stack, precision=precision, placement=place, **degrees
                        ),
                        limits,
                    )

    def _stacks_of(self, profile: Profile) -> Sequence[str | None]:
        """The stacks of a machine: its default (None), those that have numbers of it, those that the plan names."""
        wanted = self._plan.stacks
        if wanted == "default":
            return (None,)
        names = self._stacks.paths() if wanted == "auto" else wanted
        having = [
            name
            for name in names
            if name == profile.default_stack or {profile.name, profile.chip.name} & set(self._stacks.load(name).on)
        ]
        if not having:
            self._keep(Refusal("no stack of the plan has numbers of the machine"), profile.name)
        return having

    def _layouts(self, profile: Profile, model: Architecture, precision: PrecisionChoice) -> Iterator[Layout]:
        """The degrees that the plan lists, within a node; or 1, 2, 4 ... of its chips, with experts cut or spread, and
        where a whole node is too small for the weights, so many nodes as stages as hold them."""
        chips = profile.node.chips
        if self._plan.tp != "auto":
            fitting = [Layout(tp=tp) for tp in self._plan.tp if tp <= chips]
            if not fitting:
                self._keep(Refusal("every tp of the plan is more than the chips of a node"), profile.name)
            yield from fitting
            return
        degrees = [1 << power for power in range(12) if 1 << power <= chips]
        experts = any(layer.ffn and layer.ffn.routed_experts for layer in model.layers)
        for tp in degrees:
            yield Layout(tp=tp)
            if experts and tp > 1:
                yield Layout(tp=tp, ep=tp)
        if profile.node.scale_out is None:
            return
        wanted = precision.over(self._scenario.precision.over(model.precision or Precision()))
        memory = max(float(tier.capacity) for tier in profile.chip.memory if not tier.cache)
        weights = sum(model.weight_bytes_per_chip(wanted, Parallelism(tp=degrees[-1])).values())
        stages = weights / (memory * float(self._scenario.limits.memory_utilization))
        if stages > 1.0:
            yield Layout(tp=degrees[-1], pp=1 << ceil(log2(stages)))

    def _placements(self, name: str) -> tuple[Literal["auto"] | None, ...]:
        """Ways to lay tensors out; a machine of one tier has one."""
        profile = self._catalogue.load(name)
        tiers = [tier for tier in (*profile.chip.memory, *profile.node.memory) if not tier.cache]
        return (None, "auto") if self._plan.placement == "auto" and len(tiers) > 1 else (None,)

    def _made(self, choice: ServingMachineChoice, limits: Limits, model: Architecture) -> Case | Refusal:
        scenario = self._scenario.model_copy(update={"limits": limits})
        try:
            machine = machine_of(choice, ("machines", 0), self._source, self._catalogue, self._stacks)
            if machine.parallelism.check(model):
                return Refusal("the layout does not divide the model")
            terms, (hourly,) = prices(self._money, [machine.profile])
            if hourly is None and "cost" in self._plan.goals:
                return Refusal(f"no {terms.basis} price")
            return case_of(scenario, choice, [machine], model, self._requests, (terms, [hourly]))
        except CapacityError:
            return Refusal("the model does not fit")
        except InputError as error:
            return Refusal(error.problems[0].what)
        except RamwiseError as error:
            return Refusal(str(error).splitlines()[0])
