"""What a replica keeps in memory, and how many tokens of KV cache are left: the capacity sheet."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from simulator.cost.machine import Machine
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import ACTIVATION_BYTES
from simulator.quantity import format_quantity

LIVE_COPIES = 8.0
"""Hidden-sized values alive at once per token of a step: residual, norm, query-key-value, attention, FFN in and out
(estimated; vLLM measures the peak of a dummy step instead)."""

LOGIT_BYTES = 4.0


@dataclass(frozen=True)
class CapacitySheet:
    """Bytes on one chip by what they hold, against its memory; blocks are of a whole replica."""

    machine: str
    model: str
    layout: str
    tier: str
    capacity: float
    available: float  # capacity * usable * memory_utilization
    held: dict[str, float]
    kv_bytes_per_token: float
    block_size: int
    kv_blocks: int
    kv_fixed_blocks: int

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache of a replica holds."""
        return self.kv_blocks * self.block_size

    def text(self) -> str:
        """The sheet, one line a row."""
        lines = [f"{self.model} on {self.machine} ({self.layout}), one chip, {self.tier}:"]
        rows = [*self.held.items(), ("in all", sum(self.held.values())), ("available", self.available)]
        rows += [("left for KV cache", self.available - sum(self.held.values())), ("capacity", self.capacity)]
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
    """Lay a replica out in its chips' main memory.

    Raise CapacityError with the sheet when weights and activations leave no room for a single block.
    """
    layout, tier = machine.parallelism, machine.memory
    held = {name: size for name, size in architecture.weight_bytes_per_chip(precision, layout).items() if size}
    held["activations"] = max_tokens / layout.dp * architecture.hidden_size * ACTIVATION_BYTES * LIVE_COPIES
    held["logits"] = max_outputs / layout.dp * ceil(architecture.vocab_size / layout.tp) * LOGIT_BYTES
    available = float(tier.capacity) * float(tier.usable) * memory_utilization
    left = available - sum(held.values())
    per_token = architecture.kv_bytes_per_token(precision, layout)
    per_sequence = architecture.kv_bytes_per_sequence(precision, layout)
    # Where nothing grows with the context, a sequence is one block.
    block = block_size * per_token or per_sequence
    sheet = CapacitySheet(
        machine=machine.profile.name,
        model=architecture.name,
        layout=str(layout),
        tier=tier.tier,
        capacity=float(tier.capacity),
        available=available,
        held=held,
        kv_bytes_per_token=per_token,
        block_size=block_size if per_token else architecture.max_context,
        kv_blocks=max(0, int(left / block)) * layout.dp,
        kv_fixed_blocks=ceil(per_sequence / block) if per_token else 0,
    )
    if sheet.kv_blocks <= sheet.kv_fixed_blocks:
        chips = f"{layout.chips} of {machine.nodes * machine.profile.node.chips} chips"
        raise CapacityError(
            f"{architecture.name} does not fit '{machine.profile.name}' on {chips}; use more chips (tp, pp), a smaller "
            f"`precision`, other `limits`, or a machine with more memory\n{sheet.text()}"
        )
    return sheet
