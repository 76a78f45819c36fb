"""What is known of machines that prefill and machines that decode, and of the caches between, in words."""

from __future__ import annotations

from typing import Any

from simulator.report.numerals import percent, significant

WAY = {"queue": "queue", "prefill": "prefill", "wait": "waits to decode", "transfer": "cache moves"}
"""Parts of the time to the first token, in order, by the key of a summary's "transfer"."""


def pool_facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of each pool of a run, and of the moves between; nothing for a run of one pool."""
    found = [(role, _words(pool)) for role, pool in (summary.get("pools") or {}).items()]
    moves = summary.get("transfer")
    if moves and moves["moved"]:
        parts = (f"{words} {significant(moves[f'{name}_mean_ms'])}" for name, words in WAY.items())
        found.append(("ttft (ms), mean of", ", ".join(parts)))
        size = f"{significant(moves['bytes_mean'] / 1e6)} MB"
        alone = significant(moves["transfer_alone_mean_ms"])
        found.append(("KV caches moved", f"{moves['moved']:,} of {size} on average; {alone} ms with a link of its own"))
    return found


def _words(pool: dict[str, Any]) -> str:
    return (
        f"{pool['hardware']}, {pool['layout']} x{pool['replicas']}, {pool['chips']} chips; "
        f"busy {percent(pool['utilisation'])}, mfu {percent(pool['mfu'])}, mbu {percent(pool['mbu'])}, "
        f"{significant(pool['average_power_w'] / 1e3)} kW"
    )
