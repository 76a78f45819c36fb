"""Time of a fused mixture-of-experts FFN on one rank: up and gate, activation, down. Arrays in, seconds out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.cost.amount import norm
from simulator.hardware.profile import Profile
from simulator.model.operation import Array
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.stack.library import ExpertKernel

MATRICES = 3.0


@dataclass(frozen=True)
class Experts:
    """tokens that enter the layer, before routing; top_k; experts of the whole layer and the ranks that share them;
    width of one expert on this rank; hot: tokens of the slowest rank over the mean; touched: distinct experts here."""

    tokens: Array
    hidden: Array
    width: Array
    top_k: Array
    experts: Array
    ranks: Array
    hot: Array
    touched: Array


def expert_seconds(work: Experts, weight_bytes: float, peak: float, kernel: ExpertKernel, profile: Profile) -> Array:
    """t = launch + doubling * log2(1 + T k) + (stream^p + compute^p)^(1/p) + traffic / HBM

        rows = T k / ranks * hot;  stream = touched * 3 h i b / (HBM * streaming);  compute = 6 h i rows / (F * plateau)
        traffic = (ch rows h + ci rows i) * 2 + (cT h + cTi i) * T k * 2

    The launches are of the small kernels that sort and align tokens; some libraries pass over all T k slots of a layer,
    local or not (cT, cTi). peak: FLOP/s of the format; weight_bytes: of one weight.
    """
    bandwidth = float(profile.chip.main_memory.bandwidth)
    slots = work.tokens * work.top_k
    rows = slots / work.ranks * work.hot
    weights = work.touched * MATRICES * work.hidden * work.width * weight_bytes
    compute = 2.0 * MATRICES * work.hidden * work.width * rows / (peak * float(kernel.plateau))
    own = float(kernel.row_traffic) * work.hidden + float(kernel.inner_traffic) * work.width
    every = float(kernel.slot_traffic) * work.hidden + float(kernel.slot_inner_traffic) * work.width
    traffic = (own * rows + every * slots) * ACTIVATION_BYTES / bandwidth
    sorting = float(kernel.per_doubling) * np.log2(1.0 + slots)
    spent = norm(weights / (bandwidth * float(kernel.streaming)), compute, float(kernel.overlap))
    return float(kernel.launch) + sorting + spent + traffic
