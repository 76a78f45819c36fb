"""Pools that prefill and decode: their figures side by side and together, and what moving the caches took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simulator.engine.link import LinkLimits
from simulator.engine.records import RequestRecords, TransferRecords
from simulator.metrics.messages import messages_together
from simulator.provenance import weakest

ROLES = ("prefill", "decode")

EACH = (
    "hardware",
    "stack",
    "label",
    "replicas",
    "chips",
    "nodes",
    "layout",
    "utilisation",
    "mfu",
    "mbu",
    "average_power_w",
    "energy_j",
    "cost_usd",
    "bound_by",
    "roofline",
    "kv_tokens",
)
"""Figures that a summary shows of each pool apart."""


def together(pools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys of a summary that each pool has, of both. What has no sense of both (mfu, mbu, roofline) is None there,
    and all stands under "pools". utilisation: mean over chips; bound_by: shares of the chips' busy time."""
    chips = [pool["chips"] for pool in pools]
    costs = [pool["cost_usd"] for pool in pools]
    priced = all(cost is not None for cost in costs)
    busy = [pool["chips"] * pool["utilisation"] for pool in pools]
    return {
        "hardware": " > ".join(dict.fromkeys(str(pool["hardware"]) for pool in pools)),
        "family": pools[-1]["family"],
        "stack": " > ".join(dict.fromkeys(str(pool["stack"]) for pool in pools)),
        "labels": _sum([pool["labels"] for pool in pools]),
        "label": weakest(tuple(pool["label"] for pool in pools)),
        "replicas": pools[-1]["replicas"],
        "chips": sum(chips),
        "nodes": sum(pool["nodes"] for pool in pools),
        "layout": f"{pools[0]['layout']} x{pools[0]['replicas']} > {pools[-1]['layout']}",
        "mfu": None,
        "mbu": None,
        "utilisation": sum(busy) / sum(chips),
        **{key: sum(pool[key] for pool in pools) for key in ("average_power_w", "energy_j")},
        "energy_per_output_token_j": _total(pools, "energy_per_output_token_j"),
        "energy_by_component_j": _sum([pool["energy_by_component_j"] for pool in pools]),
        "energy_by_phase_j": _sum([pool["energy_by_phase_j"] for pool in pools]),
        "moved_per_output_token_b": {
            tier: _sum([pool["moved_per_output_token_b"].get(tier, {}) for pool in pools])
            for tier in dict.fromkeys(tier for pool in pools for tier in pool["moved_per_output_token_b"])
        },
        "messages": messages_together([pool["messages"] or {} for pool in pools]) or None,
        "bound_by": _sum(
            [
                {name: share * weight / sum(busy) for name, share in (pool["bound_by"] or {}).items()}
                for pool, weight in zip(pools, busy, strict=True)
            ]
        )
        if sum(busy)
        else None,
        "roofline": None,
        **{key: _total(pools, key) for key in ("cost_usd", "cost_per_mtok_usd")},
        "cost_by_component_usd": _sum([pool["cost_by_component_usd"] for pool in pools]) if priced else None,
        "cost_terms": pools[-1]["cost_terms"] if priced else None,
        "kv_tokens": pools[-1]["kv_tokens"],
        "pools": {role: {key: pool[key] for key in EACH} for role, pool in zip(ROLES, pools, strict=True)},
    }


def transfer_summary(requests: RequestRecords, transfers: TransferRecords, link: LinkLimits) -> dict[str, Any]:
    """Where the time to the first token went (means, ms), and what moved: bytes a request and in all, and the time of a
    transfer, as far as it follows the prompt, beside that of one that has the link alone."""
    moved = np.isfinite(transfers.arrived_s)
    if not moved.any():
        return {"moved": 0}
    size = link.fixed_bytes + link.token_bytes * requests.input_tokens[moved]
    begun = np.maximum(transfers.sent_s, transfers.prefilled_s)
    parts = {
        "queue": requests.scheduled_s - requests.arrival_s,
        "prefill": transfers.prefilled_s - requests.scheduled_s,
        "wait": begun - transfers.prefilled_s,
        "transfer": transfers.arrived_s - begun,
    }
    alone = np.array([link.seconds(tokens) for tokens in requests.input_tokens[moved].tolist()])
    return {
        "moved": int(moved.sum()),
        "bytes": float(size.sum()),
        "bytes_mean": float(size.mean()),
        **{f"{name}_mean_ms": float(seconds[moved].mean()) * 1e3 for name, seconds in parts.items()},
        "transfer_p99_ms": float(np.percentile(parts["transfer"][moved], 99)) * 1e3,
        "transfer_alone_mean_ms": float(alone.mean()) * 1e3,
    }


def _sum(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _total(pools: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The sum over pools; None where one has none."""
    values = [pool[key] for pool in pools]
    return None if any(value is None for value in values) else float(sum(values))
