"""What messages between chips come to for each output token: bytes on links and through the middle, time, joules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulator.cost.amount import Amount
from simulator.cost.bisection import bandwidth
from simulator.cost.machine import Machine
from simulator.model.operation import Array

SUMS = ("_per_output_token", "_per_output_token_j")
"""Ends of the figures that add up over machines that work on the same tokens."""


def message_summary(
    work: Amount, network_s: Array, busy_s: Array, span_s: Array, tokens: Array, machine: Machine
) -> dict[str, Any]:
    """Of what one chip of a replica did in `busy_s` of `span_s` seconds, `network_s` of them for messages, while the
    replica emitted `tokens` tokens (sums over replicas are as good; arrays describe many runs):

        link_bytes_per_output_token, PATTERN_bytes_per_output_token    chips * sent / tokens
        bisection_bytes_per_output_token     crossed / tokens: from one half of the replica's chips to the other
        bisection_utilisation                crossed / span / the profile's bandwidth through the middle
        network_share                        network / busy
        network_energy_per_output_token_j    PUE * chips * (sent * J/B of a link, where the profile has it
                                             + network * (idle + the chip's part of its node)) / tokens
    """
    chip, node, chips = machine.profile.chip, machine.profile.node, machine.parallelism.chips
    some = np.maximum(tokens, 1e-300)
    sent = {pattern: chips * part / some for pattern, part in work.sent.items()}
    waiting = network_s * (float(chip.power.idle) + float(node.power.base) / node.chips)
    joules = sum(work.sent.values(), 0.0) * float(chip.power.link or 0.0) + waiting
    return {
        "link_bytes_per_output_token": sum(sent.values(), 0.0 * some),
        **{f"{pattern}_bytes_per_output_token": part for pattern, part in sent.items()},
        "bisection_bytes_per_output_token": work.crossed / some,
        "bisection_utilisation": work.crossed / np.maximum(span_s, 1e-300) / bandwidth(machine),
        "network_share": network_s / np.maximum(busy_s, 1e-300),
        "network_energy_per_output_token_j": float(node.power.pue) * chips * joules / some,
    }


def messages_together(pools: list[Mapping[str, float]]) -> dict[str, float]:
    """The sums over pools of what adds up."""
    names = dict.fromkeys(name for pool in pools for name in pool if name.endswith(SUMS))
    return {name: sum(pool.get(name, 0.0) for pool in pools) for name in names}
