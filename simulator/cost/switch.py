"""Collectives where every chip reaches every other: over a switch, or through the host.

S = bytes of the full buffer, n = chips in the group, B = bandwidth reached, per direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import numpy as np

from simulator.cost.phase import Phase
from simulator.hardware.fabric import Fabric
from simulator.model.operation import Array
from simulator.stack.parameters import Collectives

PASSES = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}
"""Shares of S that pass one chip's link in one direction, in units of (n - 1)/n; steps of a ring, in units of n - 1."""


def ring(pattern: str, size: Array, n: int, fabric: Fabric, software: Collectives) -> Phase:
    """passes*(n-1) hops; passes*(n-1)/n * S/B, and the chip's own part copied by the same channels, S/n/C.

    An all-to-all is no ring: a chip writes to all others at once, and waits for log2 n times the stack's hops (NCCL's
    shortest take 6.3, 6.7, 7.6 us among 2, 4, 8 chips of an H100 node).
    """
    hop = hop_latency(fabric, software)
    if pattern == "send_receive":
        return Phase(hop, size / (fabric.bandwidth_in(2) * float(software.bandwidth)), chunked=False)
    link = fabric.bandwidth_in(n)
    over_pcie = fabric.kind == "pcie" and software.pcie_bandwidth is not None
    reached = float((over_pcie and software.pcie_bandwidth) or software.bandwidth)
    passes = PASSES[pattern]
    streamed = passes * (n - 1) / n * size / (link * reached)
    steps, copied = passes * (n - 1), software.copy_bandwidth
    if pattern == "all_to_all":
        steps, copied = log2(n) * float(software.exchange_steps), software.exchange_copy or copied
    if copied is not None:
        streamed = streamed + size / n / (link * float(copied))
    return Phase(steps * hop, streamed)


def kernels(size: Array, n: int, fabric: Fabric, software: Collectives) -> Iterator[Array]:
    """Seconds of the all-reduces that a switch allows beside the ring:

    one-shot l1 + (n-1)*S/B1 and two-shot l2 + 2(n-1)/n * S/B2 write into the memory of peers, up to a largest message;
    a switch that reduces needs each byte once each way, l3 + S/B3.
    """
    link, small = fabric.bandwidth_in(n), np.asarray(size) <= float(software.kernel_limit)
    if software.one_shot is not None:
        one = float(software.one_shot) + (n - 1) * size / (link * float(software.one_shot_bandwidth))
        yield np.where(small, one, np.inf)
    if software.two_shot is not None:
        two = float(software.two_shot) + 2 * (n - 1) / n * size / (link * float(software.two_shot_bandwidth))
        yield np.where(small, two, np.inf)
    if software.in_switch is not None and fabric.reduces:
        yield float(software.in_switch) + size / (link * float(software.in_switch_bandwidth))


def hop_latency(fabric: Fabric, software: Collectives) -> float:
    """Seconds of one step with an empty message, where the stack's `launch` does not hold them."""
    return 0.0 if software.fused or not software.steps or fabric.latency is None else float(fabric.latency)
