"""Cases with pools of prefill and decode in closed form: figures by the keys of a run's summary."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.cost.steady import Replica, SteadyState
from simulator.cost.steady_pools import Pools, PoolState, PrefillReplica
from simulator.metrics.money import money_summary
from simulator.serve import Case

HOUR_S = 3600.0


def pools_of(case: Case, prompt: np.ndarray, output: np.ndarray) -> Pools:
    """The pools of a case, for requests of such lengths (tokens, arrays or numbers)."""
    prefill, link = case.prefill, case.link
    assert prefill is not None
    assert link is not None
    room = case.requests_held(prompt, output)
    most = np.maximum(1.0, np.minimum(float(case.limits.max_num_seqs), room))
    limits = prefill.limits
    seqs = np.minimum(float(limits.max_num_seqs), prefill.sheet.kv_tokens / prompt)
    tokens = float(limits.max_num_batched_tokens)
    return Pools(
        PrefillReplica(case.architecture, prefill.precision, prefill.machine, prompt, tokens, seqs),
        Replica(case.architecture, case.precision, case.machine, prompt, output, most, prefilled=True),
        prefill.choice.replicas,
        case.choice.replicas,
        link.send,
        link.receive,
        link.latency,
        link.fixed_bytes + link.token_bytes * prompt,
        link.layers,
    )


def drawn(case: Case, state: SteadyState, at: int) -> float:
    """W of all replicas of one pool, their share of their nodes and cooling."""
    chip, node = case.machine.profile.chip, case.machine.profile.node
    chips = case.machine.parallelism.chips * case.choice.replicas
    each = float(chip.power.idle) + float(state.joules[at]) + float(node.power.base) / node.chips
    return chips * each * float(node.power.pue)


def pool_figures(case: Case, pools: Pools, state: PoolState, at: int, output: float) -> dict[str, Any]:
    """The figures of one point: of all replicas of both pools, and per output token."""
    parts = list(zip(case.pools, (state.prefill, state.decode), strict=True))
    rate, steady = float(state.rate[at]), not bool(state.saturated[at])
    tokens = rate * output
    powers = [drawn(pool, own, at) for pool, own in parts]
    chips = [pool.machine.parallelism.chips * pool.choice.replicas for pool in case.pools]
    bills = [
        money_summary(
            pool.hourly,
            pool.terms,
            seconds=HOUR_S,
            nodes=count / pool.machine.profile.node.chips,
            joules=power * HOUR_S,
            output_tokens=max(1, round(tokens * HOUR_S)),
        )["cost_per_mtok_usd"]
        for pool, count, power in zip(case.pools, chips, powers, strict=True)
    ]
    tpot = float(state.token_s(output)[at])
    first = float(state.first_s[at])
    busy = [float(own.busy[at]) * count for (_, own), count in zip(parts, chips, strict=True)]
    return {
        "hardware": " > ".join(dict.fromkeys(pool.machine.profile.name for pool in case.pools)),
        "family": case.machine.profile.family,
        "stack": " > ".join(dict.fromkeys(pool.machine.stack.name for pool in case.pools)),
        "chips": sum(chips),
        "layout": " > ".join(str(pool.machine.parallelism) for pool in case.pools),
        "saturated": not steady,
        "sustainable_rate": None if steady else rate,
        "request_throughput": rate,
        "output_throughput": tokens,
        "output_throughput_per_chip": tokens / sum(chips),
        "ttft_mean_ms": first * 1e3 if steady else None,
        "tpot_mean_ms": tpot * 1e3,
        "e2el_mean_ms": (first + (output - 1) * tpot) * 1e3 if steady else None,
        "running_mean": float(state.decode.batch[at]) * pools.decodes,
        "utilisation": sum(busy) / sum(chips),
        "average_power_w": sum(powers),
        "energy_per_output_token_j": sum(powers) / tokens if tokens else None,
        "cost_per_mtok_usd": None if any(bill is None for bill in bills) else sum(bills),
        "bound_by": str(state.binding[at if len(state.binding) > 1 else 0]),
        "mbu": None,
    }
