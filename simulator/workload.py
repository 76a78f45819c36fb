"""Turns the traffic of a scenario into a workload: arrays of arrivals and lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.random import Generator

from simulator.engine import traffic as arrivals
from simulator.engine.traces import from_trace
from simulator.engine.traffic import Workload, streams
from simulator.errors import ScenarioError, Where, unknown
from simulator.hardware.catalogue import packaged_folder
from simulator.scenario import Length, LogNormal, Traffic, Uniform

TRACE_SUFFIXES = (".csv", ".jsonl")


def workload(traffic: Traffic, seed: int, folder: Path, where: Where | None = None) -> Workload:
    """The requests. A trace is looked up beside the scenario (`folder`), then among the packaged ones.

    Arrivals, input and output lengths draw from streams of their own, so that a change of one leaves the others alone.
    """
    random = streams(seed)
    duration = None if traffic.duration is None else float(traffic.duration)
    if traffic.trace is not None:
        return from_trace(
            find_trace(traffic.trace, folder, where),
            speed=float(traffic.speed),
            requests=traffic.requests,
            duration_s=duration,
            jitter_s=None if traffic.jitter is None else float(traffic.jitter),
            rng=random.arrivals,
        )
    if traffic.request_rate is not None:
        times = _arrivals(traffic, float(traffic.request_rate), random.arrivals, duration)
        return arrivals.open_loop(times, *_lengths(traffic, len(times), random.inputs, random.outputs))
    count = traffic.requests
    if count is None:
        raise ScenarioError("traffic needs an end; write requests: 1000")
    lengths = _lengths(traffic, count, random.inputs, random.outputs)
    if traffic.concurrency is not None:
        return arrivals.closed_loop(traffic.concurrency, *lengths, float(traffic.think))
    return arrivals.offline(*lengths)


def find_trace(name: str, folder: Path, where: Where | None = None) -> Path:
    """The file of a trace: a path, relative to `folder` or to here, or the name of a packaged trace."""
    if name.endswith(TRACE_SUFFIXES):
        for candidate in (folder / name, Path(name)):
            if candidate.is_file():
                return candidate
    packaged = {
        path.stem: path
        for path in sorted((packaged_folder("scenarios") / "traces").iterdir())
        if path.suffix in TRACE_SUFFIXES
    }
    beside = {path.stem: path for path in sorted(folder.glob("*")) if path.suffix in TRACE_SUFFIXES}
    known = {**packaged, **beside}
    if name not in known:
        raise ScenarioError(unknown("trace", name, known, where))
    return known[name]


def _arrivals(traffic: Traffic, rate: float, rng: Generator, duration: float | None) -> np.ndarray:
    requests = traffic.requests
    if traffic.process == "fixed":
        return arrivals.fixed_rate(rate, requests=requests, duration_s=duration)
    if traffic.process == "gamma" and traffic.burstiness is not None:
        return arrivals.gamma(rate, float(traffic.burstiness), rng, requests=requests, duration_s=duration)
    return arrivals.poisson(rate, rng, requests=requests, duration_s=duration)


def _lengths(traffic: Traffic, count: int, inputs: Generator, outputs: Generator) -> tuple[np.ndarray, np.ndarray]:
    if traffic.isl is None or traffic.osl is None:
        raise ScenarioError("traffic needs the lengths of requests; write isl: 512 and osl: 128")
    return _length(traffic.isl, count, inputs), _length(traffic.osl, count, outputs)


def _length(length: Length, count: int, rng: Generator) -> np.ndarray:
    if isinstance(length, LogNormal):
        median, sigma = length.lognormal
        return arrivals.lognormal(float(median), float(sigma), count, rng, maximum=length.max)
    if isinstance(length, Uniform):
        return arrivals.uniform(*length.uniform, count, rng)
    return arrivals.fixed(length, count)
