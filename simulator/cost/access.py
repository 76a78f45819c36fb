"""Time of streaming bytes, gathering rows and element-wise work."""

from __future__ import annotations

import numpy as np

from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.cache import hit_rate
from simulator.cost.machine import Machine
from simulator.cost.tier import Tier
from simulator.hardware.memory import MemoryTier
from simulator.model.operation import Array, Gather, Stream, Vector


def stream(operation: Stream, machine: Machine) -> Amount:
    """bytes / (bandwidth * the stack's fraction for activations), tier by tier of the tensor's placement."""
    fraction = float(machine.stack.activation_streaming)
    seconds: dict[str, Array] = {}
    moved: dict[str, Array] = {}
    for tier, share in machine.parts(operation.tensor):
        moved[tier.name] = operation.bytes * share
        seconds[tier.name] = operation.bytes * share / machine.streaming_bandwidth(tier, fraction)
    return Amount(seconds, {}, moved).times(operation.repeat)


def gather(operation: Gather, machine: Machine, load: float = 0.0) -> Amount:
    """Rows read in whole granules from the tiers of their table, waited for: `rows_seconds`, divided by the share that
    the stack's code reaches; of a table in a far tier also the stack's time for a call of the host's. A near tier that
    caches them serves its share. `load`: share of the main memory's bandwidth that others take meanwhile.

    Prefetching is not in here: see `prefetch.py`.
    """
    place = machine.placement.of(operation.tensor)
    near = place.near if place else None
    amounts = []
    for tier, share in machine.parts(operation.tensor):
        rows, unique = operation.rows * share, operation.unique_rows * share
        if near is not None and operation.table_rows:
            kept = operation.table_rows * share * near.share
            rate = hit_rate(operation.table_rows * share, operation.zipf, kept, near.policy)
            missed = np.minimum(unique, rows * (1.0 - rate))  # the rows that are used often are the ones that hit
            amounts.append(_rows(operation, machine, machine.tiers[near.tier], rows - missed, unique - missed, load))
            rows, unique = missed, missed
        amounts.append(_rows(operation, machine, tier, rows, unique, load))
    if operation.tensor == "embedding":
        return add(amounts).times(operation.repeat)
    rate = float(machine.stack.gather_rate)
    read = [Amount({name: value / rate for name, value in a.seconds.items()}, {}, a.bytes) for a in amounts]
    if machine.stack.gather_overhead and any(tier.far for tier, _ in machine.parts(operation.tensor)):
        some = np.asarray(operation.rows) > 0
        read.append(Amount({OVERHEAD: some * float(machine.stack.gather_overhead)}))
    return add(read).times(operation.repeat)


def vector(operation: Vector, machine: Machine) -> Amount:
    """The bytes of element-wise work; its FLOPs hide behind them on every machine here. A stack that cuts what a
    tensor-parallel group would copy spares its chips the work of the others.

    New keys and values of a cache in a far tier go there: over the other direction of the link, where nobody waits for
    them, so that they count as bytes and joules but not as time.
    """
    copies = operation.copies if machine.stack.sharded else 1.0
    far = {tier.name: share for tier, share in machine.parts("kv") if tier.far} if np.any(operation.written) else {}
    away = operation.written * sum(far.values(), 0.0)
    here = stream(Stream(operation.name, "activation", (operation.bytes - away) / copies, operation.repeat), machine)
    if not far:
        return here
    moved = {name: operation.written * (share / copies * operation.repeat) for name, share in far.items()}
    return add([here, Amount({}, {}, moved)])


def rows_seconds(
    memory: MemoryTier,
    row_bandwidth: float,
    rows: Array,
    row_bytes: float,
    hops: float = 1.0,
    span: float = 0.0,
    readers: int = 1,
    load: float = 0.0,
) -> Array:
    """Seconds of reading `rows` random rows, in `hops` rounds, from a table that spans so many bytes.

        rows * latency / outstanding + (granules - rows) * granule / row_bandwidth + hops * latency

    (measured on DRAM: 5 % median error), and at least rows * readers / iops where the tier has such a limit. A tier
    that states no latency or no accesses in flight streams the granules.
    """
    granule = float(memory.granule or 1.0)
    granules = np.ceil(row_bytes / granule) * rows
    latency = latency_of(memory, span, load)
    if latency is None or memory.outstanding is None:
        seconds = granules * granule / row_bandwidth
    else:
        some = np.asarray(rows) > 0
        waited = rows * latency / float(memory.outstanding)
        rest = np.maximum(granules - rows, 0.0) * granule / row_bandwidth
        seconds = waited + rest + some * hops * latency
    if memory.iops is not None:
        seconds = np.maximum(seconds, rows * readers / float(memory.iops))
    return np.asarray(seconds) if np.ndim(rows) else float(seconds)


def latency_of(memory: MemoryTier, span: float = 0.0, load: float = 0.0) -> float | None:
    """Latency of an access among `span` bytes: between the tier's `spans` by the logarithm, else its `latency`; as much
    longer as the tier says of a `load` on its bandwidth against none."""
    if memory.latency is None:
        return None
    latency = float(memory.latency)
    if memory.spans and span:
        sizes, latencies = zip(*memory.spans, strict=True)
        latency = float(np.interp(np.log(span), np.log(sizes), latencies))
    if memory.loaded and load:
        loads, latencies = zip(*memory.loaded, strict=True)
        latency *= float(np.interp(load, loads, latencies)) / float(latencies[0])
    return latency


def _rows(operation: Gather, machine: Machine, tier: Tier, rows: Array, unique: Array, load: float) -> Amount:
    """So many rows, `unique` of them distinct, from one tier. Of the chip's own memory its caches, each of which keeps
    what was used last (Che's approximation), serve their shares: a cache what the smaller ones before it do not."""
    memory, span = tier.memory, operation.table_rows * operation.row_bytes
    if machine.working < 1.0 and memory.outstanding is not None and not tier.far:
        memory = memory.model_copy(update={"outstanding": memory.outstanding * machine.working})
    moved = _stored(operation.row_bytes, memory) * unique
    fraction = float(memory.row_bandwidth or machine.stack.activation_streaming)
    bandwidth = machine.streaming_bandwidth(tier, fraction)
    hops = operation.dependent_hops
    seconds = rows_seconds(
        memory, bandwidth, unique, operation.row_bytes, hops, span, tier.readers, 0.0 if tier.far else load
    )
    if tier.far:
        seconds = np.maximum(seconds, moved / tier.bandwidth)
    if tier.far or not operation.table_rows:
        return Amount({tier.name: seconds}, {}, {tier.name: moved})
    waited = unique * _translation(memory, span) / float(memory.outstanding or 1.0)
    before, served = 0.0, 0.0 * seconds
    for cache in _caches_of(machine):
        rate = max(before, hit_rate(operation.table_rows, operation.zipf, _kept(cache, operation, machine), "lru"))
        bandwidth = float(cache.bandwidth) * float(cache.row_bandwidth or 1.0)
        inside = rows_seconds(cache, bandwidth, unique, operation.row_bytes, hops) + waited
        served, before = served + (rate - before) * np.minimum(inside, seconds), rate
    return Amount({tier.name: served + (1.0 - before) * seconds}, {}, {tier.name: (1.0 - before) * moved})


def _stored(row_bytes: float, memory: MemoryTier) -> float:
    """Bytes of the granules that a row takes."""
    granule = float(memory.granule or 1.0)
    return float(np.ceil(row_bytes / granule)) * granule


def _caches_of(machine: Machine) -> list[MemoryTier]:
    """The chip's hardware caches that say what an access takes, from the smallest on."""
    found = [memory for memory in machine.profile.chip.memory if memory.cache and memory.latency is not None]
    return sorted(found, key=lambda memory: _of_one(memory, machine))


def _of_one(cache: MemoryTier, machine: Machine) -> float:
    """Bytes that one reader finds in a cache: cores with caches of their own keep the same hot rows."""
    return float(cache.capacity) / (int(machine.profile.chip.matrix.units) if cache.shared_by == "core" else 1)


def _kept(cache: MemoryTier, operation: Gather, machine: Machine) -> float:
    """Rows that a cache keeps."""
    return _of_one(cache, machine) / _stored(operation.row_bytes, cache)


def _translation(memory: MemoryTier, span: float) -> float:
    """Seconds by which an access among `span` bytes takes longer than among few: misses of the translation buffers,
    which a row that a cache holds waits for too."""
    latencies = [float(latency) for _, latency in memory.spans or ()]
    return max(0.0, (latency_of(memory, span) or 0.0) - min(latencies)) if latencies else 0.0
