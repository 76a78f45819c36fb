"""Time of matrix products and of attention."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np

from simulator.cost.access import latency_of
from simulator.cost.amount import OVERHEAD, Amount, add, norm, overlapped
from simulator.cost.cache import chosen_hits
from simulator.cost.host import host_matmul
from simulator.cost.machine import Machine
from simulator.cost.product import product
from simulator.cost.tier import Tier
from simulator.model.number_format import FORMATS, SIXTEEN_BITS, tensor_class
from simulator.model.operation import Array, Attention, Matmul
from simulator.stack.stack import Stack, of_format

ATTENTION_P = 4.0
"""Compute and cache reads inside an attention kernel overlap as a 4-norm (2 to 4 fit alike)."""


def matmul(operation: Matmul, machine: Machine, arrived: bool = False) -> Amount:
    """The chip's share of a product, by `_on_chip`, and then the host's, where it computes on what lies with it.

    `arrived`: what lies far has been copied into the main memory.
    """
    reads = _weight_reads(operation, machine)
    if arrived:
        return _on_chip(operation, machine, [(machine.main if tier.far else tier, share) for tier, share in reads])
    there = machine.host_tier
    on_host = sum((share for tier, share in reads if tier.name == there), 0.0) * _few_tokens(operation, machine)
    if not np.any(on_host):
        return _on_chip(operation, machine, reads)
    here = [(tier, share - on_host if tier.name == there else share) for tier, share in reads]
    rest = replace(operation, m=operation.m * (1.0 - on_host))
    return add([_on_chip(rest, machine, here), host_matmul(operation, machine, on_host)])


def _on_chip(operation: Matmul, machine: Machine, reads: list[tuple[Tier, Array]]) -> Amount:
    """t = ((c mnk / F)^p + (sum of weights / W + activations / A)^p)^(1/p), times 1 + turns * (tp - 1), for the slowest
    rank: weights times its imbalance, mnk and activations times that or its load, whichever is more.

    F = peak * plateau of the compute format * w / (w + the stack's half width) with w = sqrt(nk) on the chip,
    W = bandwidth * streaming fraction of the number format, tier by tier of the weights' placement,
    A = bandwidth * activation fraction; p is the stack's, and so is c where a format takes other than two operations a
    weight. No rows, no cost. Where the stack has `tiles`, both terms are of the best whole tiles (product.py).
    """
    stack = machine.stack
    rows = np.asarray(operation.m, dtype=float)
    some = rows > 0
    compute_format = machine.profile.compute_format(operation.format)
    rate = machine.matrix_rate(operation.format)
    if stack.matmul_half_width:
        width = sqrt(operation.n * operation.k)
        rate *= width / (width + float(stack.matmul_half_width))
    if compute_format in ("bf16", "fp16") and FORMATS[operation.format].bytes < SIXTEEN_BITS:
        rate *= float(stack.unpacked_matmul)
    if tensor_class(operation.tensor) == "expert":
        rate *= float(stack.expert_matmul)
    each = float(stack.weight_operations.get(operation.format, 2.0))
    rate *= 2.0 / each
    flops = each * rows * operation.n * operation.k
    turns = 1.0 + float(stack.turns) * (machine.parallelism.tp - 1)
    slowest, busiest = operation.imbalance * turns, np.maximum(operation.imbalance, operation.load) * turns
    activations = _activations(operation)
    seconds, moved = _read(operation, machine, reads)
    fraction = float(stack.activation_streaming)
    for tier, share in machine.parts("activation"):
        bandwidth = machine.streaming_bandwidth(tier, fraction) if tier.far else machine.bandwidth * fraction
        passing = activations * share / bandwidth * (busiest / slowest)
        seconds[tier.name] = seconds.get(tier.name, 0.0) + passing
        moved[tier.name] = moved.get(tier.name, 0.0) + activations * share
    p = float(stack.overlap)
    streamed = sum(seconds.values(), 0.0)
    stored = FORMATS[operation.format].bytes
    spent = product(rows, operation.n, operation.k, rate, streamed, p, machine.tiling, stored, operation.groups)
    drawn = spent.memory / np.maximum(streamed, 1e-300) if machine.tiling else 1.0  # few units cannot draw it all
    waiting = {name: value * drawn * slowest for name, value in seconds.items()}
    seconds = overlapped(spent.compute * busiest, waiting, p)
    if machine.tiling:
        seconds[OVERHEAD] = some * spent.alone * slowest
    return Amount(seconds, {compute_format: flops}, moved).times(operation.repeat)


def far_weights(operation: Matmul, machine: Machine) -> Amount:
    """The matrices that lie in far tiers, brought to the chip: their seconds on the link, and their bytes."""
    far = [(tier, share) for tier, share in _weight_reads(operation, machine) if tier.far and np.any(share)]
    seconds, moved = _read(operation, machine, far)
    slowest = {name: value * operation.imbalance for name, value in seconds.items()}
    return Amount(slowest, {}, moved).times(operation.repeat)


def _read(
    operation: Matmul, machine: Machine, reads: list[tuple[Tier, Array]]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Seconds and bytes of the matrices, by tier. Software that does not select reads all experts of a far tier; a
    far read that waits for its addresses waits for the tier's latency too."""
    some = np.asarray(operation.m, dtype=float) > 0
    matrix = operation.n * operation.k * FORMATS[operation.format].bytes
    seconds: dict[str, Array] = {}
    moved: dict[str, Array] = {}
    for tier, share in reads:
        groups = operation.groups
        if tier.far and operation.choices and not machine.stack.selects_experts:
            groups = operation.choices / machine.parallelism.ep
        read = some * groups * matrix * share
        waited = some * operation.hops * (latency_of(tier.memory) or 0.0) if tier.far else 0.0
        streaming = read / machine.weights_bandwidth(operation.format, tier)
        seconds[tier.name] = seconds.get(tier.name, 0.0) + streaming + waited
        moved[tier.name] = moved.get(tier.name, 0.0) + read
    return seconds, moved


def activation_bytes(operation: Matmul) -> Array:
    """Bytes of the rows that a product reads and writes, in all of its layers."""
    return _activations(operation) * operation.repeat


def _activations(operation: Matmul) -> np.ndarray:
    return np.asarray(operation.m, dtype=float) * ((operation.n + operation.k) * operation.activation_bytes)


def _weight_reads(operation: Matmul, machine: Machine) -> list[tuple[Tier, Array]]:
    """(tier, share of the weight bytes read there): by the placement, and what a near tier caches from that."""
    parts: list[tuple[Tier, Array]] = list(machine.parts(operation.tensor))
    place = machine.placement.of(operation.tensor)
    if place is None or place.near is None:
        return parts
    hit: Array = place.near.share  # where every token uses every matrix, it is read where it lies
    if operation.choices:
        tokens = _tokens(operation, machine)
        kept = place.near.share * operation.choices
        hit = chosen_hits(operation.choices, operation.chosen, operation.zipf, kept, place.near.policy, tokens)
    return [(machine.tiers[place.near.tier], hit), *((tier, share * (1.0 - hit)) for tier, share in parts)]


def _few_tokens(operation: Matmul, machine: Machine) -> Array:
    """1 where the host computes what lies with it; 0 where there is none, or in a step of so many tokens that its
    weights rather cross the link."""
    host = machine.stack.host
    if host is None or not machine.host_tier:
        return 0.0
    if host.layerwise_from is None:
        return 1.0
    return (np.asarray(_tokens(operation, machine)) < float(host.layerwise_from)) * 1.0


def _tokens(operation: Matmul, machine: Machine) -> Array:
    """Tokens that the rows of a product are of, on all ranks that share the experts."""
    return operation.m * (machine.parallelism.ep / operation.chosen) if operation.choices else operation.m


def attention(operation: Attention, machine: Machine) -> Amount:
    """t = ((pairs * FLOPs / F)^4 + (keys * bytes / W)^4 + (keys / sequences * scan)^4)^(1/4): a straight line in the
    context. Keys that several chips hold are read by each, unless the stack cuts them over the batch.

    F = 16-bit peak * the stack's fraction for the phase, W = bandwidth * its fraction for the cache, tier by tier. The
    last term is of decode steps: sequences run beside each other, of each the keys one after the other.
    """
    stack = machine.stack
    flops = operation.pairs * operation.flops_per_pair
    fraction = _of_decode(operation, stack) if operation.phase == "decode" else float(stack.prefill_attention)
    worked = flops / (machine.sixteen_bit_peak * fraction)
    if operation.phase == "decode" and stack.key_scan:
        scanned = operation.keys / np.maximum(operation.sequences, 1.0) * float(stack.key_scan)
        worked = norm(worked, scanned, ATTENTION_P)
    moved = operation.keys * operation.bytes_per_key / (operation.copies if stack.sharded else 1.0)
    parts = machine.parts("kv")
    fraction_read = float(stack.kv_streaming)
    reading = {t.name: moved * share / machine.streaming_bandwidth(t, fraction_read) for t, share in parts}
    seconds = overlapped(worked, reading, ATTENTION_P)
    read = {t.name: moved * share for t, share in parts}
    return Amount(seconds, {machine.profile.compute_format("bf16"): flops}, read).times(operation.repeat)


def _of_decode(operation: Attention, stack: Stack) -> Array:
    """Share of the 16-bit peak in a decode step, with the stack's kernel for few sequences or for many."""
    many = of_format(stack.decode_attention, operation.format, stack.name, "share of peak for decode attention")
    few = stack.decode_split
    if few is None or not operation.heads:
        return many
    blocks = np.asarray(operation.sequences) * operation.heads
    return np.where(blocks <= float(few.blocks), float(few.attention), many)
