"""What is left of reads whose addresses the token ids give: the time that the layers before them do not hide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from simulator.cost.access import gather
from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.machine import Machine
from simulator.cost.matmul import far_weights, matmul
from simulator.model.operation import Array, Gather, Matmul, Operation


def prefetched(operation: Operation, machine: Machine) -> bool:
    """Whether the stack fetches the operation's rows, or its experts, while earlier layers run. What a host computes
    with stays where it is."""
    if not (machine.stack.prefetch and isinstance(operation, Gather | Matmul)):
        return False
    if operation.address_known != "token" or operation.layers_before <= 0:
        return False
    return isinstance(operation, Gather) or (not machine.host_tier and bool(far_weights(operation, machine).bytes))


@dataclass(frozen=True)
class Fetch:
    """What starts with the step, for one layer: when it is needed, and its cost.

    away     seconds and bytes of the transfer
    streamed seconds that it takes from the streams of the layers, which nothing hides
    call     the stack's time for it, which nothing hides either
    spared   seconds of it that the layer's own products hide: those that read while they compute
    """

    layers_before: float
    away: Amount
    streamed: Array = 0.0
    call: Array = 0.0
    spared: Array = 0.0


@dataclass(frozen=True)
class Waits:
    """What the layers of a step wait for their fetches, all of which start with it, in the order of need.

    A layer with c layers before it needs its own at c * f, where f are the seconds of a layer in which the link is
    free; so all waits up to it are w_i = max(w_(i-1) + streamed_i, fetched up to i - spared_i - c_i * f), and those of
    a step the largest of straight lines in f:

        least + max over i of max(0, seconds_i - c_i * f)

    amount: bytes, calls and `least`, the sum of what is streamed. tiers: those fetched from, with their parts of the
    rest of the waits.
    """

    amount: Amount = field(default_factory=Amount)
    layers: tuple[float, ...] = ()
    seconds: tuple[Array, ...] = ()
    tiers: Mapping[str, Array] = field(default_factory=dict)

    def beyond(self, free: Array) -> Amount:
        """The waits above the least, where a layer leaves so many seconds."""
        if not self.layers:
            return Amount()
        over = [seconds - layers * free for layers, seconds in zip(self.layers, self.seconds, strict=True)]
        most = np.maximum(np.max(np.broadcast_arrays(*over), axis=0), 0.0)
        return Amount({name: most * part for name, part in self.tiers.items()})

    def at(self, index: np.ndarray) -> Waits:
        """The entries of a table at these places."""

        def chosen(value: Array) -> Array:
            return np.asarray(value)[index] if np.ndim(value) else value

        seconds, tiers = tuple(map(chosen, self.seconds)), {name: chosen(part) for name, part in self.tiers.items()}
        return replace(self, amount=self.amount.at(index), seconds=seconds, tiers=tiers)

    def times(self, factor: Array) -> Waits:
        """As if everything took `factor` times as long."""
        longer = Amount({n: v * factor for n, v in self.amount.seconds.items()}, {}, self.amount.bytes)
        return replace(self, amount=longer, seconds=tuple(value * factor for value in self.seconds))


def waits(operations: Iterable[Gather | Matmul], machine: Machine) -> Waits:
    """Of all prefetched operations of a step."""
    fetches = sorted((_fetch(operation, machine) for operation in operations), key=lambda fetch: fetch.layers_before)
    layers = [_together(list(group)) for _, group in groupby(fetches, key=lambda fetch: fetch.layers_before)]
    if not layers:
        return Waits()
    away = add(fetch.away for fetch in layers)
    fetched = np.maximum(away.total_seconds, 1e-300)
    tiers = {name: value / fetched for name, value in away.seconds.items()}
    least = sum((fetch.streamed for fetch in layers), 0.0)
    calls = sum((fetch.call for fetch in layers), 0.0)
    sure = {name: least * part for name, part in tiers.items()} | ({OVERHEAD: calls} if np.any(calls) else {})
    so_far: Array = 0.0
    before: Array = 0.0
    seconds = []
    for fetch in layers:
        so_far, before = so_far + fetch.away.total_seconds, before + fetch.streamed
        seconds.append(so_far - fetch.spared - before)
    places = tuple(fetch.layers_before for fetch in layers)
    kept = _outermost(places, seconds)
    return Waits(Amount(sure, {}, away.bytes), tuple(places[i] for i in kept), tuple(seconds[i] for i in kept), tiers)


def free_seconds(hiding: Amount, tiers: Iterable[str], machine: Machine) -> Array:
    """Seconds of what runs meanwhile in which it leaves the links to these tiers alone: its own reads go first."""
    taken: Array = 0.0
    for name in tiers:
        tier = machine.tiers[name]
        if tier.far:
            taken = taken + hiding.bytes.get(name, 0.0) / machine.streaming_bandwidth(tier, 1.0)
    return np.maximum(hiding.total_seconds - taken, 0.0)


def here(operation: Matmul, machine: Machine) -> Amount:
    """A product whose matrices have arrived: all of them are read from the main memory."""
    return matmul(operation, machine, arrived=True)


def _fetch(operation: Gather | Matmul, machine: Machine) -> Fetch:
    if isinstance(operation, Matmul):
        return _of_experts(operation, machine)
    whole = gather(operation, machine, load=float(machine.stack.activation_streaming))
    away = Amount({name: value for name, value in whole.seconds.items() if name != OVERHEAD}, {}, whole.bytes)
    own = np.asarray(away.bytes.get(machine.memory.tier, 0.0))
    streamed = np.minimum(own / machine.bandwidth, away.total_seconds)
    return Fetch(operation.layers_before, away, streamed, whole.seconds.get(OVERHEAD, 0.0))


def _of_experts(operation: Matmul, machine: Machine) -> Fetch:
    """Matrices are written to the main memory as they come, which takes its bandwidth from the layers. With nothing
    to hide behind, a product reads them from where they lie, and the fetch costs what that takes longer."""
    away = far_weights(operation, machine)
    moved = sum(away.bytes.values(), 0.0)
    longer = matmul(operation, machine).total_seconds - here(operation, machine).total_seconds
    longer = np.maximum(longer, 0.0)
    streamed = np.minimum(moved / machine.bandwidth, longer)
    written = Amount(away.seconds, {}, {**away.bytes, machine.memory.tier: moved})
    return Fetch(operation.layers_before, written, streamed, 0.0, np.maximum(away.total_seconds - longer, 0.0))


def _together(fetches: Sequence[Fetch]) -> Fetch:
    """All that one layer needs."""
    return Fetch(
        fetches[0].layers_before,
        add(fetch.away for fetch in fetches),
        sum((fetch.streamed for fetch in fetches), 0.0),
        sum((fetch.call for fetch in fetches), 0.0),
        sum((fetch.spared for fetch in fetches), 0.0),
    )


def _outermost(places: Sequence[float], seconds: Sequence[Array]) -> list[int]:
    """Which of the lines seconds_i - places_i * f are ever the largest, for any entry: the upper hull of the points."""
    kept: list[int] = []
    for new in range(len(places)):
        while len(kept) > 1:
            first, middle = kept[-2:]
            part = (places[middle] - places[first]) / (places[new] - places[first])
            chord = seconds[first] + part * (np.asarray(seconds[new]) - seconds[first])
            if not np.all(seconds[middle] <= chord * (1.0 + 1e-12)):
                break
            kept.pop()
        kept.append(new)
    return kept
