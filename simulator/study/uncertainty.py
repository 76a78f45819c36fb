"""What is not known exactly: numbers with ranges, sampled together, the same draws for all that share a number.

A number with value v and range [a, b] is triangular: density zero at a and b, highest at v. Sample i of N takes of each
number one value from the i-th of N strata in a random order of its own (Latin hypercube). The order depends on the seed
and on the number's name alone, so contenders that share a machine or a stack share its draws, and a further number
moves no other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from simulator.hardware.catalogue import Catalogue
from simulator.provenance import Block, facts
from simulator.quantity import Known
from simulator.scenario import MachineChoice, ServingMachineChoice
from simulator.stack.stack import Stack, Stacks


class Uncertainty:
    """Samples 1 .. `samples` of every machine's ranged numbers; sample 0 is what the profiles say."""

    def __init__(self, samples: int, seed: int, catalogue: Catalogue, stacks: Stacks) -> None:
        self.samples, self._seed = samples, seed
        self._catalogue, self._stacks = catalogue, stacks
        self._draws: dict[str, np.ndarray] = {}
        self._sampled: dict[tuple[str, int], ServingMachineChoice] = {}

    def numbers(self, choice: MachineChoice) -> dict[str, Known]:
        """Name of each ranged number of a machine and its stack -> the number."""
        profile = self._catalogue.load(choice.hardware)
        stack = self._stacks.load(choice.stack or profile.default_stack).on_profile(profile)
        on_machine = _ranged(profile, f"{profile.name}:", choice.change)
        return {**on_machine, **_ranged(stack, _prefix(stack, profile.chip.name), choice.stack_change)}

    def sample(self, choice: ServingMachineChoice, sample: int) -> ServingMachineChoice:
        """The machine with the numbers of a sample; what the scenario itself changes stays as it is."""
        if sample == 0:
            return choice
        key = choice.model_dump_json(), sample
        if key not in self._sampled:
            changes = self._changes(choice, sample)
            if choice.prefill is not None:
                prefill = choice.prefill.model_copy(update=self._changes(choice.prefill, sample))
                changes = {**changes, "prefill": prefill}
            self._sampled[key] = choice.model_copy(update=changes)
        return self._sampled[key]

    def _changes(self, choice: MachineChoice, sample: int) -> dict[str, Any]:
        change, stack_change = dict(choice.change), dict(choice.stack_change)
        hardware = f"{self._catalogue.load(choice.hardware).name}:"
        for name, number in self.numbers(choice).items():
            value = float(self.draws(name, number)[sample - 1])
            written = f"{value!r} {number.unit}" if number.unit else value
            path = name.partition(":")[2]
            (change if name.startswith(hardware) else stack_change)[path] = written
        return {"change": change, "stack_change": stack_change}

    def draws(self, name: str, number: Known) -> np.ndarray:
        """[samples] values of a ranged number."""
        if name not in self._draws:
            low, high = number.range or (float(number), float(number))
            random = Generator(PCG64(SeedSequence([self._seed, crc32(name.encode())])))
            share = (random.permutation(self.samples) + random.random(self.samples)) / self.samples
            self._draws[name] = triangular(share, low, float(number), high)
        return self._draws[name]


def triangular(share: np.ndarray, low: float, mode: float, high: float) -> np.ndarray:
    """Quantiles of the triangular distribution."""
    if high <= low:
        return np.full(share.shape, mode)
    corner = (mode - low) / (high - low)
    left = low + np.sqrt(share * (high - low) * (mode - low))
    right = high - np.sqrt((1.0 - share) * (high - low) * (high - mode))
    return np.where(share < corner, left, right)


def _ranged(block: Block, prefix: str, fixed: Mapping[str, object]) -> dict[str, Known]:
    found = {}
    for fact in facts(block):
        value = fact.value
        if isinstance(value, Known) and value.range and value.range[0] < value.range[1] and fact.path not in fixed:
            found[prefix + fact.path] = value
    return found


def _prefix(stack: Stack, chip: str) -> str:
    return f"{stack.name} on {chip}:"
