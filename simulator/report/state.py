"""The state of a machine over time, all its replicas together, from the samples of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from simulator.report.result import RunResult


@dataclass(frozen=True)
class State:
    """After each sample: requests waiting and running, summed over replicas, and the mean share of KV blocks used."""

    time_s: np.ndarray
    waiting: np.ndarray
    running: np.ndarray
    kv_used: np.ndarray


def state(run: RunResult) -> State:
    """The run's samples in order of time, each carried on until its replica's next one."""
    samples = run.records.samples
    order = np.argsort(samples.time_s, kind="stable")
    time = np.asarray(samples.time_s, dtype=float)[order]
    replica = np.asarray(samples.replica)[order]
    last = np.append(time[1:] > time[:-1], True) if len(time) else np.empty(0, dtype=bool)  # of those at one time

    def total(column: np.ndarray) -> np.ndarray:
        summed: np.ndarray = over_replicas(replica, np.asarray(column, dtype=float)[order])[last]
        return summed

    kv_used = total(samples.kv_used) / max(1, run.records.replicas)
    return State(time[last], total(samples.waiting), total(samples.running), kv_used)


def over_replicas(replica: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The sum over replicas after every sample, where a sample changes the value of its own replica only."""
    order = np.argsort(replica, kind="stable")  # each replica's samples together, still in order of time
    ordered, change = value[order], value.copy()
    again = np.flatnonzero(replica[order][1:] == replica[order][:-1]) + 1
    change[order[again]] -= ordered[again - 1]
    total: np.ndarray = np.cumsum(change)
    np.maximum(total, 0.0, out=total)  # rounding in the sum must not leave a negative count
    return total


def mean_over_bins(time_s: np.ndarray, value: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The time average of a step function in each bin; it is 0 before the first sample and holds after the last."""
    if len(time_s) == 0:
        return np.zeros(len(edges) - 1)
    area = np.concatenate([[0.0], np.cumsum(value[:-1] * np.diff(time_s))])
    last = np.clip(np.searchsorted(time_s, edges, side="right") - 1, 0, None)
    integral = np.where(edges < time_s[0], 0.0, area[last] + value[last] * (edges - time_s[last]))
    mean: np.ndarray = np.diff(integral) / np.diff(edges)
    return mean
