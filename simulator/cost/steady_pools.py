"""Prefill and decode in pools of their own, in steady state, in closed form.

A prefill replica takes n prompts of L tokens in a step of t(n), at most T / L in T tokens (a longer prompt takes L / T
steps). A load of r requests a second keeps it busy for r * t(1) of the time; beyond all of it, the prompts that come in
a step make the next one: n = r * t(n). A prompt waits for those before it as in M/D/1, load * t(1) / (2 (1 - load)),
at the load r * t(N) / N. A cache of S bytes moves in latency + S / min(send, receive). The pools hold

    rate = min(P * N / t(N),  D * B / ((O - 1) t_d(B)),  P * send / S,  D * receive / S)

of P and D replicas; N and B are the largest batches. The first token is there when the cache is: half a step in
progress of the decode pool, the wait for other prompts, the prompt's own step and the move. Each token after it takes a
step of the decode pool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.cost.amount import Amount
from simulator.cost.machine import Machine
from simulator.cost.mean_step import joules_of, mean_step, seconds_of
from simulator.cost.steady import Replica, SteadyState
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Array

ROUNDS = 30
"""Halvings of what holds a batch or a rate: to 2e-8 of itself."""

MOST_LOAD = 0.98
"""Beyond it a wait is that at this load: there is none that is steady at all of it."""


@dataclass(frozen=True)
class PrefillReplica:
    """A model that computes prompts of `prompt` tokens (arrays), `tokens` of them in a step and `seqs` prompts."""

    architecture: Architecture
    precision: Precision
    machine: Machine
    prompt: Array
    tokens: Array
    seqs: Array = np.inf

    def at_rate(self, rate: Array) -> SteadyState:
        """With `rate` prompts a second on average, arriving at random; inf: as many as it can. batch: prompts in a
        step; step_s: of it; first_s: until a prompt is done."""
        wanted, most, least = (
            np.asarray(each, dtype=float) for each in np.broadcast_arrays(np.atleast_1d(rate), self.most, self.least)
        )
        saturated = wanted >= most / self._seconds(most)
        alone = wanted * self._seconds(least) <= least
        low, high = least.copy(), most.copy()
        for _ in range(0 if np.all(saturated | alone) else ROUNDS):
            middle = np.sqrt(low * high)
            enough = middle / self._seconds(middle) >= wanted
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        batch = np.where(saturated, most, np.where(alone, least, high))
        step = self._price(batch)
        seconds = self._seconds(batch)
        served = np.where(saturated, batch / seconds, wanted)
        busy = np.where(alone & ~saturated, wanted * seconds / batch, 1.0)
        load = np.minimum(served * self._seconds(most) / most, MOST_LOAD)
        first = self.alone_s * (1.0 + load / (2.0 * (1.0 - load)))
        working = self.machine.parallelism.at_work(batch * self.prompt)
        joules = joules_of(step, seconds, self.machine) / seconds * busy * working
        return SteadyState(
            served, batch, seconds, seconds, first, busy, joules, saturated, step, step.of_chips(working)
        )

    @property
    def most(self) -> np.ndarray:
        """Prompts of the fullest step."""
        most: np.ndarray = np.minimum(np.asarray(self.tokens, dtype=float) / np.asarray(self.prompt), self.seqs)
        return most

    @property
    def least(self) -> np.ndarray:
        """One prompt, or the part of one that a step takes."""
        least: np.ndarray = np.minimum(1.0, self.most)
        return least

    @property
    def alone_s(self) -> np.ndarray:
        """Of a prompt that finds nobody."""
        own: np.ndarray = self._seconds(self.least) / self.least
        return own

    def _price(self, prompts: np.ndarray) -> Amount:
        return mean_step(self.architecture, self.precision, self.machine, 0.0, 0.0, prompts, self.prompt)

    def _seconds(self, prompts: np.ndarray) -> np.ndarray:
        return seconds_of(self._price(prompts), self.architecture, self.machine, 1.0)


@dataclass(frozen=True)
class Pools:
    """So many prefill and decode replicas, and what joins one of each: B/s, s, bytes of a request's cache (array)."""

    prefill: PrefillReplica
    decode: Replica
    prefills: int
    decodes: int
    send: float
    receive: float
    latency: float
    size: Array
    layers: int = 0

    @property
    def move_s(self) -> Array:
        """From the end of a prompt until its cache is there, where it shares the link with no other. Of `layers` all
        but the last move while the prompt is computed, as far as the link keeps up."""
        whole: np.ndarray = np.asarray(self.size) / min(self.send, self.receive)
        if not self.layers:
            return self.latency + whole
        last = whole / self.layers
        late = np.maximum(whole - last + self.latency - self.prefill.alone_s, 0.0)
        moved: np.ndarray = self.latency + last + late
        return moved

    def holds(self) -> dict[str, np.ndarray]:
        """Requests a second that each part holds: prefill, decode, link."""
        ends = min(self.prefills * self.send, self.decodes * self.receive)
        return {
            "prefill": self.prefills * self.prefill.at_rate(np.inf).rate,
            "decode": self.decodes * self.decode.at_batch(np.inf).rate,
            "link": np.atleast_1d(ends / np.maximum(self.size, 1e-300)),
        }

    def at_rate(self, rate: Array) -> PoolState:
        """With `rate` requests a second on average; inf: as many as the pools and the link hold."""
        parts = self.holds()
        held = np.minimum.reduce(np.broadcast_arrays(*parts.values()))
        wanted, held = np.broadcast_arrays(np.atleast_1d(np.asarray(rate, dtype=float)), held)
        served = np.minimum(wanted, held)
        first = self.prefill.at_rate(served / self.prefills)
        then = self.decode.at_rate(served / self.decodes)
        return PoolState(served, first, then, first.first_s + self.move_s + then.first_s, wanted >= held, parts)

    def at_users(self, users: Array) -> PoolState:
        """With so many clients, each of whom sends a request when the last is answered: users = rate * time inside."""
        users = np.atleast_1d(np.asarray(users, dtype=float))
        most = self.at_rate(np.inf)
        low, high = np.zeros(users.shape), np.broadcast_to(most.rate, users.shape).copy()
        for _ in range(ROUNDS):
            middle = (low + high) / 2
            more = middle * self.at_rate(middle).inside_s(self.decode.output) <= users
            low, high = np.where(more, middle, low), np.where(more, high, middle)
        return self.at_rate(low)


@dataclass(frozen=True)
class PoolState:
    """Of all replicas: rate in requests a second; of one replica of each pool: prefill, decode; first_s: time to the
    first token, which waits for a step of the decode pool; saturated: less is served than comes; holds: what each part
    would hold."""

    rate: np.ndarray
    prefill: SteadyState
    decode: SteadyState
    first_s: np.ndarray
    saturated: np.ndarray
    holds: dict[str, np.ndarray]

    def token_s(self, output: Array) -> np.ndarray:
        """Mean time of a token after the first; the second waits for a step to begin."""
        return np.asarray(self.decode.token_s + self.decode.first_s / np.maximum(np.asarray(output) - 1.0, 1.0))

    def inside_s(self, output: Array) -> np.ndarray:
        """From a request's arrival to its last token."""
        return np.asarray(self.first_s + (np.asarray(output) - 1.0) * self.token_s(output))

    @property
    def binding(self) -> np.ndarray:
        """The part that holds least."""
        names = np.array(list(self.holds))
        least: np.ndarray = names[np.argmin(np.broadcast_arrays(*self.holds.values()), axis=0)]
        return least
