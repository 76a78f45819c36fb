"""Tables of single kernels that compute, each against its own form, and the dict of all tables of kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from simulator.cost.attention_kernel import Heads, decode_seconds, prefill_seconds
from simulator.cost.expert_kernel import Experts, expert_seconds
from simulator.cost.product_kernel import product_seconds
from simulator.hardware.profile import Profile
from simulator.model.number_format import FORMATS
from simulator.stack.library import AttentionKernel, ChipKernels
from simulator.validation.kernels.collectives import CustomAllReduce, NcclCalls, Networks
from simulator.validation.kernels.rows import SHIPPED, KernelRow
from simulator.validation.kernels.skew import balanced, skewed
from simulator.validation.kernels.table import KernelTable, Slot, column, format_of, peak_of


class Products(KernelTable):
    """gemm_*.csv: m tokens, [k, n] weights."""

    columns = frozenset({"gemm_dtype", "m", "n", "k", "latency", "device"})
    shipped: ClassVar[tuple[Path, ...]] = (SHIPPED / "gemm.csv.gz",)
    shape = ("m", "n", "k", "gemm_dtype")
    numbers = ("m", "n", "k")

    def metric(self, cells: Mapping[str, str]) -> str:
        return f"gemm {format_of(cells.get('gemm_dtype', ''))}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        name = format_of(row.cells["gemm_dtype"])
        return ("products", name) if name in kernels.products else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        m, n, k = (column(rows, name) for name in "mnk")
        kernel, weight = kernels.products[slot.entry], FORMATS[slot.entry].bytes
        return product_seconds(m, n, k, weight, peak_of(profile, slot.entry), kernel, profile)


class AttentionCalls(KernelTable):
    """context_attention_*.csv and generation_attention_*.csv: isl new tokens over `step` cached ones."""

    columns = frozenset(
        {"batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "latency", "device"}
    )
    shipped: ClassVar[tuple[Path, ...]] = (SHIPPED / "attention.csv.gz",)
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
        table: Sequence[AttentionKernel] = kernels.decode if decode else kernels.prefill
        found = next((place for place, kernel in enumerate(table) if _serves(kernel, row)), None)
        return None if found is None else ("decode" if decode else "prefill", str(found))

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        formats = [format_of(row.cells["kv_cache_dtype"]) for row in rows]
        heads = Heads(
            batch=column(rows, "batch_size"),
            query=column(rows, "num_heads"),
            key=column(rows, "num_key_value_heads"),
            width=column(rows, "head_dim"),
            key_bytes=np.array([FORMATS[name].bytes for name in formats]),
            window=column(rows, "window_size"),
        )
        if slot.table == "decode":
            return np.asarray(decode_seconds(heads, column(rows, "step") + 1, kernels.decode[int(slot.entry)], profile))
        length, before = column(rows, "isl"), column(rows, "step")
        return np.asarray(prefill_seconds(heads, length, kernels.prefill[int(slot.entry)], profile, before))


def _serves(kernel: AttentionKernel, row: KernelRow) -> bool:
    return kernel.serves(
        kv=format_of(row.cells["kv_cache_dtype"]),
        query=format_of(row.cells.get("attn_dtype", "")),
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
    shipped: ClassVar[tuple[Path, ...]] = (SHIPPED / "moe.csv.gz",)
    numbers = shape[:-1]

    def metric(self, cells: Mapping[str, str]) -> str:
        return f"moe {cells.get('moe_dtype', '').replace('bfloat16', 'bf16')}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        name = row.metric.removeprefix("moe ")
        return ("experts", name) if name in kernels.experts else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        spread = np.array([spread_of(row) for row in rows])
        tokens, hidden, inter, top_k, experts, tp, ranks = (column(rows, name) for name in self.numbers)
        work = Experts(tokens, hidden, inter / tp, top_k, experts, ranks, spread[:, 0], spread[:, 1])
        stored = format_of(slot.entry)
        peak = peak_of(profile, stored)
        return np.asarray(expert_seconds(work, FORMATS[stored].bytes, peak, kernels.experts[slot.entry], profile))


def spread_of(row: KernelRow) -> tuple[float, float]:
    """Tokens of the slowest rank over the mean, and distinct experts there."""
    names = ("num_tokens", "topk", "num_experts", "moe_ep_size")
    sizes = tuple(int(row.number(name)) for name in names)
    distribution = row.cells.get("distribution", "")
    if distribution.startswith("power_law_"):
        return skewed(float(distribution.removeprefix("power_law_")), *sizes)
    return balanced(*sizes)


KERNEL_TABLES: dict[str, type[KernelTable]] = {
    "gemm": Products,
    "attention": AttentionCalls,
    "moe": ExpertCalls,
    "nccl": NcclCalls,
    "custom all-reduce": CustomAllReduce,
    "network": Networks,
}
