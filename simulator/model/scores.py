"""The score and value products of one layer kind, as operations: decode and prefill apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simulator.model.operation import Array, Attention, Batch, Operation

QUERY_TILE = 128
"""Query rows that share one pass over the keys in a prefill kernel (FlashAttention-2, Dao 2023, block of 128 rows)."""

ROTARY_FLOPS = 3.0
"""Elementary operations per value of a rotary embedding: two products and a sum."""


def scores(
    batch: Batch,
    window: int | None,
    *,
    decode: tuple[float, float],
    prefill: tuple[float, float],
    format: str,
    repeat: Array,
    copies: float = 1.0,
    heads: float = 0.0,
    scan: bool = False,
) -> list[Operation]:
    """The attention of one layer kind, decode and prefill apart; each pair is (FLOPs a pair, bytes a key). `heads`:
    query heads of softmax attention on one chip. `scan`: over the states of a recurrence.

    Raises KeyError when the batch has contexts but none for this window: a batch describes all of a model's windows.
    """
    found: list[Operation] = []
    if batch.decode_context:
        keys = _of_window(batch.decode_context, window)
        shape = Attention("decode attention", "decode", keys, keys, *decode, format, repeat, copies)
        found.append(replace(shape, sequences=batch.outputs, heads=heads, scan=scan))
    if batch.prefill_pairs:
        pairs = _of_window(batch.prefill_pairs, window)
        keys = pairs / QUERY_TILE
        shape = Attention("prefill attention", "prefill", pairs, keys, *prefill, format, repeat, copies)
        found.append(replace(shape, scan=scan))
    return found


def _of_window(values: Mapping[int | None, Array], window: int | None) -> Array:
    if window not in values:
        raise KeyError(f"the batch has no context for window {window}, only for {list(values)}")
    return values[window]
