"""Requests on a system under load, run in the engine: what a benchmark of serving measures.

One run answers every metric of its configuration. A system is some equal replicas behind a router; a part of them with
its share of the requests stands for the whole, so that a run stays short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from os import cpu_count

import numpy as np
from numpy.random import Generator

from simulator.cost.machine import Machine
from simulator.cost.placement import capacity
from simulator.cost.steady import Replica
from simulator.cost.step import StepCost, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine import traffic
from simulator.engine.batching import batch_limits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.errors import CapacityError, RamwiseError
from simulator.executor import computed
from simulator.metrics.latency import e2el_s, tpot_s, ttft_s
from simulator.metrics.slo import Slo
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.quantity import Known
from simulator.validation.drafting import Drafting
from simulator.validation.repeats import Sent, hits
from simulator.validation.search import largest
from simulator.validation.steps import Step, step_seconds
from simulator.validation.wall_power import wall_watts

MOST = 12_000
"""Requests of a run, about: of a system with more, a part of the replicas is simulated."""

SEARCHED = 6_000
"""The same while the largest rate within an SLO is searched."""

LONGEST = 100_000
"""Requests of a run that has one replica, everything there at once; a longer benchmark is cut."""

ENOUGH = 20_000
"""The same at a rate, where a longer run says no more."""

FEWEST = 100
"""The least at a rate for some time, where fewer come in it: a few say nothing of rates."""

FILLINGS = 5
"""How many times over a run by the clock, everything there at once, fills the batch at least."""

WARM_UP = 2
"""One in so many requests of a run by the clock comes before rates are counted: near the edge a batch fills slowly."""

REFINEMENTS = 6
BATCHES = 32
"""Batches at which a steady state is looked at, at even ratios."""

SEED = 7
BLOCK = 32
SAMPLE = 20_000
PERCENTILES = (50, 90, 95, 99)
WORTH_A_POOL = 12

Figures = dict[str, float]
"""Name ("ttft_mean", "tpot_p99", "output_rate", ...) -> value in SI units."""


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths; `sigma` of the logarithm, 0: all alike. Longer ones are cut to `longest`; `mean` is that of
    the lengths so cut."""

    mean: float
    sigma: float = 0.0
    longest: int | None = None

    def draw(self, count: int, rng: Generator, room: int) -> np.ndarray:
        """[count] tokens, at most `room`."""
        longest = min(room, self.longest or room)
        if not self.sigma:
            return traffic.fixed(max(1, min(round(self.mean), longest)), count)
        shape = np.exp(self.sigma * rng.standard_normal(count))
        scale = self.mean / shape.mean()
        for _ in range(REFINEMENTS):  # what is cut must be made up for by the others
            lengths = np.clip(np.rint(scale * shape), 1, longest)
            scale *= min(self.mean, 0.9 * longest) / lengths.mean()
        return np.asarray(lengths, dtype=np.int64)

    @cached_property
    def underway(self) -> float:
        """Tokens that those underway have behind them on the mean, E[n^2] / (2 E[n]): long ones are met more often."""
        lengths = self.draw(SAMPLE, np.random.default_rng(SEED), self.longest or 10**9).astype(float)
        return float(np.mean(lengths**2) / np.mean(lengths) / 2.0)


Habits = tuple[tuple[str, Known], ...]
"""Numbers of a scheduler by name."""


@dataclass(frozen=True)
class Limits:
    """What the serving software allows, or, if `of_rank`, each rank of a data-parallel attention. `memory`: share of a
    chip's memory for weights and cache, or, if `of_free`, for the cache of what the weights leave. `whole`: a request
    waits until the cache has room for its last token. `habits` of its scheduler that are known beside
    (simulator/stack/parameters.py), in place of the stack's. `held`: steps for which a prompt is held back until all
    ranks of the attention have one."""

    max_num_seqs: int
    max_num_batched_tokens: int
    memory: float
    of_free: bool = False
    whole: bool = False
    habits: Habits = ()
    of_rank: bool = False
    held: float = 0.0


@dataclass(frozen=True)
class Arrivals:
    """When requests come: `rate` per second (Poisson), `concurrency` in flight, or else all at once; with an `slo`, at
    the largest rate that keeps it. A run has so many `requests`, or lasts `seconds` and has at least `least`."""

    rate: float | None = None
    concurrency: int | None = None
    slo: Slo | None = None
    requests: int | None = None
    seconds: float | None = None
    least: int = 1
    to_the_end: bool = False


@dataclass(frozen=True)
class Load:
    """Requests on equal replicas of a model, each on `machine`. `metered`: what they draw at the wall is asked too.
    `earlier`: runs before it that began their prompts alike, where a prefix cache keeps them."""

    architecture: Architecture
    precision: Precision
    machine: Machine
    replicas: int
    arrivals: Arrivals
    inputs: Lengths
    outputs: Lengths
    limits: Limits
    metered: bool = False
    earlier: tuple[Sent, ...] = ()
    drafting: Drafting | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for loads that are equal, machines and models by their names."""
        machine = self.machine
        names = self.architecture.name, machine.profile.name, machine.stack.name, machine.parallelism
        known = self.precision, self.replicas, self.arrivals, self.inputs, self.outputs, self.limits, self.metered
        return *names, *known, self.earlier, self.drafting


def figures(loads: Iterable[Load]) -> Iterator[tuple[tuple[object, ...], Figures | str]]:
    """(key, figures) of each distinct load as its run ends; in place of figures the line that says why it cannot run.
    The runs are spread over processes."""
    distinct = list({load.key: load for load in loads}.values())
    workers = (cpu_count() or 1) if len(distinct) >= WORTH_A_POOL else 1
    for load, found in computed(_figures, distinct, workers):
        if isinstance(found, Exception):
            raise found
        yield load.key, found


def _figures(load: Load) -> Figures | str:
    try:
        return Bench(load).figures()
    except RamwiseError as error:
        return str(error).splitlines()[0]


def requests_held(load: Load) -> float:
    """Requests per second that the system holds when more are always waiting; 0 where a replica does not fit."""
    try:
        return Bench(load).held * load.replicas
    except RamwiseError:
        return 0.0


def requests_within(load: Load, slo: Slo) -> float:
    """Requests per second of the system in the largest steady batch whose means keep an SLO; 0 where none does."""
    try:
        return Bench(load).within(slo) * load.replicas
    except RamwiseError:
        return 0.0


class Bench:
    """A load with its memory laid out and its steps priced. Raise CapacityError when a request does not fit."""

    def __init__(self, load: Load) -> None:
        self._load, limits = load, load.limits
        self._model = load.drafting.model(load.architecture) if load.drafting else load.architecture
        ranks = load.machine.parallelism.dp if limits.of_rank else 1
        self._most = ranks * limits.max_num_seqs
        tokens = max(ranks * limits.max_num_batched_tokens, self._most)
        sheet = capacity(
            self._model,
            load.precision,
            load.machine,
            memory_utilization=1.0 if limits.of_free else limits.memory,
            block_size=BLOCK,
            max_tokens=tokens,
            max_outputs=self._most,
        )
        blocks = int(sheet.kv_blocks * limits.memory) if limits.of_free else sheet.kv_blocks
        self._kv = KvLimits(blocks, sheet.block_size, sheet.kv_fixed_blocks)
        prompt, output = load.inputs.mean, load.outputs.mean
        # A request holds its last token's block from the start, or on the mean what it has answered by then.
        self._seats = blocks // self._kv.held(ceil(prompt + (output if limits.whole else load.outputs.underway)))
        if self._kv.longest < prompt + output or not self._seats:
            raise CapacityError(f"no request of {prompt + output:.0f} tokens fits the KV cache\n{sheet.text()}")
        self._batch = batch_limits(load.machine.stack, self._most, tokens, limits.whole, limits.held)

    @property
    def held(self) -> float:
        """Requests per second of a replica when more are always waiting: the fixed point of a full batch.

        rate = B / output / t,   B = `seats`
        t: a step of B sequences that decode and of the B / output prompts that replace those that end
        """
        load, batch = self._load, float(self.seats)
        prompt, output = load.inputs.mean, load.outputs.mean
        rounds = 1.0 + (output - 1.0) / load.drafting.mean_tokens if load.drafting else output
        step = Step(batch, prompt + load.outputs.underway, batch / rounds, prompt)
        (seconds,) = step_seconds(self._model, load.precision, load.machine, [step])
        return float(batch / rounds / seconds)

    @property
    def seats(self) -> int:
        """Sequences of a full batch:

        min(max_num_seqs, tokens of cache / tokens of a request, max_num_batched_tokens * output / (prompt + output))

        The last: each sequence brings a token to a step, and its share of the prompts that take the place of others.
        """
        prompt, output = self._load.inputs.mean, self._load.outputs.mean
        budget = int(self._batch.max_num_batched_tokens * output / (prompt + output))
        return max(1, min(self._seats, self._batch.max_num_seqs, budget))

    def within(self, slo: Slo) -> float:
        """Requests per second of a replica in the largest steady batch whose mean latencies keep the SLO."""
        load, most = self._load, float(self.seats)
        replica = Replica(load.architecture, load.precision, load.machine, load.inputs.mean, load.outputs.mean, most)
        state = replica.at_batch(np.geomspace(1.0, most, BATCHES))
        whole = state.first_s + (load.outputs.mean - 1.0) * state.step_s
        pairs = ((slo.ttft_s, state.first_s), (slo.tpot_s, state.step_s), (slo.e2el_s, whole))
        kept = np.all([seconds <= limit for limit, seconds in pairs if limit is not None], axis=0)
        return float(np.max(state.rate, where=kept, initial=0.0))

    def figures(self) -> Figures:
        """Every metric, from one run; at the largest rate that keeps an SLO, the rates alone."""
        arrivals = self._load.arrivals
        if arrivals.slo is None:
            records, share = self.run(arrivals, MOST)
            found = {name: rate / share for name, rate in _rates(records, arrivals).items()}
            return _latencies(records) | found | self._drawn(found, records, share)
        rate = self._largest_rate(arrivals.slo)
        prompt, output = self._load.inputs.mean, self._load.outputs.mean
        found = {"request_rate": rate, "output_rate": rate * output, "total_rate": rate * (prompt + output)}
        if not self._load.metered:
            return found
        return found | self._drawn(found, *self.run(replace(arrivals, rate=rate), SEARCHED))

    def _drawn(self, rates: Figures, records: RunRecords, share: float) -> Figures:
        """Watts at the wall, and joules for an output token at the rate of the same run, where they are asked."""
        load = self._load
        if not load.metered:
            return {}
        watts = wall_watts(records, self._cost, load.machine, round(load.replicas * share), share)
        joules = {"wall_joules": watts / rates["output_rate"]} if rates else {}
        return {"wall_watts": watts} | joules

    def _largest_rate(self, slo: Slo) -> float:
        """Requests per second of the system, searched from where the means of a steady batch keep the limits.

        Raise CapacityError when no rate is found that keeps them.
        """
        load, highest = self._load, 1.1 * self.held * self._load.replicas

        def excess(rate: float) -> float:
            return slo.excess(self.run(replace(load.arrivals, rate=rate), SEARCHED)[0].requests)

        start = min(max(self.within(slo) * load.replicas, highest / 10.0), highest / 1.15)
        found = largest(excess, start, highest)
        if found is None:
            raise CapacityError("no rate keeps the limits of the latency")
        return found

    def run(self, arrivals: Arrivals, most: int) -> tuple[RunRecords, float]:
        """The records of a run, and the share of the system's replicas that took part."""
        load = self._load
        count = arrivals.requests
        if count is None:
            rate = arrivals.rate or self.held * load.replicas
            full = 0 if arrivals.to_the_end else FILLINGS * load.replicas * self.seats
            count = max(arrivals.least, FEWEST if arrivals.rate else full, ceil(rate * (arrivals.seconds or 0.0)))
        replicas = max(1, min(load.replicas, load.replicas * most // count))
        share = replicas / load.replicas
        count = max(1, min(round(count * share), ENOUGH if arrivals.rate else LONGEST))
        random = traffic.streams(SEED)
        room = min(self._kv.longest, load.architecture.max_context)
        outputs = load.outputs.draw(count, random.outputs, room - 1)
        inputs = np.minimum(load.inputs.draw(count, random.inputs, room), room - outputs)
        steps = outputs
        if load.drafting:  # the engine steps in rounds
            steps = 1 + np.ceil((outputs - 1) / load.drafting.tokens_a_round(count, random.outputs)).astype(np.int64)
        if arrivals.rate is not None:
            # A router deals requests out evenly: each replica sees them come more regularly than at random.
            all_times = traffic.poisson(arrivals.rate, random.arrivals, requests=ceil(count / share))
            times = all_times[np.arange(len(all_times)) % load.replicas < replicas][:count]
            if arrivals.requests:  # few come at another rate by chance: 500 at one that is 10 % off, with this seed
                times *= count / (arrivals.rate * share) / times[-1]
            workload = traffic.open_loop(times, inputs, steps)
        elif arrivals.concurrency is not None:
            workload = traffic.closed_loop(max(1, round(arrivals.concurrency * share)), inputs, steps)
        else:
            workload = traffic.offline(inputs, steps)
        if load.earlier:
            sent = Sent(count, round(load.inputs.mean), round(load.outputs.mean))
            cached = hits(load.earlier, sent, self._kv.blocks * self._kv.block_size, self._kv.block_size)
            workload = replace(workload, cached_tokens=np.minimum(cached, inputs - 1))
        records = simulate(workload, self._steps, self._batch, self._kv, replicas=replicas)
        return replace(records, requests=replace(records.requests, output_tokens=outputs)), share

    @cached_property
    def _cost(self) -> StepCost:
        load, batch = self._load, self._batch
        return step_cost(self._model, load.precision, load.machine, batch.max_num_batched_tokens, batch.max_num_seqs)

    @cached_property
    def _steps(self) -> StepTable:
        return StepTable(self._cost, self._load.machine)


def _latencies(records: RunRecords) -> Figures:
    requests = records.requests
    found: Figures = {}
    for name, seconds in (("ttft", ttft_s(requests)), ("tpot", tpot_s(requests)), ("e2el", e2el_s(requests))):
        known = seconds[np.isfinite(seconds)]
        if len(known):
            found[f"{name}_mean"] = float(np.mean(known))
            ranks = np.percentile(known, PERCENTILES)
            found |= {f"{name}_p{rank}": float(value) for rank, value in zip(PERCENTILES, ranks, strict=True)}
    found["makespan"] = float(np.max(requests.finish_s) - np.min(requests.arrival_s))
    return found


def _rates(records: RunRecords, arrivals: Arrivals) -> Figures:
    """Of the whole of a run with so many requests; of a run by the clock, which may well last longer, what is answered
    while requests come, once the batch has filled (nothing is known of a run in which that is nothing); or between the
    first and the last answers of those there at once."""
    requests = records.requests
    tokens = requests.output_tokens, requests.input_tokens + requests.output_tokens, np.ones(len(requests))
    order = np.argsort(requests.finish_s)
    ends = requests.finish_s[order]
    whole = arrivals.seconds is None or arrivals.to_the_end
    if arrivals.rate and not whole:
        start, stop = float(requests.arrival_s[len(order) // WARM_UP]), float(requests.arrival_s[-1])
        inside = order[np.searchsorted(ends, start, "right") : np.searchsorted(ends, stop, "right")]
    else:
        # Of answers that start together the first end together: those of the first batch and the last are left out.
        cut = 0 if whole else len(order) // FILLINGS
        start, stop = float(ends[cut - 1] if cut else np.min(requests.arrival_s)), float(ends[len(order) - cut - 1])
        inside = order[cut : len(order) - cut]
    if not len(inside):
        return {}
    names = ("output_rate", "total_rate", "request_rate")
    return {name: float(np.sum(each[inside])) / (stop - start) for name, each in zip(names, tokens, strict=True)}
