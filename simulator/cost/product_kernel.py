"""Time of a single matrix product, quantisation of its input included. Arrays in, seconds out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simulator.cost.amount import norm
from simulator.cost.product import Tiling, product, tiling_of
from simulator.hardware.profile import Profile
from simulator.model.operation import Array
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.stack.library import ProductKernel


def product_seconds(
    m: Array, n: Array, k: Array, weight_bytes: float, peak: float, kernel: ProductKernel, profile: Profile
) -> np.ndarray:
    """[m, k] x [k, n] with inputs of `weight_bytes` and a 16-bit output; peak: FLOP/s of the format.

        t = launch + product(...) + q m k / HBM,   bytes = b (nk + mk) + 2mn

    q: bytes that quantising moves for each activation; its launches are inside `launch`. (fp8 rows of three passes over
    the input read as a low streaming fraction when this term is left out: 33-48 % instead of 3-5 %.)
    """
    bandwidth = float(profile.chip.main_memory.bandwidth)
    moved = weight_bytes * (n * k + m * k) + ACTIVATION_BYTES * m * n
    memory = moved / (bandwidth * float(kernel.streaming))
    p = float(kernel.overlap)
    parts = product(m, n, k, peak * float(kernel.plateau), memory, p, _tiling(kernel, profile), weight_bytes)
    quantised = float(kernel.quantise_traffic) * m * k / bandwidth
    return np.asarray(float(kernel.launch) + norm(parts.compute, parts.memory, p) + parts.alone + quantised)


def _tiling(kernel: ProductKernel, profile: Profile) -> Tiling | None:
    tiling = tiling_of(profile, kernel.unit_bandwidth, kernel.wave)
    if tiling is None:
        return None
    return replace(tiling, shapes=kernel.shapes or tiling.shapes, splits=kernel.splits or tiling.splits)
