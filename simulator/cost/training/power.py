"""What a training run draws: chip, node and facility."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.step import StepTime


@dataclass(frozen=True)
class Power:
    """Watts of the whole run: chips alone, nodes with their hosts, facility with cooling. `throttled`: chips whose
    work would draw more than their limit are held at it (the stack's plateau was measured that way)."""

    chips: float
    nodes: float
    facility: float
    throttled: bool


def run_power(step: StepTime, machine: TrainingMachine) -> Power:
    """Mean over a step and over the stages: min(limit, idle + active * busy + sum of FLOP/s * J/FLOP).

    A chip counts as busy while it computes or waits for a collective (its kernels spin), not in a bubble.
    """
    power = machine.profile.chip.power
    total = 0.0
    throttled = False
    for stage in step.stages:
        busy = min(1.0, (step.micro_batches * stage.both + step.optimizer + step.gradients) / step.seconds)
        flops = {name: work * step.micro_batches / step.seconds for name, work in stage.flops.items()}
        wanted = float(power.idle) + float(power.active) * busy
        wanted += sum(rate * float(power.flop[name]) for name, rate in flops.items())
        throttled = throttled or wanted > float(power.cap)
        total += min(float(power.cap), wanted)
    chips = total / len(step.stages) * machine.chips
    node = machine.profile.node
    nodes = chips + machine.chips / node.chips * float(node.power.base)
    return Power(chips, nodes, nodes * float(node.power.pue), throttled)
