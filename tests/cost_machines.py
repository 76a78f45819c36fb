"""Machines of the catalogue with numbers exchanged, and what a step of theirs takes."""

from __future__ import annotations

from typing import Any

from simulator.cost.machine import Machine
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.ticks import TICKS_PER_SECOND
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.operation import Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

CATALOGUE, STACKS = Catalogue(), Stacks()


def changed(block: Any, path: str, value: Any) -> Any:
    """A copy of a frozen profile or stack with the number at 'chip.memory.1.bandwidth' exchanged."""
    head, _, rest = path.partition(".")
    if isinstance(block, tuple):
        items = list(block)
        items[int(head)] = changed(items[int(head)], rest, value)
        return tuple(items)
    if isinstance(block, dict):
        return {**block, head: value}
    return block.model_copy(update={head: changed(getattr(block, head), rest, value) if rest else value})


def machine(hardware: str = "h100-sxm-8", tp: int = 1, stack: str | None = None, **changes: Any) -> Machine:
    """A machine of the catalogue; changes by path with '__' for '.', those of the stack under 'stack__'."""
    profile = CATALOGUE.load(hardware)
    software = STACKS.load(stack or profile.default_stack)
    for path, value in changes.items():
        name = path.replace("__", ".")
        if name.startswith("stack."):
            software = changed(software, name.removeprefix("stack."), value)
        else:
            profile = changed(profile, name, value)
    return Machine(profile, software, Parallelism(tp=tp))


H100 = machine()
BANDWIDTH, PEAK = 3.35e12, 989.4e12  # of an H100
STREAMING, PLATEAU = float(H100.stack.streaming["bf16"]), float(H100.stack.matmul["bf16"])
ACTIVATIONS, KEYS = float(H100.stack.activation_streaming), float(H100.stack.kv_streaming)


def square(m: Any, d: int = 8192) -> Matmul:
    return Matmul("product", m, d, d, "bf16", "ffn")


def step_s(chips: Machine, model: str, tokens: int, keys: int = 0, pairs: int | None = None) -> float:
    """Seconds of one step of `tokens` tokens; a decode step when there are no pairs."""
    table = StepTable(step_cost(load_model(model), Precision(), chips, tokens, tokens), chips)
    outputs = tokens if pairs is None else 1
    ((_, ticks, _),) = table.pieces(tokens, outputs, [(keys, 0)], None if pairs is None else [(pairs, 0)], 1)
    return ticks / TICKS_PER_SECOND
