"""Time of one matrix product: what the matrix units and the memory take, with or without tiles.

One function for whole steps and for single kernels. Without a Tiling it is the smooth limit (tiles of one element, all
units always full), which fits whole steps as well as tiles do. What launches and layers cost is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.cost.amount import norm
from simulator.hardware.profile import Profile
from simulator.model.operation import Array

SHORTEST = 256.0
"""Least k that one part of a split product sums over."""

SECOND_KERNEL = 1e-6
"""Seconds of the kernel that adds the parts of a split product (in the tables of three GPUs, with the waves' cost)."""

PARTIAL_BYTES = 8.0
"""A partial sum is written and read once, in 32 bits."""


@dataclass(frozen=True)
class Tiling:
    """How a library cuts a product [m, k] x [k, n] over the `units` of a chip.

    tile            rows and columns of the smallest tile that a unit works on
    shapes, splits  tiles to choose from, in smallest tiles, and parts that k may be cut into
    unit_bandwidth  B/s at which one unit draws weights; a few units alone cannot draw all of the memory's
    wave            seconds that each wave of tiles takes more: fill and drain
    cache_bandwidth B/s of the cache that holds partial sums
    """

    tile: tuple[int, int]
    units: int
    unit_bandwidth: float = float("inf")
    wave: float = 0.0
    cache_bandwidth: float = float("inf")
    shapes: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (2, 4), (4, 2))
    splits: tuple[int, ...] = (1, 2, 4, 8, 16)


def tiling_of(profile: Profile, unit_bandwidth: float | None, wave: float) -> Tiling | None:
    """That of a chip, by its smallest tile, its units and its cache; None where it has no tile. No `unit_bandwidth`: a
    unit draws what it likes."""
    matrix = profile.chip.matrix
    if matrix.tile is None:
        return None
    cache = next((float(tier.bandwidth) for tier in profile.chip.memory if tier.cache), float("inf"))
    each = float("inf") if unit_bandwidth is None else float(unit_bandwidth)
    return Tiling(matrix.tile[:2], matrix.units, each, float(wave), cache)


class Product(NamedTuple):
    """Seconds of compute and of memory, which overlap, and of what overlaps with neither."""

    compute: Array
    memory: Array
    alone: Array


def product(
    m: Array,
    n: Array,
    k: Array,
    rate: float,
    memory: Array,
    p: float,
    tiling: Tiling | None = None,
    weight_bytes: float = 2.0,
    groups: Array = 1.0,
) -> Product:
    """compute = 2mnk / rate, `memory` as given; with a Tiling the best of its tiles and splits, as a library picks:

        tiles   = groups * ceil(m / groups / tile rows) * ceil(n / tile columns) * split,  waves = ceil(tiles / units)
        compute = waves * 2 * tile rows * tile columns * (k / split) / (rate / units)
        memory  = max(memory, weight bytes * n * k * groups / (min(tiles, units) * unit bandwidth))
        alone   = waves * wave + (split > 1) * (1 us + 8 m n split / cache bandwidth)

    rate: FLOP/s of the whole chip; p joins compute and memory when candidates are compared. m, n, k may be arrays.
    Form and constants: fits to 13,000 products on A100, H100 and B200 (AIConfigurator GEMM tables).
    """
    if tiling is None:
        return Product(2.0 * m * n * k / rate, memory, 0.0)
    m, n, k = (np.asarray(size, dtype=float) for size in (m, n, k))
    best: list[np.ndarray] = []
    shortest: Array = np.inf
    for rows, columns in tiling.shapes:
        height, width = float(rows * tiling.tile[0]), float(columns * tiling.tile[1])
        whole = groups * np.ceil(m / np.maximum(groups, 1.0) / height) * np.ceil(n / width)
        for split in tiling.splits:
            tiles = whole * split
            waves = np.ceil(tiles / tiling.units)
            compute = waves * (2.0 * height * width * tiling.units / rate) * (k / split)
            drawn = weight_bytes * n * k * groups / (np.clip(tiles, 1.0, tiling.units) * tiling.unit_bandwidth)
            alone = waves * tiling.wave
            if split > 1:
                alone = alone + SECOND_KERNEL + PARTIAL_BYTES * m * n * split / tiling.cache_bandwidth
            ours = np.maximum(memory, drawn)
            seconds = norm(compute, ours, p) + alone
            if split > 1:
                seconds = np.where(k / split >= SHORTEST, seconds, np.inf)
            better = seconds < shortest
            shortest = np.where(better, seconds, shortest)
            found = (compute, ours, alone)
            best = [np.where(better, new, old) for new, old in zip(found, best or found, strict=True)]
    return Product(best[0], best[1], best[2])
