"""What a step of a replica costs, tabulated once: by tokens, by emitting sequences, by key and by query-key pair.

    t_work = T[tokens] + O[outputs] + sum over windows (keys * k + pairs * p) + (a prompt in the step ? P : 0)
    t_step = max(norm(t_work, host floor), E / (cap - idle))

Everything in it is a sum over the operations of one chip (all of a replica's chips do the same), so a table and a few
slopes hold it exactly. The last term is the power limit: a chip whose work would draw more takes longer. Energy of a
step is min(cap * t, (idle + active) * t + E) with E the marginal joules of its FLOPs and bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np

from simulator.cost.access import gather, stream, vector
from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.collective import collective
from simulator.cost.machine import Machine
from simulator.cost.matmul import attention, matmul
from simulator.model.architecture import Architecture
from simulator.model.ffn.moe import MoEFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Attention, Batch, Collective, Gather, Matmul, Operation, Stream
from simulator.stack.stack import of_format

PARTS = 64
SHARES = (0, 3, 8, 16, 26, 36, 45, 52, 57, 61, 63, 64)
"""Slopes of the tangents that stand for the norm with the host's time, in parts of PARTS."""


@dataclass(frozen=True)
class StepCost:
    """Costs of one chip. tokens, outputs: tables indexed by their number; keys, pairs: per key and pair, by window."""

    windows: tuple[int | None, ...]
    tokens: Amount
    outputs: Amount
    keys: tuple[Amount, ...]
    pairs: tuple[Amount, ...]
    prefill: Amount  # once in a step that holds a prompt
    floor: HostFloor


@dataclass(frozen=True)
class HostFloor:
    """The serving loop's own time for a step, which runs beside the device: t = (work^p + floor^p)^(1/p).

    The engine needs straight lines, so t is the largest of some tangents of that norm: s * work + c * floor with
    s^q + c^q = 1, 1/p + 1/q = 1, at shares s = SHARES / PARTS. It is short of the norm by less than 0.5 % for every p.
    """

    seconds: float
    p: float

    @property
    def tangents(self) -> tuple[tuple[int, float], ...]:
        """(s * PARTS, c * floor in seconds) of each tangent."""
        if not self.seconds:
            return ((PARTS, 0.0),)
        if self.p == 1.0:
            return ((PARTS, self.seconds),)
        q = self.p / (self.p - 1.0)
        return tuple((share, (1.0 - (share / PARTS) ** q) ** (1.0 / q) * self.seconds) for share in SHARES)

    @property
    def free_from_s(self) -> float:
        """Work from which on the host is not felt."""
        if self.seconds and self.p == 1.0:
            return float("inf")
        return max((c / (1.0 - share / PARTS) for share, c in self.tangents if share < PARTS), default=0.0)

    def joined(self, work: Array) -> Array:
        """Seconds of a step, of which the device's `work` takes so many."""
        lines = [share / PARTS * np.asarray(work) + c for share, c in self.tangents]
        return np.asarray(np.max(lines, axis=0))


def cost_of(operation: Operation, machine: Machine) -> Amount:
    """Seconds, FLOPs and bytes of one operation on one chip."""
    if isinstance(operation, Matmul):
        return matmul(operation, machine)
    if isinstance(operation, Attention):
        return attention(operation, machine)
    if isinstance(operation, Collective):
        return collective(operation, machine)
    if isinstance(operation, Gather):
        return gather(operation, machine)
    if isinstance(operation, Stream):
        return stream(operation, machine)
    return vector(operation, machine)


def step_cost(
    architecture: Architecture, precision: Precision, machine: Machine, max_tokens: int, max_outputs: int
) -> StepCost:
    """Tabulate a replica on `machine` for steps of up to max_tokens tokens of which max_outputs emit."""
    layout, stack = machine.parallelism, machine.stack
    windows = architecture.windows
    zipf = float(stack.expert_popularity)

    def price(batch: Batch, wanted: Callable[[Operation], bool]) -> Amount:
        operations = architecture.forward(batch, layout, precision, zipf)
        return add(cost_of(operation, machine) for operation in operations if wanted(operation))

    def one(window: int | None) -> dict[int | None, Array]:
        return {each: float(each == window) for each in windows}

    # A pipeline turns at the pace of its longest stage.
    longest = ceil(architecture.layer_count / layout.pp) * layout.pp / architecture.layer_count
    tokens = price(Batch(np.arange(max_tokens + 1, dtype=float)), _is_of_layers)
    many = float(layout.dp * layout.pp)  # a batch that keeps every stage and copy busy
    outputs = price(Batch(many, np.arange(max_outputs + 1, dtype=float)), _is_head)
    return StepCost(
        windows=windows,
        tokens=_slower(
            add([_nothing_without_tokens(tokens), _per_layer(architecture, precision, machine, max_tokens)]), longest
        ),
        outputs=add([outputs, _per_sequence(architecture, machine, max_outputs)]),
        keys=tuple(_slower(price(Batch(many, 0.0, one(window)), _is_attention), longest) for window in windows),
        pairs=tuple(_slower(price(Batch(many, 0.0, {}, one(window)), _is_attention), longest) for window in windows),
        prefill=Amount({OVERHEAD: architecture.layer_count * float(stack.prefill_layer_overhead)}),
        floor=HostFloor(float(stack.host_floor), float(stack.host_norm)),
    )


def _is_attention(operation: Operation) -> bool:
    return isinstance(operation, Attention)


def _is_head(operation: Operation) -> bool:
    return operation.name == "head"


def _is_of_layers(operation: Operation) -> bool:
    return not (_is_attention(operation) or _is_head(operation))


def _slower(amount: Amount, factor: float) -> Amount:
    """The same work in `factor` times the time."""
    seconds = {name: value * factor for name, value in amount.seconds.items()}
    return Amount(seconds, amount.flops, amount.bytes, amount.sent)


def _nothing_without_tokens(amount: Amount) -> Amount:
    """Row 0 of a table costs nothing."""

    def cleared(values: dict[str, Array]) -> dict[str, Array]:
        return {name: np.where(np.arange(np.size(value)) > 0, value, 0.0) for name, value in values.items()}

    rows = max((np.size(value) for value in amount.seconds.values()), default=1)
    sent = np.where(np.arange(rows) > 0, amount.sent, 0.0)
    return Amount(cleared(amount.seconds), cleared(amount.flops), cleared(amount.bytes), sent)


def _per_layer(architecture: Architecture, precision: Precision, machine: Machine, max_tokens: int) -> Amount:
    """Overheads of layers and of the step, for any number of tokens but none."""
    stack = machine.stack
    per_layer = float(stack.layer_overhead) + float(stack.thread_overhead) * machine.cores
    seconds = float(stack.step_overhead) + architecture.layer_count * per_layer
    if stack.expert_overhead:
        sparse = sum(layer.count for layer in architecture.layers if isinstance(layer.ffn, MoEFFN))
        if sparse:
            what = "overhead of expert layers"
            seconds += sparse * of_format(stack.expert_overhead, precision.format_of("expert"), stack.name, what)
    return Amount({OVERHEAD: np.where(np.arange(max_tokens + 1) > 0, seconds, 0.0)})


def _per_sequence(architecture: Architecture, machine: Machine, max_outputs: int) -> Amount:
    """Overheads of emitting sequences; each data-parallel copy has a serving loop of its own."""
    stack = machine.stack
    each = (
        float(stack.sequence_overhead)
        + float(stack.vocabulary_overhead) * architecture.vocab_size
        + float(stack.sequence_layer_overhead) * architecture.layer_count
    )
    return Amount({OVERHEAD: each / machine.parallelism.dp * np.arange(max_outputs + 1)})


def marginal_joules(amount: Amount, machine: Machine) -> Array:
    """Joules of one chip above idle and active power: FLOPs, bytes of each tier, bytes sent."""
    power = machine.profile.chip.power
    joules: Array = 0.0
    for name, flops in amount.flops.items():
        joules = joules + flops * float(power.flop[name])
    if machine.memory.energy is not None:
        joules = joules + sum(amount.bytes.values(), 0.0) * float(machine.memory.energy)
    if power.link is not None:
        joules = joules + amount.sent * float(power.link)
    return joules
