"""What bounds a machine, and what it draws: time shares, shares of peaks, joules. Functions of records and costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.cost.amount import NETWORK, OVERHEAD, Amount, add
from simulator.cost.energy import joules_above_idle
from simulator.cost.host import HOST
from simulator.cost.machine import Machine
from simulator.cost.moved import Moved, moved_by_tensor
from simulator.cost.step import StepCost
from simulator.engine.records import RunRecords, SegmentRecords
from simulator.metrics.messages import message_summary
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Batch

POWER = "power"
"""Time that a step takes longer because the chip is at its power limit."""

SHARING = "sharing"
"""Time that a step takes longer because other replicas read the same memory, or keep the same host busy."""

ROWS_AT_ONCE = 100_000
"""Segments that are costed in one go, so that memory stays bounded."""

PHASES = ("prefill", "decode")


@dataclass
class Usage:
    """Sums over a run, per chip and added over replicas. Seconds and joules by component; FLOPs by format, bytes by
    tier, those sent by pattern; crossed: of a replica; `phase` holds the same for prefill and decode apart."""

    busy_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    crossed: float = 0.0
    phase_s: dict[str, float] = field(default_factory=dict)
    phase_joules: dict[str, float] = field(default_factory=dict)
    phase_flops: dict[str, float] = field(default_factory=dict)
    phase_bytes: dict[str, float] = field(default_factory=dict)


def usage(records: RunRecords, cost: StepCost, machine: Machine) -> Usage:
    """Add up what every segment cost.

    In a step that holds both phases, decode gets what the step would have cost without its prompt tokens, prefill the
    rest. Joules leave out idle power; where active power and marginal joules together exceed the limit, all of them
    shrink to it.
    """
    total = Usage()
    for block in _blocks(records.steps):
        _add_block(total, block, cost, machine)
    return total


@dataclass(frozen=True)
class _Rows:
    steps: np.ndarray
    decoding: np.ndarray
    prefill: np.ndarray
    outputs: np.ndarray
    busy_s: np.ndarray
    keys: np.ndarray
    pairs: np.ndarray
    swapped: np.ndarray


def _blocks(steps: SegmentRecords) -> Iterator[_Rows]:
    seconds = steps.seconds
    for start in range(0, len(steps.steps), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        yield _Rows(
            steps.steps[part].astype(np.int64),
            steps.decoding[part],
            steps.prefill_tokens[part],
            steps.outputs[part],
            seconds[part],
            steps.keys[part],
            steps.pairs[part],
            steps.swapped_blocks[part],
        )


def _amount(rows: _Rows, cost: StepCost, tokens: np.ndarray, outputs: np.ndarray, prompts: bool) -> Amount:
    """Cost of each row with that many tokens and outputs a step, with or without its prompt chunks. A row is a straight
    line in its steps, so what it waits for prefetches is that of its mean step."""
    keys, pairs = (list((part / rows.steps[:, None]).T) for part in (rows.keys, rows.pairs))
    prompt = prompts & (rows.prefill > 0)
    parts = [cost.tokens.at(tokens).times(rows.steps), cost.outputs.at(outputs).times(rows.steps)]
    parts += [price.at(outputs).times(rows.keys[:, index]) for index, price in enumerate(cost.keys)]
    if prompts:
        parts += [price.times(rows.pairs[:, index]) for index, price in enumerate(cost.pairs)]
        parts.append(cost.prefill.at(tokens).times(rows.steps * (rows.prefill > 0)))
        parts.append(cost.waiting(tokens, keys, pairs).times(rows.steps * prompt))
    parts += [cost.waiting(tokens, keys).times(rows.steps * ~prompt), cost.swap.times(rows.swapped)]
    return add(parts)


def _add_block(total: Usage, rows: _Rows, cost: StepCost, machine: Machine) -> None:
    whole = _amount(rows, cost, rows.decoding + rows.prefill, rows.outputs, True)
    decode = _amount(rows, cost, rows.decoding, np.minimum(rows.decoding, rows.outputs), False)
    work = whole.total_seconds
    longer = np.maximum(rows.busy_s - work, 0.0)
    host = rows.steps * cost.joined(work / rows.steps, rows.prefill > 0)
    waits = np.where(rows.busy_s <= host * (1 + 1e-3), longer, np.minimum(longer, host - work))  # for the host
    seconds = dict(whole.seconds)
    seconds[OVERHEAD] = seconds.get(OVERHEAD, 0.0) + waits
    slowed = SHARING if machine.contended else POWER
    seconds[slowed] = np.where(longer - waits > 1e-6 * work, longer - waits, 0.0)
    joules, factor = joules_above_idle(whole, rows.busy_s, machine)
    at_work = _at_work(machine, rows.decoding, rows.prefill)
    factor = factor * at_work  # the limit is of a chip that works, the sums are the mean of all chips
    whole, decode = whole.of_chips(at_work), decode.of_chips(at_work)
    share = np.where(rows.prefill > 0, decode.total_seconds / np.maximum(work, 1e-300), 1.0)
    total.busy_s += float(rows.busy_s.sum())
    total.crossed += float(np.sum(whole.crossed))
    for into, values in (
        (total.seconds, seconds),
        (total.flops, whole.flops),
        (total.bytes, whole.bytes),
        (total.sent, whole.sent),
    ):
        for name, value in values.items():
            into[name] = into.get(name, 0.0) + float(np.sum(value))
    for name, value in joules.items():
        total.joules[name] = total.joules.get(name, 0.0) + float(np.sum(value * factor))
    drawn = sum(joules.values(), np.zeros(len(rows.steps))) * factor
    for into, all_of, of_decode in (
        (total.phase_s, rows.busy_s, rows.busy_s * share),
        (total.phase_joules, drawn, drawn * share),
        (total.phase_flops, _all(whole.flops, rows), _all(decode.flops, rows)),
        (total.phase_bytes, _all(whole.bytes, rows), _all(decode.bytes, rows)),
    ):
        into["decode"] = into.get("decode", 0.0) + float(np.sum(of_decode))
        into["prefill"] = into.get("prefill", 0.0) + float(np.sum(all_of - of_decode))


def _at_work(machine: Machine, decoding: np.ndarray, prefill: np.ndarray) -> np.ndarray:
    """Share of the chips that work at a time, in each row."""
    return np.asarray(machine.parallelism.at_work(decoding + prefill))


def _all(values: dict[str, Any], rows: _Rows) -> Any:
    return sum(values.values(), np.zeros(len(rows.steps)))


def usage_summary(
    total: Usage, machine: Machine, replicas: int, makespan_s: float, output_tokens: int
) -> dict[str, Any]:
    """The keys of a run's summary that say what bounds the machine and what it draws.

    mfu, mbu: modelled FLOPs over peak, modelled bytes over peak bandwidth, both over the whole makespan. Energy is of
    the chips in use, their share of the node's base power, and cooling (PUE); chips of a node that no replica uses are
    not counted.
    """
    chip, node = machine.profile.chip, machine.profile.node
    chips = machine.parallelism.chips
    span = makespan_s * replicas
    peaks: dict[str, float] = {name: float(peak) for name, peak in chip.matrix.peak.items()}
    at_peak = sum(flops / peaks[name] for name, flops in total.flops.items())
    moved = total.bytes.get(machine.memory.tier, 0.0)
    joules = {name: value * chips for name, value in total.joules.items()}
    joules["idle"] = float(chip.power.idle) * span * chips
    joules["host"] = float(node.power.base) * span * chips / node.chips
    host = machine.profile.host
    if host is not None:
        working = total.seconds.get(HOST, 0.0) + total.seconds.get(host.chip.main_memory.tier, 0.0)
        idle = float(host.chip.power.idle) * span * chips / node.chips
        joules["host"] += host.node.chips * (idle + float(host.chip.power.active) * working)
    joules["cooling"] = (float(node.power.pue) - 1.0) * sum(joules.values())
    energy = sum(joules.values())
    busy = sum(total.seconds.values())
    above = (energy - sum(total.joules.values()) * chips) if energy else 0.0
    return {
        "mfu": at_peak / span,
        "mbu": moved / float(machine.memory.bandwidth) / span,
        "utilisation": total.busy_s / span,
        "average_power_w": energy / makespan_s,
        "energy_j": energy,
        "energy_per_output_token_j": energy / output_tokens if output_tokens else None,
        "energy_by_component_j": {name: value for name, value in joules.items() if value > 0},
        "energy_by_phase_j": {
            **{phase: total.phase_joules.get(phase, 0.0) * chips for phase in PHASES},
            "idle": above,
        },
        "messages": _messages(total, machine, span, output_tokens) if chips > 1 and output_tokens else None,
        "bound_by": {name: value / busy for name, value in total.seconds.items() if value > 0} if busy else None,
        "roofline": {
            "peak_flops": max(_used_peaks(total, peaks), default=max(peaks.values())) * chips,
            "bandwidth": float(machine.memory.bandwidth) * chips,
            "points": [
                {
                    "phase": phase,
                    "intensity_flop_per_byte": total.phase_flops[phase] / total.phase_bytes[phase],
                    "flops_per_s": total.phase_flops[phase] / total.phase_s[phase] * chips,
                }
                for phase in PHASES
                if total.phase_s.get(phase, 0.0) > 0 and total.phase_bytes.get(phase, 0.0) > 0
            ],
        },
    }


def _messages(total: Usage, machine: Machine, span: float, output_tokens: int) -> dict[str, float]:
    work = Amount(sent=dict(total.sent), crossed=total.crossed)
    network = total.seconds.get(NETWORK, 0.0)
    found = message_summary(work, network, total.busy_s, span, float(output_tokens), machine)
    return {name: float(value) for name, value in found.items()}


def moved_summary(
    total: Usage,
    records: RunRecords,
    architecture: Architecture,
    precision: Precision,
    machine: Machine,
    swap: Amount | None = None,
) -> Moved:
    """Tier -> class of tensor -> bytes of all chips for each output token. What a tier moves is summed over the run;
    its tensors share it as in the mean step; swapped caches are no part of that."""
    steps = records.steps
    count = max(1, int(steps.steps.sum()))
    tokens = int(records.requests.output_tokens[records.requests.completed].sum())
    batch = Batch(
        tokens=float((steps.steps * (steps.decoding + steps.prefill_tokens)).sum()) / count,
        outputs=float((steps.steps * steps.outputs).sum()) / count,
        decode_context={w: float(steps.keys[:, i].sum()) / count for i, w in enumerate(records.windows)},
        prefill_pairs={w: float(steps.pairs[:, i].sum()) / count for i, w in enumerate(records.windows)},
    )
    found: Moved = {}
    blocks = steps.swapped_blocks * _at_work(machine, steps.decoding, steps.prefill_tokens)
    swapped = {} if swap is None else swap.times(float(blocks.sum())).bytes
    share = machine.parallelism.chips / tokens if tokens else 0.0
    for tier, parts in moved_by_tensor(architecture, precision, machine, batch).items() if tokens else ():
        moved = total.bytes.get(tier, 0.0) - float(swapped.get(tier, 0.0))
        each = moved * share / max(sum(parts.values()), 1e-300)
        found[tier] = {tensor: part * each for tensor, part in parts.items()}
    for tier, copied in swapped.items():
        if copied:
            into = found.setdefault(tier, {})
            into["kv"] = into.get("kv", 0.0) + float(copied) * share
    return found


def _used_peaks(total: Usage, peaks: dict[str, float]) -> list[float]:
    """Peaks of the formats that did most of the work."""
    most = max(total.flops.values(), default=0.0)
    return [peaks[name] for name, flops in total.flops.items() if flops >= 0.1 * most]
