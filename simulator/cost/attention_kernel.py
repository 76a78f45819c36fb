"""Time of single attention kernels, from batch, lengths and heads on one chip. Arrays in, seconds out.

The step model prices attention as a straight line in query-key pairs and keys (matmul.attention), because the engine
adds up sequences; these forms tell what one call takes, with its launches and its limits to parallel work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.cost.amount import norm
from simulator.hardware.profile import Profile
from simulator.model.operation import Array
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.stack.library import DecodeKernel, PrefillKernel

BLOCK = 128.0
"""Queries, and keys, that a flash attention kernel handles at a time."""


@dataclass(frozen=True)
class Heads:
    """Of one call on one chip: sequences, query heads, key-value heads, width of a head, bytes of a cached value,
    window (0: none)."""

    batch: Array
    query: Array
    key: Array
    width: Array
    key_bytes: Array
    window: Array = 0.0


def prefill_seconds(heads: Heads, length: Array, kernel: PrefillKernel, profile: Profile, before: Array = 0.0) -> Array:
    """`length` tokens of a prompt in each of the sequences, after `before` tokens that are cached:

        t = launch + (work^p + longest^p)^(1/p) + (cq * B L H d * 2 + ck * B L K d * 4) / HBM
        work    = 4 B H d 128^2 * pairs of blocks / (F * plateau)
        longest = 4 d 128^2 * blocks of one row / (F * plateau / units): the last row of one head, on one unit

    F is the 16-bit peak for every format. The second term adds: other kernels rotate, write the cache and the output.
    """
    bandwidth = float(profile.chip.main_memory.bandwidth)
    rate = profile.sixteen_bit_peak * float(kernel.plateau)
    rows, cached = np.ceil(length / BLOCK), np.ceil(before / BLOCK)
    most = np.where(np.asarray(heads.window) > 0, np.ceil(heads.window / BLOCK) + 1.0, rows + cached)
    growing = np.clip(most - cached, 0.0, rows)  # rows of blocks that still see one block more than the last
    pairs = growing * (growing + 1.0) / 2.0 + growing * cached + (rows - growing) * most
    seen = np.minimum(rows + cached, most)
    block = 4.0 * heads.width * BLOCK**2
    work = heads.batch * heads.query * block * pairs / rate
    longest = block * seen / (rate / profile.chip.matrix.units)
    tokens = heads.batch * length * heads.width * ACTIVATION_BYTES
    traffic = float(kernel.query_traffic) * tokens * heads.query + float(kernel.key_traffic) * 2.0 * tokens * heads.key
    return float(kernel.launch) + norm(work, longest, float(kernel.overlap)) + traffic / bandwidth


def decode_seconds(heads: Heads, context: Array, kernel: DecodeKernel, profile: Profile) -> Array:
    """One query token in each of the sequences, over `context` keys:

        u = B K where a block of units serves all query heads of a key head (packed), else B H
        split = clip(ceil(S / chunk), 1, occupancy * units / u); n = u * split blocks
        stream = (2 B K S d kb + 4 B H d) / min(HBM * streaming, n * block bandwidth)
        t = launch + (split > 1) * split overhead + (stream^p + (ceil(n / units) * wave)^p)^(1/p)

    Without packing every query head reads the keys again from the cache, at `reread` times the HBM's rate.
    """
    bandwidth, units = float(profile.chip.main_memory.bandwidth), float(profile.chip.matrix.units)
    keys = np.where(np.asarray(heads.window) > 0, np.minimum(context, heads.window), context)
    blocks = heads.batch * (heads.key if kernel.packed else heads.query)
    most = np.floor(float(kernel.occupancy) * units / blocks)
    split = np.maximum(1.0, np.minimum(np.ceil(keys / kernel.chunk), most)) if kernel.splits else 1.0
    count = blocks * split
    moved = 2.0 * heads.batch * heads.key * keys * heads.width * heads.key_bytes
    moved = moved + 2.0 * ACTIVATION_BYTES * heads.batch * heads.query * heads.width
    rate = np.minimum(bandwidth * float(kernel.streaming), count * float(kernel.block_bandwidth))
    p = float(kernel.overlap)
    spent = norm(moved / rate, np.ceil(count / units) * float(kernel.wave), p)
    if kernel.reread is not None:
        again = 2.0 * heads.batch * heads.query * keys * heads.width * heads.key_bytes
        spent = norm(spent, again / (float(kernel.reread) * bandwidth), p)
    return float(kernel.launch) + (np.asarray(split) > 1) * float(kernel.split_overhead) + spent
