"""Collectives of groups that span machines: inside each machine over its fabric, between machines over the network.

A group of n chips on N machines has i = n/N members on each. Member k of every machine talks to member k of the others
over its own share of the network cards, all i of them at once:

    all-reduce: reduce-scatter inside, all-reduce of S/i between, all-gather inside
    all-gather, reduce-scatter: of S/i between, of S inside
    all-to-all: the part for chips on other machines, (n-i)/n * S, over the network; the rest over the fabric

Between machines an all-reduce is a ring, 2(N-1) steps and 2(N-1)/N of the bytes, or a double binary tree, 2 log2 N
steps and all bytes twice (Sanders et al. 2009; NCCL 2.4), whichever is faster; the other two double the distance,
log2 N steps (Thakur et al. 2005). Chunks of a message pass fabric and network at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, log2

from simulator.cost.phase import Phase
from simulator.hardware.fabric import ScaleOut
from simulator.model.operation import Array
from simulator.stack.parameters import Collectives

Local = Callable[[str, Array, int], Phase]
"""(pattern, bytes, chips) -> the phase inside one machine."""


def spanning(
    pattern: str, size: Array, inside: int, nodes: int, local: Local, network: ScaleOut, software: Collectives
) -> Iterator[Phase]:
    """Each way to do a collective among `inside` chips on each of `nodes` machines."""
    hop = 0.0 if software.fused else float(network.latency)
    rate = float(network.bandwidth) * float(software.scale_out_bandwidth)
    part, others, doublings = size / inside / rate, (nodes - 1) / nodes, ceil(log2(nodes))
    if pattern == "send_receive":
        yield Phase(hop, size / rate, chunked=False)
    elif pattern == "all_to_all":
        within = local(pattern, size / nodes, inside) if inside > 1 else Phase(0.0, 0.0)
        yield within.beside(Phase(hop, others * size / rate))
    elif pattern == "all_reduce":
        within = _both_ways(size, inside, local)
        yield within.beside(Phase(2 * (nodes - 1) * hop, 2 * others * part))
        yield within.beside(Phase(2 * doublings * hop, 2 * part))
    else:
        within = local(pattern, size, inside) if inside > 1 else Phase(0.0, 0.0)
        yield within.beside(Phase(doublings * hop, others * part))


def _both_ways(size: Array, inside: int, local: Local) -> Phase:
    if inside == 1:
        return Phase(0.0, 0.0)
    return local("reduce_scatter", size, inside).then(local("all_gather", size, inside))
