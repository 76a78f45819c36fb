"""What the benchmarks run: real cost tables, and everything between a trace file and the figures of its summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.cost.machine import Machine
from simulator.cost.step import StepCost, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import Workload
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.latency import latency
from simulator.metrics.steady import steady_state
from simulator.metrics.throughput import throughput
from simulator.metrics.usage import usage
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

BATCH = BatchLimits(max_num_seqs=256, max_num_batched_tokens=8192)
KV = KvLimits(blocks=100_000, block_size=16)
"""1.6 million tokens: no run here is about a full cache."""


@dataclass(frozen=True)
class Node:
    """A model on a machine, tabulated."""

    cost: StepCost
    machine: Machine
    step: StepTable


def h100(model: str, tp: int) -> Node:
    """A bf16 model on `tp` chips of an 8 x H100 node, with the node's default stack."""
    profile = Catalogue().load("h100-sxm-8")
    machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism(tp=tp))
    cost = step_cost(load_model(model), Precision(), machine, BATCH.max_num_batched_tokens, BATCH.max_num_seqs)
    return Node(cost, machine, StepTable(cost, machine))


def run(workload: Workload, node: Node, replicas: int = 1) -> tuple[RunRecords, dict[str, Any]]:
    """Simulate and summarise."""
    records = simulate(workload, node.step, BATCH, KV, replicas=replicas)
    figures: dict[str, Any] = {**latency(records.requests, records.gaps), **throughput(records.requests)}
    steady_state(records.requests)
    usage(records, node.cost, node.machine)
    return records, figures
