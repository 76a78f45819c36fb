"""Measurements of single kernels: products, attention, experts and collectives, each against its own form.

The columns of a table tell its kind. What a library reaches on a chip is data (stack/libraries/), picked by the source
that a row names; a chip that the library was never timed on takes its `default`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from simulator.cost.attention_kernel import Heads, decode_seconds, prefill_seconds
from simulator.cost.collective import collective_seconds
from simulator.cost.expert_kernel import Experts, expert_seconds
from simulator.cost.product_kernel import product_seconds
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.model.number_format import FORMATS
from simulator.stack.library import AttentionKernel, ChipKernels, load_library
from simulator.validation.compare import Place, Point
from simulator.validation.kernel_rows import SHIPPED, KernelRow, device_profile, library_of, read_kernel_rows
from simulator.validation.kernel_skew import balanced, skewed
from simulator.validation.rows import Row

FORMAT = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "fp8_block": "fp8"}
"""Number formats as the tables call them -> as ramwise does: what is stored and computed in."""

MS = 1e-3


class Slot(NamedTuple):
    """Where the numbers of a kernel stand: library, chip (an entry of its `on`), table of that, entry of the table."""

    library: str
    chip: str
    table: str
    entry: str


class Call(NamedTuple):
    """What a row needs to be priced."""

    profile: Profile
    slot: Slot
    kernels: ChipKernels


class KernelTable(ABC):
    """A kind of kernel table (see kinds.Kind)."""

    columns: ClassVar[frozenset[str]]
    shipped: ClassVar[tuple[Path, ...]]
    shape: ClassVar[tuple[str, ...]]
    """Columns that tell people one call from another."""
    numbers: ClassVar[tuple[str, ...]]
    """Columns that must be numbers."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._catalogue = Catalogue(folders)
        self._places: dict[tuple[str, str], tuple[Place, Profile | None]] = {}

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files. Raise MeasurementError."""
        return [row for path in files for row in read_kernel_rows(path, self.metric, self.shape, self.numbers)]

    def place(self, row: Row) -> Place:
        """Family, library and profile of a row."""
        return self._located(_kernel_row(row))[0]

    def _located(self, row: KernelRow) -> tuple[Place, Profile | None]:
        key = row.hardware, row.engine
        if key not in self._places:
            name, library = device_profile(row), library_of(row)
            profile = self._catalogue.load(name) if name else None
            self._places[key] = Place(profile.family if profile else "-", library or "-", name), profile
        return self._places[key]

    def points(self, rows: Sequence[Row]) -> list[Point]:
        """Every row with what its form says, or why it says nothing."""
        groups, reasons = self.calls(rows)
        seconds = {
            row.id: float(value)
            for call, members in groups
            for row, value in zip(members, self.seconds(members, call.slot, call.kernels, call.profile), strict=True)
        }
        return [self.point(row, seconds.get(row.id), reasons) for row in rows]

    def point(self, row: Row, seconds: float | None, reasons: Mapping[str, str]) -> Point:
        """A row with its time, or the reason why it has none."""
        family, library, _ = self.place(row)
        return Point(row, family, library, None if seconds is None else seconds / MS, reasons.get(row.id, ""))

    def calls(self, rows: Sequence[Row]) -> tuple[list[tuple[Call, list[KernelRow]]], dict[str, str]]:
        """Rows that one kernel on one chip serves, together; and the reasons of those that none does, by row id."""
        groups: dict[tuple[str, Slot], tuple[Call, list[KernelRow]]] = {}
        reasons: dict[str, str] = {}
        for row in map(_kernel_row, rows):
            (_, library, name), profile = self._located(row)
            if profile is None or library == "-":
                reasons[row.id] = (
                    "no profile of the device" if profile is None else f"no kernel library of {row.engine}"
                )
                continue
            of_library = load_library(library)
            chip = profile.chip.name if profile.chip.name in of_library.on else "default"
            kernels = of_library.on.get(chip)
            entry = self.entry(row, kernels) if kernels else None
            if kernels is None or entry is None:
                reasons[row.id] = f"library {library} has no {row.metric} of this kind on {profile.chip.name}"
                continue
            slot = Slot(library, chip, *entry)
            groups.setdefault((name or "", slot), (Call(profile, slot, kernels), []))[1].append(row)
        return list(groups.values()), reasons

    @abstractmethod
    def metric(self, cells: Mapping[str, str]) -> str:
        """What a row's figures are kept under."""

    @abstractmethod
    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        """Table and entry of the kernels that serve a row."""

    @abstractmethod
    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        """Seconds of each row; `slot` serves all of them."""


def _kernel_row(row: Row) -> KernelRow:
    assert isinstance(row, KernelRow)
    return row


def _column(rows: Sequence[KernelRow], name: str) -> np.ndarray:
    return np.array([row.number(name) for row in rows])


def _format(text: str) -> str:
    return FORMAT.get(text, text)


def _peak(profile: Profile, format: str) -> float:
    """FLOP/s in which a chip multiplies values stored in a format."""
    peaks = profile.chip.matrix.peak
    return float(next(peaks[name] for name in FORMATS[format].compute if name in peaks))


class Products(KernelTable):
    """gemm_*.csv: m tokens, [k, n] weights."""

    columns = frozenset({"gemm_dtype", "m", "n", "k", "latency", "device"})
    shipped = (SHIPPED / "gemm.csv.gz",)
    shape = ("m", "n", "k", "gemm_dtype")
    numbers = ("m", "n", "k")

    def metric(self, cells: Mapping[str, str]) -> str:
        return f"gemm {_format(cells.get('gemm_dtype', ''))}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        name = _format(row.cells["gemm_dtype"])
        return ("products", name) if name in kernels.products else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        m, n, k = (_column(rows, name) for name in "mnk")
        kernel, weight = kernels.products[slot.entry], FORMATS[slot.entry].bytes
        return product_seconds(m, n, k, weight, _peak(profile, slot.entry), kernel, profile)


class AttentionCalls(KernelTable):
    """context_attention_*.csv and generation_attention_*.csv: isl new tokens over `step` cached ones."""

    columns = frozenset(
        {"batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "latency", "device"}
    )
    shipped = (SHIPPED / "attention.csv.gz",)
    shape = (
        "batch_size",
        "isl",
        "step",
        "num_heads",
        "num_key_value_heads",
        "head_dim",
        "window_size",
        "kv_cache_dtype",
    )
    numbers = shape[:6]

    def metric(self, cells: Mapping[str, str]) -> str:
        decode = float(cells.get("isl") or 0) == 1 and float(cells.get("step") or 0) >= 1
        return f"{'decode' if decode else 'prefill'} attention"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        decode = row.metric.startswith("decode")
        if not decode and row.number("step"):
            return None
        table: Sequence[AttentionKernel] = kernels.decode if decode else kernels.prefill
        found = next((place for place, kernel in enumerate(table) if _serves(kernel, row)), None)
        return None if found is None else ("decode" if decode else "prefill", str(found))

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        formats = [_format(row.cells["kv_cache_dtype"]) for row in rows]
        heads = Heads(
            batch=_column(rows, "batch_size"),
            query=_column(rows, "num_heads"),
            key=_column(rows, "num_key_value_heads"),
            width=_column(rows, "head_dim"),
            key_bytes=np.array([FORMATS[name].bytes for name in formats]),
            window=_column(rows, "window_size"),
        )
        if slot.table == "decode":
            return np.asarray(
                decode_seconds(heads, _column(rows, "step") + 1, kernels.decode[int(slot.entry)], profile)
            )
        return np.asarray(prefill_seconds(heads, _column(rows, "isl"), kernels.prefill[int(slot.entry)], profile))


def _serves(kernel: AttentionKernel, row: KernelRow) -> bool:
    return kernel.serves(
        kv=_format(row.cells["kv_cache_dtype"]),
        query=_format(row.cells.get("attn_dtype", "")),
        group=int(row.number("num_heads") / row.number("num_key_value_heads")),
        width=int(row.number("head_dim")),
        window=row.number("window_size") > 0,
        kernel=row.cells.get("kernel_source", ""),
    )


class ExpertCalls(KernelTable):
    """moe_*.csv: the fused experts of the slowest rank, without dispatch and combine."""

    columns = frozenset(
        {"moe_dtype", "num_tokens", "num_experts", "topk", "moe_tp_size", "moe_ep_size", "latency", "device"}
    )
    shape = (
        "num_tokens",
        "hidden_size",
        "inter_size",
        "topk",
        "num_experts",
        "moe_tp_size",
        "moe_ep_size",
        "distribution",
    )
    shipped = (SHIPPED / "moe.csv.gz",)
    numbers = shape[:-1]

    def metric(self, cells: Mapping[str, str]) -> str:
        return f"moe {cells.get('moe_dtype', '').replace('bfloat16', 'bf16')}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        name = row.metric.removeprefix("moe ")
        return ("experts", name) if name in kernels.experts else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        spread = np.array([_spread(row) for row in rows])
        tokens, hidden, inter, top_k, experts, tp, ranks = (_column(rows, name) for name in self.numbers)
        work = Experts(tokens, hidden, inter / tp, top_k, experts, ranks, spread[:, 0], spread[:, 1])
        stored = _format(slot.entry)
        peak = _peak(profile, stored)
        return np.asarray(expert_seconds(work, FORMATS[stored].bytes, peak, kernels.experts[slot.entry], profile))


def _spread(row: KernelRow) -> tuple[float, float]:
    names = ("num_tokens", "topk", "num_experts", "moe_ep_size")
    sizes = tuple(int(row.number(name)) for name in names)
    distribution = row.cells.get("distribution", "")
    if distribution.startswith("power_law_"):
        return skewed(float(distribution.removeprefix("power_law_")), *sizes)
    return balanced(*sizes)


class NcclCalls(KernelTable):
    """nccl_*.csv: message_size counts elements."""

    columns = frozenset({"nccl_dtype", "num_gpus", "message_size", "coll", "latency"})
    shipped = (SHIPPED / "nccl.csv.gz",)
    shape: ClassVar[tuple[str, ...]] = ("coll", "num_gpus", "message_size", "nccl_dtype")
    numbers = ("num_gpus", "message_size")
    format: ClassVar[str] = "nccl_dtype"

    def metric(self, cells: Mapping[str, str]) -> str:
        return f"nccl {_pattern(cells)}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        return ("collectives", "") if kernels.collectives else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        assert kernels.collectives is not None
        found = np.zeros(len(rows))
        size = _column(rows, "message_size") * [FORMATS[_format(row.cells[self.format])].bytes for row in rows]
        keys = [(_pattern(row.cells), int(row.number("num_gpus"))) for row in rows]
        for key in set(keys):
            chosen = np.array([other == key for other in keys])
            pattern, chips = key
            fabric = profile.node.fabric
            found[chosen] = collective_seconds(pattern, size[chosen], chips, fabric, kernels.collectives)
        return found


class CustomAllReduce(NcclCalls):
    """custom_allreduce_*.csv: the serving engines' own kernels; message_size counts elements. Without a captured graph
    the time between launches is the least that one takes."""

    columns = frozenset({"allreduce_dtype", "num_gpus", "message_size", "backend", "latency"})
    shipped = (SHIPPED / "custom_allreduce.csv.gz",)
    shape: ClassVar[tuple[str, ...]] = ("num_gpus", "message_size", "kernel_source")
    format = "allreduce_dtype"

    def metric(self, cells: Mapping[str, str]) -> str:
        return "engine all_reduce, eager" if _eager(cells) else "engine all_reduce"

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        host = float(kernels.host or 0.0) * np.array([_eager(row.cells) for row in rows])
        return np.asarray(np.maximum(super().seconds(rows, slot, kernels, profile), host))


def _pattern(cells: Mapping[str, str]) -> str:
    return cells.get("coll", "all_reduce").replace("alltoall", "all_to_all")


def _eager(cells: Mapping[str, str]) -> bool:
    return cells.get("kernel_source", "").endswith("eager")


KERNEL_TABLES: dict[str, type[KernelTable]] = {
    "gemm": Products,
    "attention": AttentionCalls,
    "moe": ExpertCalls,
    "nccl": NcclCalls,
    "custom all-reduce": CustomAllReduce,
}
