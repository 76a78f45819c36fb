"""Rows of a table that is spread over chips: what each chip reads, and how the rows come together."""

from __future__ import annotations

from typing import Literal

import numpy as np

from simulator.model.ffn.kind import Visit
from simulator.model.operation import Array, Collective, Gather, Operation
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.model.popularity import Popularity

Shard = Literal["row", "column"]

SUM_BYTES = 4.0
"""Of a partial product of a neuron of which chips hold slices."""

INDEX_BYTES = 6.0
"""The number of a row (32 bits) and its weight (16 bits)."""


def look_up(
    name: str,
    tensor: str,
    visit: Visit,
    *,
    per_token: float,
    tables: float,
    rows: float,
    width: float,
    popularity: Popularity,
    address_known: str,
    shard: Shard = "row",
    hops: float = 1.0,
) -> Gather:
    """`per_token` rows of `width` values for each token, from `tables` tables of `rows` rows each.

    The tables are spread over the tp*dp chips of a stage, and the tokens of all data-parallel ranks meet them. By row a
    chip reads its share of the rows, and the chip with the most of them sets the pace: mean + sqrt(2 ln chips * mean)
    for rows that are spread at random. By column every chip reads its part of every row: no imbalance, shorter rows.
    """
    chips = visit.parallelism.tp * visit.parallelism.dp
    drawn = visit.all_tokens * per_token
    unique = tables * popularity.unique(rows, drawn / tables)
    row_bytes = width * visit.precision.bytes_of(tensor)
    if shard == "column":
        row_bytes, held = row_bytes / chips, tables * rows
    else:
        drawn, unique, held = _slowest(drawn, chips), _slowest(unique, chips), tables * rows / chips
    return Gather(
        name,
        tensor,
        drawn,
        unique,
        row_bytes,
        hops,
        address_known,
        visit.repeat,
        layers_before=visit.before,
        table_rows=held,
        zipf=popularity.exponent,
    )


def _slowest(rows: Array, chips: int) -> Array:
    """Rows on the chip that has most of them."""
    if chips == 1:
        return rows
    mean = rows / chips
    most: Array = np.minimum(rows, mean + np.sqrt(2.0 * np.log(chips) * mean))
    return most


def brought_together(name: str, visit: Visit, values: float) -> list[Operation]:
    """`values` values for each token, of which each of the tp*dp chips has a part, to the chips that go on with them.

    dp = 1: an all-gather. dp > 1: each rank gets its own tokens' rows in an all-to-all, then its tp chips share them.
    """
    return [*exchanged(f"{name} exchange", visit, values), *all_gather(name, visit, values)]


def exchanged(name: str, visit: Visit, values: float) -> list[Operation]:
    """`values` values for each token, its data-parallel rank's, in equal parts on all tp*dp chips: an all-to-all."""
    parallelism = visit.parallelism
    if parallelism.dp == 1:
        return []
    size = visit.tokens * (values * ACTIVATION_BYTES) / parallelism.tp
    return [Collective(name, "all_to_all", size, parallelism.tp * parallelism.dp, visit.repeat)]


def summed(name: str, visit: Visit, shard: Shard, asked: float, values: float) -> list[Operation]:
    """A weighted sum of `asked` rows for each token, parts of it on tp*dp chips, to the chips that go on with it.

    dp > 1: every chip learns which rows all tokens ask for (`asked_for`).
    By row each chip adds up the rows that it holds, for all tokens: a reduce-scatter of `values` values. By column it
    has all of a slice: an all-to-all returns it to the token's rank, where there are several.
    """
    parallelism, everyone = visit.parallelism, visit.all_tokens
    group = parallelism.tp * parallelism.dp
    found = asked_for(name, visit, asked)
    if shard == "row" and group > 1:
        size = everyone * (values * ACTIVATION_BYTES)
        found.append(Collective(f"{name} sums", "reduce_scatter", size, group, visit.repeat, of_all=True))
    else:
        found += exchanged(f"{name} sums", visit, values)
    return found


def asked_for(name: str, visit: Visit, asked: float) -> list[Operation]:
    """dp > 1: the `asked` rows of each token, with their weights, to all chips: an all-gather of INDEX_BYTES each."""
    if visit.parallelism.dp == 1:
        return []
    group, size = visit.parallelism.tp * visit.parallelism.dp, visit.all_tokens * (asked * INDEX_BYTES)
    return [Collective(f"{name} indices", "all_gather", size, group, visit.repeat, of_all=True)]


def all_gather(name: str, visit: Visit, values: float) -> list[Operation]:
    """`values` values for each token, of which each of tp chips has a part, to all of them."""
    tp = visit.parallelism.tp
    size = visit.tokens * (values * ACTIVATION_BYTES)
    return [Collective(f"{name} all-gather", "all_gather", size, tp, visit.repeat)] if tp > 1 else []
