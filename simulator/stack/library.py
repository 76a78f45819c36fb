"""Kernel libraries: what single kernels of a dated software reach on a chip, timed one by one and cold.

A stack's numbers are of whole steps and hold every launch and gap; a library's numbers are of one call. Both price
products, collectives and attention by the same functions of cost/.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simulator.errors import StackError, unknown
from simulator.provenance import Block
from simulator.quantity import Bandwidth, Fraction, Known, Label, Ratio, Seconds, quantity
from simulator.stack.parameters import NONE, Collectives, Order, Overhead
from simulator.yaml_source import read_yaml, validate

Factor = Annotated[Known, quantity("", zero=True)]
Count = Annotated[int, Field(gt=0)]
FREE = Known(1e30)
FOLDER = Path(__file__).resolve().parent / "libraries"


class ProductKernel(Block):
    """A matrix product (cost/product.py). Fractions are of the profile's peaks."""

    launch: Overhead = Field(description="Fixed time of one call, quantisation of the activations included.")
    plateau: Fraction = Field(description="Share of peak FLOP/s of large products.")
    streaming: Fraction = Field(description="Share of peak bandwidth.")
    overlap: Order = Field(description="p of the p-norm that joins compute and memory.")
    unit_bandwidth: Bandwidth = Field(FREE, description="What one unit draws of the memory.")
    wave: Overhead = Field(Known(0.2e-6), description="Per wave of tiles: fill and drain.")
    quantise_traffic: Factor = Field(NONE, description="Bytes that quantisation moves for each activation.")
    shapes: tuple[tuple[Count, Count], ...] | None = Field(None, description="Tiles, in the profile's smallest one.")
    splits: tuple[Count, ...] | None = Field(None, description="Parts that k is cut into.")


class AttentionKernel(Block):
    """Which calls it serves: those that agree with everything stated."""

    kv: tuple[str, ...] | None = Field(None, description="Number formats of the cache.")
    query: tuple[str, ...] | None = Field(None, description="Number formats of queries.")
    group: tuple[Count, ...] | None = Field(None, description="Query heads for each key-value head.")
    width: tuple[Count, ...] | None = Field(None, description="Widths of a head.")
    window: bool | None = Field(None, description="With a window, or without.")
    kernel: tuple[str, ...] | None = Field(None, description="What the tables call the kernel.")

    def serves(self, *, kv: str, query: str, group: int, width: int, window: bool, kernel: str) -> bool:
        """Whether it serves such a call."""
        call = {"kv": kv, "query": query, "group": group, "width": width, "window": window, "kernel": kernel}
        stated = {name: getattr(self, name) for name in call}
        return all(
            wanted is None or (call[name] in wanted if isinstance(wanted, tuple) else call[name] == wanted)
            for name, wanted in stated.items()
        )


class PrefillKernel(AttentionKernel):
    """Attention of prompts, with the kernels around it (cost/attention_kernel.py)."""

    launch: Overhead
    plateau: Fraction = Field(description="Share of the 16-bit peak, whatever the format.")
    query_traffic: Factor = Field(description="Passes over queries through the memory.")
    key_traffic: Factor = Field(description="Passes over keys and values through the memory.")
    overlap: Order


class DecodeKernel(AttentionKernel):
    """Attention of one query token a sequence (cost/attention_kernel.py)."""

    launch: Overhead
    streaming: Fraction
    split_overhead: Overhead = Field(NONE, description="More, when the keys of a sequence are split over units.")
    block_bandwidth: Bandwidth = Field(FREE, description="What one block of threads draws.")
    wave: Overhead = Field(description="Of each wave of blocks.")
    overlap: Order
    chunk: Count = Field(256, description="Least keys of a split.")
    occupancy: Ratio = Field(Known(4.0), description="Blocks on a unit at once.")
    splits: bool = True
    packed: bool = Field(True, description="One block serves all query heads of a key-value head.")
    reread: Ratio | None = Field(
        None, description="Rate at which query heads read keys again, in HBM's; absent: never."
    )


class ExpertKernel(Block):
    """A fused mixture-of-experts FFN (cost/expert_kernel.py)."""

    launch: Overhead
    per_doubling: Overhead = Field(NONE, description="Per doubling of routed tokens: sort, align, permute.")
    streaming: Fraction
    plateau: Ratio = Field(description="Share of peak; above 1 where traffic beside it takes the rest of the blame.")
    row_traffic: Factor = Field(description="Passes over the hidden values of a row.")
    inner_traffic: Factor = Field(NONE, description="Passes over the inner values of a row.")
    slot_traffic: Factor = Field(NONE, description="Passes over hidden values of all routed tokens, local or not.")
    slot_inner_traffic: Factor = Field(NONE, description="Passes over inner values of the same.")
    overlap: Order


class ChipKernels(Block):
    """The kernels on one chip; products and experts by number format."""

    products: dict[str, ProductKernel] = Field(default_factory=dict)
    prefill: tuple[PrefillKernel, ...] = ()
    decode: tuple[DecodeKernel, ...] = ()
    experts: dict[str, ExpertKernel] = Field(default_factory=dict)
    collectives: Collectives | None = None
    host: Seconds | None = Field(None, description="Time between launches when no graph was captured.")


class Library(Block):
    """A dated kernel library, by the chip's name; `default` holds for a chip that it was never timed on."""

    name: str
    title: str
    date: str
    label: Label
    source: str = Field(min_length=1)
    on: dict[str, ChipKernels] = Field(min_length=1)


def library_names() -> list[str]:
    """All libraries."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load_library(name: str) -> Library:
    """The library of that name. Raise StackError with everything that is wrong."""
    if name not in library_names():
        raise StackError(unknown("kernel library", name, library_names()))
    source = read_yaml(FOLDER / f"{name}.yaml", error=StackError)
    library: Library = validate(Library, source, error=StackError)
    return library
