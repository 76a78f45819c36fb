"""Closed forms in the place of runs, for a fit to follow: smooth in a stack's numbers, and no queue explodes in them.

A fit follows log(surrogate / surrogate at the last run) + log(run / measured): the runs say where it stands, the
surrogates which way to go. Of a system near the edge of what it holds a run says little: a few percent of throughput
decide whether a queue forms. What such a row does say is that its system held the load with some room, and that is what
the fit then follows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from simulator.cost.steady import Replica
from simulator.errors import RamwiseError
from simulator.validation.load import Bench, Load
from simulator.validation.question import Question

HELD = 0.98
"""Share of what a system holds up to which a load is followed. Logs of MLPerf servers stand at 0.95 to 0.98 of the rate
of the same system offline."""

BATCHES = 64
"""Batches of which the steady state is priced, at even ratios; what lies between is interpolated."""


class Steady:
    """The steady states of one replica over its batches. Raise CapacityError when a request does not fit."""

    def __init__(self, load: Load) -> None:
        bench = Bench(load)
        self.holds, most = bench.held, float(bench.seats)
        """Requests per second of a full batch, whose requests are as long as those that one meets underway."""
        lengths = load.inputs.mean, load.outputs.mean
        replica = Replica(load.architecture, load.precision, load.machine, *lengths, most)
        self.batch = np.geomspace(min(1.0, most / 2), most, BATCHES)
        state = replica.at_batch(self.batch)
        self.rate = np.maximum.accumulate(state.rate)
        self.step_s, self.first_s = np.maximum.accumulate(state.step_s), np.maximum.accumulate(state.first_s)

    def at_rate(self, rate: float) -> float:
        """The batch that so many requests a second keep running."""
        return self._between(rate, self.rate, self.batch)

    def of(self, batch: float, values: np.ndarray) -> float:
        """The value at a batch."""
        return self._between(batch, self.batch, values)

    def _between(self, x: float, xs: np.ndarray, ys: np.ndarray) -> float:
        return float(np.exp(np.interp(np.log(x), np.log(xs), np.log(ys))))


class Surrogate:
    """The steady state of a load."""

    def __init__(self, load: Load, steady: Steady) -> None:
        self._load, self._steady = load, steady
        self.holds = steady.holds * load.replicas
        """Requests per second of the system in a full batch."""
        arrivals = load.arrivals
        if arrivals.rate is not None:  # at the edge where it is beyond it
            self._batch = steady.at_rate(min(arrivals.rate, HELD * self.holds) / load.replicas)
        else:
            self._batch = min((arrivals.concurrency or np.inf) / load.replicas, float(steady.batch[-1]))

    @property
    def load(self) -> float:
        """Share of what the system holds at which requests come; 0 where they come as they are answered."""
        return (self._load.arrivals.rate or 0.0) / self.holds

    def value(self, reading: str) -> float:
        """One of the figures of the load (load.py), in SI units; a percentile is the mean."""
        steady, outputs = self._steady, self._load.outputs.mean
        rate = steady.of(self._batch, steady.rate) * self._load.replicas
        tokens = {"output_rate": outputs, "request_rate": 1.0, "total_rate": outputs + self._load.inputs.mean}
        if reading in tokens:
            return rate * tokens[reading]
        first, step = steady.of(self._batch, steady.first_s), steady.of(self._batch, steady.step_s)
        seconds = {"ttft": first, "tpot": step, "e2el": first + (outputs - 1.0) * step}
        return seconds.get(reading.partition("_")[0], (self._load.arrivals.requests or 1.0) / rate)


def surrogates(loads: Iterable[Load]) -> dict[tuple[object, ...], Surrogate | None]:
    """Key of each load -> its surrogate, None where a request does not fit."""
    steady: dict[tuple[object, ...], Steady | None] = {}
    found: dict[tuple[object, ...], Surrogate | None] = {}
    for load in loads:
        machine = load.machine
        names = load.architecture.name, machine.profile.name, machine.stack.name, machine.parallelism
        same = *names, load.precision, load.inputs, load.outputs, load.limits, load.drafting
        if same not in steady:
            try:
                steady[same] = Steady(load)
            except RamwiseError:
                steady[same] = None
        states = steady[same]
        found[load.key] = Surrogate(load, states) if states else None
    return found


def correction(question: Question, found: Surrogate, simulated: float) -> float | None:
    """log(simulated / surrogate) where a run was made; None where the row has nothing to say beside its rate.

    Of a run at the edge the mean steps stand as they are; the times to the first token and the tails say nothing.
    """
    if _holds_its_rate(question):
        return None
    if found.load > HELD:
        return 0.0 if question.reading in ("tpot_mean", "tpot_p50") else None
    return float(np.log(simulated / found.value(question.reading)))


def followed(question: Question, found: Surrogate, corrected: float | None) -> float:
    """log(simulated / measured) as a fit follows it; 0 where the row says nothing."""
    if _holds_its_rate(question):
        rate = question.load.arrivals.rate if question.load else None
        least = question.measured / found.value(question.reading) if rate is None else found.load
        return min(0.0, float(np.log(HELD / least)))
    if corrected is None:
        return 0.0
    return corrected + float(np.log(found.value(question.reading) / question.measured))


def is_searched(question: Question) -> bool:
    """Whether its run is a search for the largest rate within an SLO: dear, and left out of fits. The row says what
    its system held."""
    return question.load is not None and question.load.arrivals.slo is not None


def _holds_its_rate(question: Question) -> bool:
    """Whether a row says no more than that requests were answered as they came."""
    at_rate = question.load is not None and question.load.arrivals.rate is not None
    return is_searched(question) or (at_rate and question.reading.endswith("_rate"))
