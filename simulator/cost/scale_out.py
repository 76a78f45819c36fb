"""Collectives of groups that span machines: inside each machine over its fabric, between machines over the network.

A group of n chips on N machines has i = n/N members on each, which use their own shares of the network cards at once.
S = bytes of the full buffer:

    ring           through all chips, machine after machine: the cards of a machine send 2(n-1)/n * S in an all-reduce,
                   half of that in an all-gather or reduce-scatter; each step waits for a hop, N of n over the network
    tree           all-reduce alone: 2 log2 N hops over the network; the cards send 2 S (Sanders et al. 2009; NCCL 2.4)
    hierarchical   a reduce-scatter inside, the same collective of S/i between machines, an all-gather inside: the cards
                   send 2(N-1)/N * S, log2 N hops each way (Thakur et al. 2005). For machines that add up inside (a
                   switch that reduces, a torus), and where a machine has one member

An all-to-all sends the part for chips on other machines, (n-i)/n * S of a chip, over the network and the rest over the
fabric. Chunks of a message pass fabric and network at the same time. Two nodes of A100s tell ring and hierarchy apart:
at 64 MiB and 1, 2, 4, 8 members a node they reach 5.9, 7.9, 12.8, 9.3 GB/s, which only 2(n-1)/n * S explains (vidur).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, log2

from simulator.cost.phase import Phase
from simulator.cost.switch import PASSES
from simulator.hardware.profile import Node
from simulator.model.operation import Array
from simulator.stack.parameters import Collectives

Local = Callable[[str, Array, int], Phase]
"""(pattern, bytes, chips) -> the phase inside one machine."""

NOTHING = Phase(0.0, 0.0)


def spanning(
    pattern: str, size: Array, inside: int, nodes: int, local: Local, node: Node, software: Collectives
) -> Iterator[Phase]:
    """Each way to do a collective among `inside` chips on each of `nodes` machines, which have a network."""
    network, n = node.scale_out, inside * nodes
    assert network is not None
    hop = 0.0 if software.fused else float(network.latency)
    rate = network.bandwidth_of(node.chips) * float(software.scale_out_bandwidth)
    if pattern == "send_receive":
        yield Phase(hop, size / rate, chunked=False)
        return
    within = local(pattern, size, inside) if inside > 1 else NOTHING
    if pattern == "all_to_all":
        share = (nodes - 1) / nodes
        yield Phase(within.waited, within.streamed / nodes).beside(Phase(hop, share * size / rate))
        return
    passes, part, doublings = PASSES[pattern], size / inside / rate, ceil(log2(nodes))
    crossings = nodes if inside > 1 else nodes - 1
    longer = (n - 1) / n / ((inside - 1) / inside) if inside > 1 else 1.0
    through = Phase(nodes * within.waited, longer * within.streamed)
    yield through.beside(Phase(passes * crossings * hop, passes * (n - 1) / n * part))
    if pattern == "all_reduce":
        yield within.beside(Phase(2 * doublings * hop, 2 * part))
    if inside == 1 or node.fabric.reduces or node.fabric.kind in ("torus", "mesh"):
        yield within.beside(Phase(passes * doublings * hop, passes * (nodes - 1) / nodes * part))
