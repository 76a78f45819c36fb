"""What a run under load draws at the wall: the chips, their share of the node's base power, and nothing beyond."""

from __future__ import annotations

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.step import StepCost
from simulator.engine.records import RunRecords
from simulator.metrics.usage import usage, usage_summary


def wall_watts(records: RunRecords, cost: StepCost, machine: Machine, replicas: int, share: float) -> float:
    """Mean watts of the system, of whose replicas `share` took part in the run, from the first arrival to the last
    answer. Cooling (PUE) is not at a server's plug."""
    requests = records.requests
    span = float(np.max(requests.finish_s) - np.min(requests.arrival_s))
    drawn = usage_summary(usage(records, cost, machine), machine, replicas, span, int(np.sum(requests.output_tokens)))
    joules = drawn["energy_j"] - drawn["energy_by_component_j"].get("cooling", 0.0)
    return float(joules / span / share)
