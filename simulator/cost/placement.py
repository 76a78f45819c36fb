"""What a replica keeps in each tier of memory, and how many tokens of KV cache are left: the capacity sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from simulator.cost.machine import Machine
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import ACTIVATION_BYTES, Parallelism
from simulator.quantity import format_quantity

LIVE_COPIES = 8.0
"""Hidden-sized values alive at once per token of a step: residual, norm, query-key-value, attention, FFN in and out
(estimated; vLLM measures the peak of a dummy step instead)."""

LOGIT_BYTES = 4.0

SWAP = "kv swap space"

SCRATCH = ("activations", "logits")
"""What the class `activation` means."""


@dataclass(frozen=True)
class TierSheet:
    """What one chip keeps in one tier, by what it is."""

    tier: str
    capacity: float
    available: float  # capacity * usable, of the chip's own tiers * memory_utilization
    held: dict[str, float]

    @property
    def left(self) -> float:
        """Bytes left, below zero where more is placed here than fits."""
        return self.available - sum(self.held.values())


@dataclass(frozen=True)
class CapacitySheet:
    """Bytes on one chip by what they hold, the main memory first, then other tiers that hold something; blocks are of
    a whole replica."""

    machine: str
    model: str
    layout: str
    tiers: tuple[TierSheet, ...]
    kv_bytes_per_token: float
    block_size: int
    kv_blocks: int
    kv_fixed_blocks: int
    kv_shares: Mapping[str, float]
    kv_block_bytes: float = 0.0  # of a block on one chip
    kv_swap_blocks: int = 0  # in another tier, for sequences that wait

    @property
    def held(self) -> dict[str, float]:
        """What the main memory holds."""
        return self.tiers[0].held

    @property
    def available(self) -> float:
        """Bytes of the main memory that may be used."""
        return self.tiers[0].available

    @property
    def held_by_tier(self) -> dict[str, dict[str, float]]:
        """Tier -> what it holds -> bytes on one chip."""
        return {tier.tier: dict(tier.held) for tier in self.tiers}

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache of a replica holds."""
        return self.kv_blocks * self.block_size

    def kv_tokens_over(self, stages: int) -> int:
        """The same when the layers lie in equal stages, each on so many chips: the weights are there once."""
        grown = [(stages * t.available - sum(t.held.values())) / t.left for t in self.tiers if t.tier in self.kv_shares]
        return int(self.kv_tokens * min(grown, default=float(stages)))

    def text(self) -> str:
        """The sheet, one line a row."""
        lines = []
        for tier in self.tiers:
            head = f"{self.model} on {self.machine} ({self.layout}), one chip, " if tier is self.tiers[0] else "and "
            lines.append(f"{head}{tier.tier}:")
            rows = [*tier.held.items(), ("in all", sum(tier.held.values())), ("available", tier.available)]
            left = "left for KV cache" if tier.tier in self.kv_shares else "left"
            rows += [(left, tier.left), ("capacity", tier.capacity)]
            lines += [f"  {name:<18}{format_quantity(value, 'B'):>12}" for name, value in rows]
        lines.append(f"  KV cache of a token{format_quantity(self.kv_bytes_per_token, 'B'):>11}")
        return "\n".join(lines)


def capacity(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    *,
    memory_utilization: float,
    block_size: int,
    max_tokens: int,
    max_outputs: int,
) -> CapacitySheet:
    """Lay a replica out in the tiers that its machine's placement names, in the chips' main memory where it names none.

    Raise CapacityError with the sheet when a tier is too small, or leaves no room for a single block of cache,
    to hold or to swap.
    """
    layout = machine.parallelism
    tiers = _laid_out(architecture, precision, machine, memory_utilization, max_tokens, max_outputs)
    shares = {tier.name: share for tier, share in machine.parts("kv")}
    per_token = architecture.kv_bytes_per_token(precision, layout)
    per_sequence = architecture.kv_bytes_per_sequence(precision, layout)
    # Where nothing grows with the context, a sequence is one block.
    block = block_size * per_token or per_sequence
    blocks = min(max(0, int(tier.left / (block * shares[tier.tier]))) for tier in tiers if tier.tier in shares)
    swap_blocks = sum(int(tier.held.get(SWAP, 0.0) / block) for tier in tiers)
    sheet = CapacitySheet(
        machine=machine.profile.name,
        model=architecture.name,
        layout=str(layout),
        tiers=tiers,
        kv_bytes_per_token=per_token,
        block_size=block_size if per_token else architecture.max_context,
        kv_blocks=blocks * layout.dp,
        kv_fixed_blocks=ceil(per_sequence / block) if per_token else 0,
        kv_shares=shares,
        kv_block_bytes=block,
        kv_swap_blocks=swap_blocks * layout.dp,
    )
    if sheet.kv_blocks <= sheet.kv_fixed_blocks or any(tier.left < 0 for tier in tiers):
        chips = f"{layout.chips} of {machine.nodes * machine.profile.node.chips} chips"
        heavy = any(tier.held.get("activations", 0.0) > sum(tier.held.values()) / 2 for tier in tiers)
        limits = "a smaller `limits.max_num_batched_tokens` (activations take most)" if heavy else "other `limits`"
        mend = f"use more chips (tp, pp), a smaller `precision`, {limits}, or a machine with more memory"
        if len(machine.tiers) > 1:
            mend += f"; or place tensors in another tier ({', '.join(machine.tiers)}), `placement: auto` for short"
        raise CapacityError(
            f"{architecture.name} does not fit '{machine.profile.name}' on {chips}; {mend}\n{sheet.text()}"
        )
    if swap_blocks == 0 and any(SWAP in tier.held for tier in tiers):
        what = f"the swap space on '{machine.profile.name}' holds no block of cache of {format_quantity(block, 'B')}"
        raise CapacityError(f"{what}; give it more, or leave `swap` out\n{sheet.text()}")
    return sheet


def held_bytes(
    architecture: Architecture, precision: Precision, layout: Parallelism, max_tokens: int, max_outputs: int
) -> dict[str, float]:
    """What one chip holds beside the KV cache: weights by tensor class, then activations and logits."""
    held = {name: size for name, size in architecture.weight_bytes_per_chip(precision, layout).items() if size}
    held["activations"] = max_tokens / layout.dp * architecture.hidden_size * ACTIVATION_BYTES * LIVE_COPIES
    held["logits"] = max_outputs / layout.dp * ceil(architecture.vocab_size / layout.tp) * LOGIT_BYTES
    return held


def _laid_out(
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    memory_utilization: float,
    max_tokens: int,
    max_outputs: int,
) -> tuple[TierSheet, ...]:
    """A sheet of the main memory and of every other tier that holds something."""
    held: dict[str, dict[str, float]] = {name: {} for name in machine.tiers}
    weights = held_bytes(architecture, precision, machine.parallelism, max_tokens, max_outputs)
    for tensor, size in weights.items():
        for tier, share in machine.parts("activation" if tensor in SCRATCH else tensor):
            held[tier.name][tensor] = size * share
    for tensor, place in machine.placement.places.items():
        if place.near is not None:
            held[place.near.tier][f"{tensor} cache"] = place.near.share * weights.get(tensor, 0.0)
    cache = machine.placement.of("kv")
    if cache is not None and cache.swap is not None:
        there, wished = cache.swap.tier, cache.swap.size
        room = machine.tiers[there].capacity - sum(held[there].values())
        held[there][SWAP] = max(0.0, room) if wished is None else wished
    kv = {tier.name for tier, _ in machine.parts("kv")}
    main = machine.memory.tier
    sheets = []
    for name in sorted(machine.tiers, key=lambda name: name != main):
        tier = machine.tiers[name]
        if held[name] or name in kv or name == main:
            share = 1.0 if tier.far else memory_utilization
            full = float(tier.memory.capacity) if name == main else tier.capacity
            sheets.append(TierSheet(name, full, tier.capacity * share, held[name]))
    return tuple(sheets)
