"""The costs of steps as the engine wants them: whole ticks, straight lines over the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator.cost.energy import least_seconds
from simulator.cost.host_floor import PARTS
from simulator.cost.machine import Machine
from simulator.cost.piece import Line, Piece, largest
from simulator.cost.step import StepCost
from simulator.cost.ticks import LONGEST_S, TICKS_PER_SECOND, too_long
from simulator.model.operation import Array


class StepTable:
    """`StepTime` for the engine: whole ticks. Durations are the larger of straight lines over the steps of a run."""

    def __init__(self, cost: StepCost, machine: Machine) -> None:
        self.windows = cost.windows
        amounts = (cost.tokens, cost.outputs, cost.prefill, *cost.keys, *cost.pairs)
        work = [np.asarray(amount.total_seconds) for amount in amounts]
        # Under a host floor work counts in multiples of PARTS ticks (57 fs), of which every share is a whole number.
        floors = (cost.floor, cost.prompt_floor or cost.floor)  # without and with a prompt
        grain = PARTS if any(floor.seconds for floor in floors) else 1
        least = [_ticks(part / grain) * grain for part in work]
        limit = [_ticks(least_seconds(amount, machine)) for amount in amounts]
        # Where no part's energy needs more time than its work, no sum of parts does.
        capped = any(np.any(np.asarray(slow) > np.asarray(fast)) for slow, fast in zip(limit, least, strict=True))
        count = len(self.windows)
        self._work = [
            [_Tariff(parts, count) for parts in (least, *([_ticks(p / grain) * grain for p in one] for one in late))]
            for late in (_waiting(cost, work, False), _waiting(cost, work, True))
        ]
        self._swap = int(_ticks(cost.swap.total_seconds))
        self._limit = [_Tariff(limit, count)] if capped else []
        self._host = [[(share, int(_ticks(seconds))) for share, seconds in floor.tangents] for floor in floors]
        self._free_from = [floor.free_from_s * TICKS_PER_SECOND for floor in floors]
        self._plain = not capped and not any(self._free_from) and all(len(work) == 1 for work in self._work)

    def pieces(
        self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None, steps: int, swapped: int = 0
    ) -> tuple[Piece, ...]:
        """Durations of `steps` steps: pieces (steps, first, increment); `swapped` blocks move before a single one."""
        prompt = pairs is not None
        if self._plain:  # one line alone
            first, growth = self._work[prompt][0].line(tokens, outputs, keys, pairs)
            return ((steps, first + swapped * self._swap, growth),)
        lines = [tariff.line(tokens, outputs, keys, pairs) for tariff in self._work[prompt]]
        if max(lines)[0] < self._free_from[prompt]:
            lines = [
                (share * (first // PARTS) + host, share * (growth // PARTS))
                for first, growth in lines
                for share, host in self._host[prompt]
            ]
        lines += [tariff.line(tokens, outputs, keys, pairs) for tariff in self._limit]
        if swapped:
            lines = [(first + swapped * self._swap, growth) for first, growth in lines]
        return largest(lines, steps)


class _Tariff:
    """Ticks of a step as a straight line over the steps of a run."""

    __slots__ = ("_keys", "_outputs", "_pairs", "_prefill", "_tokens")

    def __init__(self, parts: list[np.ndarray], windows: int) -> None:
        self._tokens: list[int] = parts[0].tolist()
        self._outputs: list[int] = parts[1].tolist()
        self._prefill: list[int] = np.broadcast_to(parts[2], np.shape(parts[0])).tolist()
        self._keys: list[list[int]] = [
            np.broadcast_to(part, np.shape(parts[1])).tolist() for part in parts[3 : 3 + windows]
        ]
        self._pairs = [int(part) for part in parts[3 + windows :]]

    def line(self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None) -> Line:
        value = self._tokens[tokens] + self._outputs[outputs]
        increment = 0
        for (total, growth), prices in zip(keys, self._keys, strict=True):
            price = prices[outputs]
            value += total * price
            increment += growth * price
        if pairs is not None:
            value += self._prefill[tokens]
            for (total, growth), price in zip(pairs, self._pairs, strict=True):
                value += total * price
                increment += growth * price
        return value, increment


def _waiting(cost: StepCost, work: list[np.ndarray], prompt: bool) -> Iterator[list[np.ndarray]]:
    """The parts of steps that wait for a fetch: work and wait together, for each fetch that may be the last to come."""
    tokens, outputs, prefill, *contexts = work
    left = (*cost.free_keys, *cost.free_pairs)
    for layers, seconds in zip(cost.waits[prompt].layers, cost.waits[prompt].seconds, strict=True):
        wait = seconds - layers * cost.free[prompt]
        own = (tokens, outputs, prefill + wait) if prompt else (tokens + wait, outputs, prefill)
        yield [*own, *(price - layers * part for price, part in zip(contexts, left, strict=True))]


def _ticks(seconds: Array) -> np.ndarray:
    """Whole ticks, as integers. Raise InputError for what no step takes."""
    longest = float(np.max(seconds))
    if not longest < LONGEST_S:  # nor for no number
        raise too_long(longest)
    return np.rint(np.asarray(seconds) * TICKS_PER_SECOND).astype(np.int64)
