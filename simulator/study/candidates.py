"""Candidates of a plan: machines x layouts x number formats x batch limits, and what a replica of each can hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from simulator.cost.steady import Replica
from simulator.errors import CapacityError, InputError, RamwiseError
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.slo import Slo
from simulator.scenario import Limits, Scenario, ServingMachineChoice
from simulator.scenario.model import build_model
from simulator.serve import Case, basis, case_of, machine_of, prices
from simulator.stack.stack import Stacks
from simulator.study.candidate import Candidate, Refusal, Side
from simulator.study.fleet import Demand
from simulator.study.pairs import pairs
from simulator.study.study import Plan
from simulator.workload import workload
from simulator.yaml_source import Source

BATCHES = 48
"""Batches between one and the largest at which a replica is looked at, at even ratios."""


class Candidates:
    """All candidates of a plan for one scenario (its first model)."""

    def __init__(
        self, plan: Plan, scenario: Scenario, source: Source, objective: Slo, demand: Demand, folders: Sequence[Path]
    ) -> None:
        self._plan, self._scenario, self._source, self._slo = plan, scenario, source, objective
        beside = Path(source.path).resolve().parent
        places = (*folders, beside)
        self._catalogue, self._stacks = Catalogue(places), Stacks(places)
        self._model = build_model(scenario.models[0], places, source.where, ("model",))
        self._requests = workload(scenario.traffic, scenario.seed, beside, source.where(("traffic",)))
        self.tried = 0
        self.found: list[Candidate] = []
        self.refused: list[tuple[str, Refusal]] = []
        choices = list(self._choices())
        everyone = scenario.model_copy(update={"machines": tuple(choice for choice, _ in choices)})
        self._money = basis(everyone, self._catalogue)
        cases: list[tuple[Case, Limits]] = []
        for choice, limits in choices:
            case = self._made(choice, limits)
            if isinstance(case, Refusal):
                self._keep(case, choice.hardware)
            else:
                cases.append((case, limits))
                self._keep(self._judged(case, limits), choice.hardware)
        if plan.pools:
            for pair in pairs(cases, objective, demand, plan):
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

    def _choices(self) -> Iterator[tuple[ServingMachineChoice, Limits]]:
        plan = self._plan
        names = self._catalogue.names() if plan.machines == "auto" else plan.machines
        for name in names:
            chips = self._catalogue.load(name).node.chips
            degrees = [1 << power for power in range(12) if 1 << power <= chips] if plan.tp == "auto" else plan.tp
            budgets = plan.max_num_batched_tokens or (self._scenario.limits.max_num_batched_tokens,)
            wanted = product(degrees, plan.precision, plan.max_num_seqs, budgets, self._placements(name))
            for tp, precision, seqs, tokens, place in wanted:
                limits = self._scenario.limits.model_copy(
                    update={"max_num_seqs": seqs, "max_num_batched_tokens": max(tokens, seqs)}
                )
                if tp <= chips:
                    choice = ServingMachineChoice(hardware=name, tp=tp, precision=precision, placement=place)
                    yield choice, limits

    def _placements(self, name: str) -> tuple[Literal["auto"] | None, ...]:
        """Ways to lay tensors out; a machine of one tier has one."""
        profile = self._catalogue.load(name)
        tiers = [tier for tier in (*profile.chip.memory, *profile.node.memory) if not tier.cache]
        return (None, "auto") if self._plan.placement == "auto" and len(tiers) > 1 else (None,)

    def _made(self, choice: ServingMachineChoice, limits: Limits) -> Case | Refusal:
        scenario = self._scenario.model_copy(update={"limits": limits})
        try:
            machine = machine_of(choice, ("machines", 0), self._source, self._catalogue, self._stacks)
            if machine.parallelism.check(self._model):
                return Refusal("the layout does not divide the model")
            terms, (hourly,) = prices(self._money, [machine.profile])
            if hourly is None and self._plan.objective == "cost":
                return Refusal(f"no {terms.basis} price")
            return case_of(scenario, choice, [machine], self._model, self._requests, (terms, [hourly]))
        except CapacityError:
            return Refusal("the model does not fit")
        except InputError as error:
            return Refusal(error.problems[0].what)
        except RamwiseError as error:
            return Refusal(str(error).splitlines()[0])

    def _judged(self, case: Case, limits: Limits) -> Candidate | Refusal:
        """The largest batch at which the means keep the SLO."""
        prompt, output = float(self._requests.input_tokens.mean()), float(self._requests.output_tokens.mean())
        room = case.sheet.kv_tokens / (prompt + output / 2)
        most = max(1.0, min(float(limits.max_num_seqs), room))
        replica = Replica(case.architecture, case.precision, case.machine, prompt, output, most)
        batches = np.geomspace(1.0, most, BATCHES)
        state = replica.at_batch(batches)
        limits_s = {"ttft": self._slo.ttft_s, "tpot": self._slo.tpot_s, "e2el": self._slo.e2el_s}
        reached = {
            "ttft": state.first_s,
            "tpot": state.step_s,
            "e2el": state.first_s + (output - 1) * state.step_s,
        }
        over = {name: reached[name] / limit for name, limit in limits_s.items() if limit is not None}
        kept = np.all([ratio <= 1.0 for ratio in over.values()], axis=0)
        if not kept[0]:
            worst = max(over, key=lambda name: float(over[name].min()))
            return Refusal(f"{worst} above the SLO in the smallest batch", float(over[worst].min()))
        last = int(np.argmin(kept)) - 1 if not kept.all() else BATCHES - 1
        if last == BATCHES - 1:
            binding = "max_num_seqs" if limits.max_num_seqs <= room else "KV cache"
        else:
            binding = max(over, key=lambda name: float(over[name][last + 1]))
        chosen = replica.at_batch(batches[last])
        side = Side(case, replica)
        return Candidate((side,), limits, float(chosen.rate[0]), float(chosen.step_s[0]), binding)
