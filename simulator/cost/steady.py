"""A replica in steady state, in closed form: the batch that a load keeps running, and what follows from it.

A batch of B sequences of L prompt and O output tokens, replaced as they end, meets B/O prompts in a step. A step is

    t(B) = (1 - q) * t(B sequences) + q * t(B sequences and max(1, B/O) prompts),   q = min(1, B/O),

with L + O/2 keys a sequence, so B / (O * t(B)) requests finish in a second. Where prompts run in steps of their own
(`chunked_prefill: false`), g = max(`admission_least`, B/O for each of the steps between two looks) at a time, but from
1 to B, t(B) = t(B sequences) + B/O / g * t(g prompts). A load of r requests a second keeps
B = r * O * t(B/b) running (Little's law), where b = 1 - exp(-B) is the share of the time in which anything runs (as if
sequences did not slow each other down: M/G/infinity). More than the largest batch holds saturates the replica. One that
only decodes has q = 0 and O - 1 steps a request (cost/steady_pools.py).

A request itself waits for no prompt of its own between its tokens, and finds N others: B of them where requests come at
random (Slivnyak's theorem: not B - 1, as among those that are always there). A token takes it the step of N + 1
sequences with the prompts that replace N.

Of a node's replicas that contend, each works in a share b of the time, as if they did not know of each other: a step
is the mean over the binomial number of the others that work beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import comb
from typing import NamedTuple

import numpy as np

from simulator.cost.amount import Amount, add
from simulator.cost.crossing import crossing
from simulator.cost.machine import Machine
from simulator.cost.mean_step import joules_of, mean_step, seconds_of
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Array

SMALLEST = 1e-9
"""Of the largest batch: where the search for a batch begins."""

LEAST_STEPS = 1e-3
"""Of a request whose only token comes with its prefill: next to none."""


@dataclass(frozen=True)
class SteadyState:
    """Of one replica, arrays over loads. rate: requests a second that it finishes; batch: running on average;
    step_s: mean step; token_s: between two tokens of a request; first_s: time to the first token of a request that
    finds the batch as it is (its prompt in one step with it, after half a step in progress or what its stack's
    scheduler takes), or until one that is prefilled takes part; busy: share of the time; joules: above idle of one
    chip, a second; step: the mean step of a chip that works; of_all: of all chips, some of which wait in a pipeline."""

    rate: np.ndarray
    batch: np.ndarray
    step_s: np.ndarray
    token_s: np.ndarray
    first_s: np.ndarray
    busy: np.ndarray
    joules: np.ndarray
    saturated: np.ndarray
    step: Amount
    of_all: Amount


class _Step(NamedTuple):
    """A mean step: what it takes of a chip that works, its time, the share of the chips that do, and what it takes of
    all on average."""

    amount: Amount
    seconds: np.ndarray
    working: Array
    of_all: Amount


@dataclass(frozen=True)
class Replica:
    """A model laid out on a machine, with the lengths of its requests (arrays) and the largest batch that fits.
    `prefilled`: others compute the prompts and first tokens."""

    architecture: Architecture
    precision: Precision
    machine: Machine
    prompt: Array
    output: Array
    most: Array
    prefilled: bool = False

    @property
    def steps(self) -> Array:
        """Steps of a request, each a token."""
        return np.maximum(np.asarray(self.output) - 1.0, LEAST_STEPS) if self.prefilled else self.output

    def at_batch(self, batch: Array) -> SteadyState:
        """With `batch` requests always there, of which at most `most` run; inf: as many as run, and nobody waits."""
        wanted, most = self._shaped(batch)
        running = np.minimum(wanted, most)
        priced = self._step(running, 1.0)
        ones = np.ones(running.shape)
        rate = running / (self.steps * priced.seconds)
        others = np.maximum(running - 1.0, 0.0)
        waits = (wanted > most) & np.isfinite(wanted)
        return self._state(running, others, rate, priced, ones, waits, np.minimum(others, 1.0))

    def at_rate(self, rate: Array) -> SteadyState:
        """With `rate` requests a second on average, arriving at random."""
        wanted, most = self._shaped(rate)
        saturated = wanted >= most / (self.steps * self._step(most, 1.0).seconds)

        def over(batch: np.ndarray) -> np.ndarray:
            """Logarithm of how many more requests finish in a batch than come: then the batch that they keep is
            smaller."""
            finished = batch / (self.steps * self._step(_when_busy(batch), _busy(batch)).seconds)
            return np.asarray(np.log(finished / np.where(saturated, 1.0, wanted)))

        batch = np.where(saturated, most, crossing(over, most * SMALLEST, most, saturated))
        busy = np.where(saturated, 1.0, _busy(batch))
        priced = self._step(np.where(saturated, most, _when_busy(batch)), busy)
        served = np.where(saturated, most / (self.steps * priced.seconds), wanted)
        return self._state(batch, _found(batch, most), served, priced, busy, saturated, busy)

    def along(self, batch: Array) -> SteadyState:
        """With the random arrivals that keep `batch` running on average, at most `most`: `at_rate`, not solved."""
        running, most = self._shaped(batch)
        running = np.minimum(running, most)
        busy = _busy(running)
        priced = self._step(_when_busy(running), busy)
        rate = running / (self.steps * priced.seconds)
        nobody = np.zeros(running.shape, dtype=bool)
        return self._state(running, _found(running, most), rate, priced, busy, nobody, busy)

    def _shaped(self, load: Array) -> tuple[np.ndarray, np.ndarray]:
        """The load and the largest batch, in one shape with the lengths."""
        load, most, _, _ = np.broadcast_arrays(np.atleast_1d(load), self.most, self.prompt, self.output)
        return load.astype(float), most.astype(float)

    def _price(self, batch: np.ndarray, prompts: np.ndarray | float, busy: Array) -> Amount:
        context = self.prompt + np.asarray(self.output) / 2
        return add(
            mean_step(self.architecture, self.precision, one, batch, context, prompts, self.prompt).times(chance)
            for one, chance in self._beside(busy)
        )

    def _beside(self, busy: Array) -> Iterator[tuple[Machine, Array]]:
        """The machine while 0, 1, ... of the other replicas work, evenly over the links, and how often that is."""
        others = self.machine.replicas - 1 if self.machine.contended else 0
        if not others:
            yield self.machine, 1.0
            return
        for count in range(others + 1):
            chance = comb(others, count) * np.power(busy, count) * np.power(1.0 - np.asarray(busy), others - count)
            near = 1.0 + count * (self.machine.beside - 1) / others
            if np.any(chance):
                yield replace(self.machine, busy=1 + count, on_link=near), chance

    def _seconds(self, step: Amount, prompts: np.ndarray | float) -> np.ndarray:
        return seconds_of(step, self.architecture, self.machine, prompts)

    def _step(self, batch: np.ndarray, busy: Array) -> _Step:
        """The mean step of a batch; each other replica works in a share `busy` of the time."""
        if self.prefilled:
            step = self._price(batch, 0.0, busy)
            working = self.machine.parallelism.at_work(batch)
            return _Step(step, self._seconds(step, 0.0), working, step.of_chips(working))
        # Steps of decoding alone for each mean step, and steps with prompts, and who decodes in those.
        joining, share = self._joining(batch)
        plain, beside = self._beside_prompts(batch, share)
        alone, mixed = self._price(batch, 0.0, busy), self._price(beside, joining, busy)
        lone, joined = plain * self._seconds(alone, 0.0), share * self._seconds(mixed, 1.0)
        seconds, parts = lone + joined, (alone.times(plain), mixed.times(share))
        few, more = map(self.machine.parallelism.at_work, (batch, beside + joining * self.prompt))
        of_all = add([parts[0].of_chips(few), parts[1].of_chips(more)])
        return _Step(add(parts), seconds, (lone * few + joined * more) / seconds, of_all)

    def _joining(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the prompts that replace a batch: those of a step, and such steps for each in which all decode."""
        replaced = batch / np.asarray(self.output)
        joining = np.maximum(1.0, replaced) if self.machine.stack.chunked_prefill else self._group(batch)
        return joining, replaced / joining

    def _beside_prompts(self, batch: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps of decoding alone, and who decodes in the `share` of steps that prompts have."""
        if self.machine.stack.chunked_prefill:
            return 1.0 - share, batch
        return np.ones(batch.shape), 0.0 * batch

    def _group(self, batch: np.ndarray) -> np.ndarray:
        """Prompts that run together where they run in steps of their own: no more than then decode."""
        stack = self.machine.stack
        waiting = batch / self.output * float(stack.admission_interval)
        group = np.maximum(waiting, float(stack.admission_least))
        return np.asarray(np.minimum(group, np.maximum(batch, 1.0)))

    def _first(self, batch: np.ndarray, seconds: np.ndarray, busy: Array, met: Array) -> np.ndarray:
        """Seconds to the first token, or until a sequence prefilled elsewhere takes part; `met`: chance that others
        run when it comes."""
        stack = self.machine.stack
        if self.prefilled:
            return np.asarray(0.5 * met * seconds)
        others = (float(stack.admission_least) - 1.0) * self.output / batch  # steps until they have come, or all ended
        look = np.maximum(float(stack.admission_interval), np.minimum(others, self.output))
        alone = not stack.chunked_prefill
        own = self._price(0.0 * batch, self._group(batch), busy) if alone else self._price(batch, 1.0, busy)
        waits = met * seconds * (0.5 * look + float(stack.admission_delay))
        return np.asarray(waits + self._seconds(own, 1.0) + float(stack.tokenization) * np.asarray(self.prompt))

    def _token(self, others: np.ndarray, busy: Array) -> np.ndarray:
        """Seconds between two tokens of a request that runs with so many others."""
        mine = others + 1.0
        alone = self._seconds(self._price(mine, 0.0, busy), 0.0)
        if self.prefilled:
            return alone
        joining, share = self._joining(others)
        plain, beside = self._beside_prompts(mine, share)
        return np.asarray(plain * alone + share * self._seconds(self._price(beside, joining, busy), 1.0))

    def _state(
        self,
        batch: np.ndarray,
        others: np.ndarray,
        rate: np.ndarray,
        priced: _Step,
        busy: np.ndarray,
        saturated: np.ndarray,
        met: np.ndarray,
    ) -> SteadyState:
        step, seconds = priced.amount, priced.seconds
        first = self._first(batch, seconds, busy, met)
        joules = joules_of(step, seconds, self.machine) / seconds * busy * priced.working
        token = self._token(others, busy)
        return SteadyState(rate, batch, seconds, token, first, busy, joules, saturated, step, priced.of_all)


def _found(batch: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Others that a request which comes at random finds running, and that leave it a place."""
    return np.asarray(np.minimum(batch, np.maximum(most - 1.0, 0.0)))


def _busy(batch: np.ndarray) -> np.ndarray:
    """Share of the time in which anything runs."""
    return np.asarray(-np.expm1(-batch))


def _when_busy(batch: np.ndarray) -> np.ndarray:
    """Sequences that run while any does: B / (1 - exp(-B)), 1 for the smallest load."""
    small = np.maximum(batch, 1e-12)
    return np.asarray(small / -np.expm1(-small))
