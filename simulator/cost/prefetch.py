"""What is left of gathers when they are prefetched: the time that the layers before them do not hide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.cost.access import gather
from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.machine import Machine
from simulator.model.operation import Array, Gather


def prefetched(operation: object, machine: Machine) -> bool:
    """Whether the stack fetches the operation's rows while earlier layers run."""
    return (
        isinstance(operation, Gather)
        and bool(machine.stack.prefetch)
        and operation.address_known == "token"
        and operation.layers_before > 0
    )


@dataclass(frozen=True)
class _Fetch:
    """A gather that starts with the step: when its rows are needed, its cost, and what it takes from the layers."""

    layers_before: float
    amount: Amount
    streamed: Array  # seconds that it takes from the streams of the layers, which nothing hides
    call: Array  # the stack's time for the call, which nothing hides either


def exposed(gathers: Sequence[Gather], machine: Machine, layer_seconds: Array) -> Amount:
    """The gathers' bytes, and of their time what a step waits for.

    All start with the step, when the token ids are known, and are served in the order of need; a layer takes
    `layer_seconds`. A layer that needs rows at c = layers_before * layer_seconds waits until the rows of all layers up
    to its own are there:

        wait_i = max(0, sum of fetches up to i - c_i - waits before i)

    Rows that lie in the memory that the layers stream from take their bytes' share of its bandwidth from them all the
    same, at the latency of that memory under load; the stack's time for a call is never hidden. One gather of several
    layers (`repeat`) is needed whole by the first of them.
    """
    waits: Array = 0.0
    fetched: Array = 0.0
    amounts = []
    for fetch in _in_order(gathers, machine):
        fetched = fetched + fetch.amount.total_seconds
        wait = np.maximum(fetched - fetch.layers_before * layer_seconds - waits, fetch.streamed)
        waits = waits + wait
        share = wait / np.maximum(fetch.amount.total_seconds, 1e-300)
        seconds = {name: value * share for name, value in fetch.amount.seconds.items()}
        if np.any(fetch.call):
            seconds[OVERHEAD] = fetch.call
        amounts.append(Amount(seconds, {}, fetch.amount.bytes))
    return add(amounts)


def _in_order(gathers: Sequence[Gather], machine: Machine) -> list[_Fetch]:
    fetches = []
    for operation in gathers:
        whole = gather(operation, machine, load=float(machine.stack.activation_streaming))
        seconds = {name: value for name, value in whole.seconds.items() if name != OVERHEAD}
        amount, call = Amount(seconds, {}, whole.bytes), whole.seconds.get(OVERHEAD, 0.0)
        own = np.asarray(amount.bytes.get(machine.memory.tier, 0.0))
        streamed = np.minimum(own / machine.bandwidth, amount.total_seconds)
        fetches.append(_Fetch(operation.layers_before, amount, streamed, call))
    return sorted(fetches, key=lambda fetch: fetch.layers_before)
