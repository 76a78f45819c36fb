"""Rows of machines with several kinds of memory: a GPU in a CPU node, weights in the host's DRAM."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from simulator.cost.automatic import automatic
from simulator.cost.machine import Machine
from simulator.cost.place import Place, Placement
from simulator.errors import ProfileError
from simulator.hardware.host import with_host
from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture
from simulator.model.ffn import FFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.number_format import Precision
from simulator.validation import aliases
from simulator.validation.rows import Row

_TOGETHER = re.compile(r"(?P<host>.+?)(?:-(?P<sockets>\d)s)? \+ (?:(?P<count>\d+)x )?(?P<chip>.+)")
_HOST_MEMORY = re.compile(r"(?P<chip>.+) \+ host dram(/ssd)?")
_EXPERTS = re.compile(r"\b(\d+) experts\b")

Named = Callable[[str], Profile | None]


def chip_of(hardware: str) -> str:
    """The words for the chip: without the memory of its host, which every profile has."""
    found = _HOST_MEMORY.fullmatch(aliases.plain(hardware))
    return found["chip"] if found else hardware


def joined(hardware: str, named: Named) -> Profile | None:
    """ "xeon-6454s-2s + 1x rtx4090": the chips in the CPU node with so many sockets; None where it is no such pair."""
    found = _TOGETHER.fullmatch(aliases.plain(hardware))
    if found is None:
        return None
    sockets = found["sockets"]
    whole = f"{found['host']}-{sockets}s" if sockets else found["host"]
    host = next((profile for profile in map(named, (whole, f"{found['host']}-2s", found["host"])) if profile), None)
    chip = named(found["chip"])
    if host is None or chip is None:
        return None
    try:
        return with_host(chip, host, int(sockets) if sockets else None)
    except ProfileError:
        return None


def chips_in(hardware: str) -> int | None:
    """How many chips a CPU node holds in such words."""
    found = _TOGETHER.fullmatch(aliases.plain(hardware))
    return int(found["count"] or 1) if found else None


def with_experts(architecture: Architecture, row: Row) -> Architecture:
    """The model as the row runs it: "6 experts" for a token instead of its own number."""
    found = _EXPERTS.search(row.parallelism)
    if not found:
        return architecture
    changed = with_top_k(architecture, lambda _: int(found[1]))
    return (
        architecture
        if changed.layers == architecture.layers
        else replace(changed, name=f"{architecture.name} with {found[1]} experts")
    )


def with_top_k(architecture: Architecture, count: Callable[[int], int]) -> Architecture:
    """The model with count(its own number) experts for a token."""

    def changed(ffn: FFN | None) -> FFN | None:
        return replace(ffn, top_k=count(ffn.top_k)) if isinstance(ffn, MoEFFN) else ffn

    return replace(architecture, layers=tuple(replace(layer, ffn=changed(layer.ffn)) for layer in architecture.layers))


def placed(
    machine: Machine, architecture: Architecture, precision: Precision, row: Row, batch: float, tokens: float
) -> Machine | None:
    """The machine with its tensors where the row says they lie: in the main memory where it says nothing. None where a
    host computes that the row does not name.

    A CPU node's stack places the experts itself. Words of FlexGen and DeepSpeed: "weights offloaded to cpu", "KV cache
    offloaded to CPU DRAM", "lowest memory tier used: cpu" (what does not fit the chip). Tables of expert offloading:
    the experts that do not fit.
    """
    note = row.note.lower()
    far = next((name for name, tier in machine.tiers.items() if tier.far and name == "ddr"), None)
    if far is None:
        return machine
    if machine.profile.host is not None:
        return machine
    below = Place({far: 1.0})
    if "ollama" in row.engine:
        return None
    if "weights offloaded to cpu" in note or ("zero-inference" in row.engine and "tier used: cpu" in note):
        places = dict.fromkeys(("attention", "ffn", "expert"), below)
        if "kv cache offloaded" in note:
            places["kv"] = below
        return replace(machine, placement=Placement(places))
    if "lowest memory tier used: cpu" in note or "expert offloading to host" in note:
        need = batch * tokens
        room = float(machine.memory.capacity) * float(machine.memory.usable)
        cache = need * architecture.kv_bytes_per_token(precision, machine.parallelism)
        start = replace(machine, placement=Placement({"kv": below})) if cache > room / 2 else machine
        return automatic(
            architecture,
            precision,
            start,
            memory_utilization=0.9,
            max_tokens=1,
            max_outputs=max(1, int(batch)),
            kv_tokens=0.0 if cache > room / 2 else need,
        )
    return machine
