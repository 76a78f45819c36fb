"""What lies in the host's memory crosses the link of each chip: activations leave in the forward pass and come back in
the backward one; gradients go down and weights come up around the host's optimiser."""

from __future__ import annotations

from simulator.cost.training.machine import TrainingMachine

KEPT_LAYERS = 2.0
"""Layers whose activations are on the chip: the one that computes, and the one that moves."""


def streamed(compute: float, moved: float) -> float:
    """Seconds of a pass that moves layer after layer beside it, with room for KEPT_LAYERS: the longer of the two."""
    return max(compute, moved)


def left_after(moved: float, compute: float, layers: float) -> float:
    """Seconds of a transfer that are left when a pass ends that gives it up layer by layer: the last layer's part, or
    all that did not fit beside the pass after its first layer. max(m/L, c/L + m - c)"""
    return max(moved / layers, compute / layers + moved - compute)


def host_update_seconds(
    parameters: float, gradient: float, weight: float, updated: float, backward: float, layers: float,
    machine: TrainingMachine,
) -> float:  # fmt: skip
    """After the last backward pass (of `backward` seconds and so many layers): what is left of the gradients' way down,
    the optimiser on the host, the weights' way up (ZeRO-Offload, Ren et al. 2021).

    gradient, weight, updated: bytes of a parameter that go down, come up, and that the optimiser reads and writes.
    """
    down, up = (parameters * each / machine.host_link for each in (gradient, weight))
    update = parameters * updated * machine.profile.node.chips / float(machine.host.bandwidth)
    return left_after(down, backward, max(1.0, layers)) + update + up
