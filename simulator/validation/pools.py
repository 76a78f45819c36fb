"""Deployments whose prompts and answers have pools of their own, run in the engine under clients in a closed loop.

The public benchmark sends ten requests for each client, the first of all clients at once, with lengths drawn evenly
between 80 and 100 % of the stated ones. Clients: the batch of a decode worker times the decode workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

import numpy as np

from simulator.cost.placement import capacity
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.engine import traffic
from simulator.engine.batching import batch_limits
from simulator.engine.disaggregated import Pool, simulate_pools
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import LinkLimits
from simulator.errors import CapacityError, RamwiseError
from simulator.metrics.latency import tpot_s, ttft_s
from simulator.validation.closed_loop import BLOCK, RESERVED
from simulator.validation.deployment import ROUNDS, SHORTEST, PoolLoop, Side
from simulator.validation.rows import Reason

SEED = 7

FEWEST = 100
"""Requests of a run of very few clients."""


def simulate(loops: Iterable[PoolLoop]) -> dict[str, float | Reason]:
    """Row id -> seconds, or why the costs refuse it. Rows of one configuration share a run."""
    found: dict[str, float | Reason] = {}
    runs: dict[tuple[object, ...], dict[str, float] | Reason] = {}
    for loop in loops:
        if loop.configuration not in runs:
            try:
                runs[loop.configuration] = _figures(loop)
            except RamwiseError as error:
                runs[loop.configuration] = Reason(str(error).splitlines()[0])
        run = runs[loop.configuration]
        found[loop.row.id] = run if isinstance(run, Reason) else run[loop.row.metric]
    return found


def _figures(loop: PoolLoop) -> dict[str, float]:
    """Means over the requests of a run; the first token is `held` back for some steps, as in other loops."""
    random = traffic.streams(SEED)
    count = max(FEWEST, ROUNDS * loop.clients)
    inputs, outputs = (
        traffic.uniform(max(1, ceil(SHORTEST * length)), length, count, rng)
        for length, rng in ((loop.input_tokens, random.inputs), (loop.output_tokens, random.outputs))
    )
    workload = traffic.closed_loop(loop.clients, inputs, outputs)
    prefill, decode = _pool(loop, loop.prefill, 0), _pool(loop, loop.decode, loop.output_tokens)
    run = simulate_pools(workload, prefill, decode, _link(loop))
    tpot = float(np.nanmean(tpot_s(run.requests)))
    return {"tpot_ms": tpot, "ttft_ms": float(np.mean(ttft_s(run.requests))) + loop.habits.held * tpot}


def _pool(loop: PoolLoop, side: Side, answer: int) -> Pool:
    machine, tokens = side.machine, int(loop.habits.chunk) * side.machine.parallelism.dp
    seqs = min(max(1, loop.clients), tokens)
    limits = batch_limits(machine.stack, seqs, tokens)
    sheet = capacity(
        loop.architecture,
        loop.precision,
        machine,
        memory_utilization=loop.habits.memory - RESERVED / float(machine.memory.capacity),
        block_size=BLOCK,
        max_tokens=tokens,
        max_outputs=seqs,
    )
    kv = KvLimits(int(loop.habits.free * sheet.kv_blocks), sheet.block_size, sheet.kv_fixed_blocks)
    if kv.longest < loop.input_tokens + answer:
        raise CapacityError(f"a request does not fit the KV cache of {kv.longest:,} tokens")
    cost = step_cost(loop.architecture, loop.precision, machine, tokens, seqs)
    return Pool(StepTable(cost, machine), limits, kv, side.workers)


def _link(loop: PoolLoop) -> LinkLimits:
    """Over the fabric where all workers are in one machine, else over the network between machines."""
    model, ends = loop.architecture, []
    whole = sum(side.workers * side.machine.parallelism.chips for side in (loop.prefill, loop.decode))
    for side in (loop.prefill, loop.decode):
        node, software = side.machine.profile.node, side.machine.stack.collectives
        if whole <= node.chips or node.scale_out is None:
            rate, latency = node.fabric.bandwidth_in(2) * float(software.bandwidth), float(node.fabric.latency or 0.0)
        else:
            rate = node.scale_out.bandwidth_of(node.chips) * float(software.scale_out_bandwidth)
            latency = float(node.scale_out.latency)
        ends.append((rate * side.machine.parallelism.chips, latency))
    (send, first), (receive, then) = ends
    cache = model.kv_bytes_per_token(loop.precision), model.kv_bytes_per_sequence(loop.precision)
    return LinkLimits(send, receive, max(first, then), *cache)
