"""Deployments whose prompts and answers have pools of their own, run in the engine under clients in a closed loop.

The public benchmark sends ten requests for each client, the first of all clients at once, with lengths drawn evenly
between 80 and 100 % of the stated ones. Clients: the batch of a decode worker times the decode workers. A cache is
announced and fetched in `handover` seconds beside its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import ceil, floor, log2

import numpy as np

from simulator.cost.piece import Line, Piece
from simulator.cost.placement import capacity
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.engine import traffic
from simulator.engine.batching import batch_limits
from simulator.engine.disaggregated import Pool, simulate_pools
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import LinkLimits
from simulator.engine.step_time import StepTime
from simulator.errors import CapacityError, RamwiseError
from simulator.metrics.latency import tpot_s, ttft_s
from simulator.validation.closed_loop import BLOCK, RESERVED
from simulator.validation.deployment import ROUNDS, SHORTEST, PoolLoop, Side
from simulator.validation.mixed import with_top_k
from simulator.validation.rows import Reason

SEED = 7

FEWEST = 100
"""Requests of a run of very few clients."""


def simulate(loops: Iterable[PoolLoop]) -> dict[str, float | Reason]:
    """Row id -> seconds, or why the costs refuse it. Rows of one configuration share a run."""
    asked = list(loops)
    most: dict[tuple[object, ...], int] = {}
    for loop in asked:
        most[loop.deployment] = max(loop.clients, most.get(loop.deployment, 0))
    found: dict[str, float | Reason] = {}
    runs: dict[tuple[object, ...], dict[str, float] | Reason] = {}
    for loop in asked:
        if loop.configuration not in runs:
            try:
                runs[loop.configuration] = _figures(loop, most[loop.deployment])
            except RamwiseError as error:
                runs[loop.configuration] = Reason(str(error).splitlines()[0])
        run = runs[loop.configuration]
        found[loop.row.id] = run if isinstance(run, Reason) else run[loop.row.metric]
    return found


def _figures(loop: PoolLoop, most: int) -> dict[str, float]:
    """Means over the requests of a run; the first token is `held` back for some steps, as in other loops. `most`: the
    clients of the deployment's fullest run."""
    random = traffic.streams(SEED)
    count = max(FEWEST, ROUNDS * loop.clients)
    inputs, outputs = (
        traffic.uniform(max(1, ceil(SHORTEST * length)), length, count, rng)
        for length, rng in ((loop.input_tokens, random.inputs), (loop.output_tokens, random.outputs))
    )
    workload = traffic.closed_loop(loop.clients, inputs, outputs)
    decode = _pool(loop, loop.decode, loop.output_tokens, _seats(loop, most))
    run = simulate_pools(workload, _prefill(loop), decode, _link(loop))
    tpot = float(np.nanmean(tpot_s(run.requests)))
    return {"tpot_ms": tpot, "ttft_ms": float(np.mean(ttft_s(run.requests))) + loop.habits.held * tpot}


def _seats(loop: PoolLoop, most: int) -> int:
    """Sequences that a worker decodes at once.

    One recipe serves all runs of a deployment. Where engines decode from captured graphs alone, it allows the largest
    power of two within its fullest run, whose clients are some more: they stand in line before the decoding workers.
    """
    ranks = loop.decode.machine.parallelism.dp
    each = most / (loop.decode.workers * ranks)
    return ranks * 2 ** floor(log2(max(1.0, each))) if loop.habits.powers else loop.clients


def _pool(loop: PoolLoop, side: Side, answer: int, seats: int) -> Pool:
    machine, tokens = side.machine, int(loop.habits.chunk) * side.machine.parallelism.dp
    seqs = min(max(1, seats), tokens)
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


def _prefill(loop: PoolLoop) -> Pool:
    """Each data-parallel rank as a replica of its own: it takes whole prompts. While n of the ranks of a worker are
    busy, the experts that they share see n prompts."""
    side = loop.prefill
    ranks = side.machine.parallelism.dp
    pool = _pool(loop, side, 0, max(loop.clients, ranks))
    if ranks == 1:
        return pool
    tokens, seqs = (each // ranks for each in (pool.batch.max_num_batched_tokens, pool.batch.max_num_seqs))

    def beside(busy: int) -> StepTime:
        model = with_top_k(loop.architecture, lambda count: max(1, round(count * busy / ranks)))
        cost = step_cost(model, loop.precision, side.machine, tokens * ranks, seqs * ranks)
        return OneRank(StepTable(cost, side.machine), ranks)

    times = [beside(busy) for busy in range(1, ranks + 1)]
    limits = replace(pool.batch, max_num_batched_tokens=tokens, max_num_seqs=seqs)
    kv = replace(pool.kv, blocks=pool.kv.blocks // ranks)
    return Pool(times[0], limits, kv, side.workers * ranks, [(time,) for time in times[1:]])


class OneRank:
    """Step times of one of `ranks` data-parallel ranks of a replica, whose own work is not cut."""

    def __init__(self, whole: StepTable, ranks: int) -> None:
        self.windows = whole.windows
        self._whole, self._ranks = whole, ranks

    def pieces(
        self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None, steps: int, swapped: int = 0
    ) -> tuple[Piece, ...]:
        """Those of a replica whose ranks all do the same."""
        ranks = self._ranks

        def of_all(lines: list[Line]) -> list[Line]:
            return [(total * ranks, growth * ranks) for total, growth in lines]

        several = None if pairs is None else of_all(pairs)
        return self._whole.pieces(tokens * ranks, outputs * ranks, of_all(keys), several, steps, swapped)


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
    return LinkLimits(send, receive, max(first, then) + loop.habits.handover, *cache)
