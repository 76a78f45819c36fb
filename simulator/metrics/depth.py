"""What runs of groups of layers took and drew, added up: the events of tokens of different depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.cost.amount import Amount, add
from simulator.cost.energy import joules_above_idle
from simulator.cost.layer_groups import run_seconds
from simulator.cost.machine import Machine
from simulator.metrics.usage import POWER, Usage


def depth_usage(runs: Sequence[Sequence[int]], amounts: Sequence[Amount], machine: Machine, replicas: int = 1) -> Usage:
    """Sums over all runs of so many replicas alike: runs[group][tokens] of them, each of which took
    amounts[group][tokens]. Per chip, added over those that groups have of their own; joules leave out idle power, as of
    every usage."""
    total = Usage()
    parts: list[Amount] = []
    for counts, table in zip(runs, amounts, strict=True):
        count, seconds = replicas * np.asarray(counts, dtype=float), np.asarray(run_seconds(table, machine))
        limited = Amount({POWER: seconds - np.asarray(table.total_seconds)})
        parts.append(add([table, limited]).times(count))
        total.busy_s += float((count * seconds).sum())
        joules, factor = joules_above_idle(table, np.maximum(seconds, 1e-300), machine)
        for name, value in joules.items():
            total.joules[name] = total.joules.get(name, 0.0) + float(np.sum(value * factor * count))
    whole = add(parts)
    for into, values in ((total.seconds, whole.seconds), (total.flops, whole.flops), (total.bytes, whole.bytes)):
        into.update({name: float(np.sum(value)) for name, value in values.items()})
    total.phase_s["decode"] = total.busy_s
    total.phase_joules["decode"] = sum(total.joules.values())
    total.phase_flops["decode"], total.phase_bytes["decode"] = sum(total.flops.values()), sum(total.bytes.values())
    return total
