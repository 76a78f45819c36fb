"""Tables of single kernels with the board's power beside the latency: power against the joules of the profile.

    P = min(cap, idle + active + flop * FLOPs / t + energy * bytes / t)      t: the measured latency

So a row checks the energies alone, not the time. Kernels of decode attention draw far less than this says: one active
power, fitted to whole steps of serving, stands for all kernels. A lower one while attention decodes made those steps
worse (joules a token on H100 11 instead of 9 %, on models left out 12 instead of 9 %), so that term stays out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simulator.cost.mean_step import causal_pairs
from simulator.model.number_format import FORMATS
from simulator.validation.compare import Point
from simulator.validation.kernels.kind import AttentionCalls, ExpertCalls, Products, spread_of
from simulator.validation.kernels.rows import KernelRow
from simulator.validation.kernels.table import MS, KernelTable, format_of, kernel_row
from simulator.validation.rows import Row

VALUE_BYTES = 2.0
POWER = frozenset({"power"})


class Powered(KernelTable):
    """A table of kernels with a column `power` in W."""

    def rows(self, files: Sequence[Path]) -> list[Row]:
        """The rows of the files that state a power, which is their value. Raise MeasurementError."""
        found = [kernel_row(row) for row in super().rows(files)]
        powers = [(row, row.number("power")) for row in found]
        return [
            replace(row, value=power, unit="W", metric=f"{row.metric}, power") for row, power in powers if power > 0
        ]

    def points(self, rows: Sequence[Row]) -> list[Point]:
        """Every row with its power, or why it has none."""
        return [self._drawn(kernel_row(row)) for row in rows]

    def _drawn(self, row: KernelRow) -> Point:
        (family, library, _), profile = self._located(row)
        if profile is None:
            return Point(row, family, library, None, "no profile of the device")
        power, seconds = profile.chip.power, row.number("latency") * MS
        format, flops, moved = self.work(row)
        compute = next((name for name in FORMATS[format].compute if name in power.flop), None)
        if compute is None:
            return Point(row, family, library, None, f"no energy of a FLOP for {format}")
        joules = flops * float(power.flop[compute]) + moved * float(profile.chip.main_memory.energy or 0.0)
        watts = float(power.idle) + float(power.active) + joules / seconds
        return Point(row, family, library, min(watts, float(power.cap)))

    @abstractmethod
    def work(self, row: KernelRow) -> tuple[str, float, float]:
        """Number format that is multiplied, FLOPs and bytes of a call."""


class ProductPower(Powered, Products):
    """gemm_*.csv with a power."""

    columns = Products.columns | POWER
    shipped = ()

    def work(self, row: KernelRow) -> tuple[str, float, float]:
        """2 m n k; weights, activations and sums."""
        m, n, k = (row.number(name) for name in "mnk")
        format = format_of(row.cells["gemm_dtype"])
        return format, 2.0 * m * n * k, n * k * FORMATS[format].bytes + m * (n + k) * VALUE_BYTES


class AttentionPower(Powered, AttentionCalls):
    """context_attention_*.csv and generation_attention_*.csv with a power."""

    columns = AttentionCalls.columns | POWER
    shipped = ()

    def work(self, row: KernelRow) -> tuple[str, float, float]:
        """4 heads * width a pair; keys and values (decode), and also queries and sums (prefill)."""
        batch, new, old = (row.number(name) for name in ("batch_size", "isl", "step"))
        heads, kv_heads, width = (row.number(name) for name in ("num_heads", "num_key_value_heads", "head_dim"))
        window = row.number("window_size") or np.inf
        keys = min(new + old, window)
        pairs = batch * (keys if new == 1 else float(causal_pairs(np.array(new), int(min(window, new)))[()]))
        stored = FORMATS[format_of(row.cells["kv_cache_dtype"])].bytes
        moved = batch * 2 * kv_heads * width * stored * (keys if new == 1 else new)
        moved += batch * new * 2 * heads * width * VALUE_BYTES
        return "bf16", 4.0 * pairs * heads * width, moved


class ExpertPower(Powered, ExpertCalls):
    """moe_*.csv with a power."""

    columns = ExpertCalls.columns | POWER
    shipped = ()

    def work(self, row: KernelRow) -> tuple[str, float, float]:
        """6 h i a row of the mean rank; three matrices of every expert that is touched, tokens in and out."""
        names = ("num_tokens", "hidden_size", "inter_size", "topk", "moe_tp_size", "moe_ep_size")
        tokens, hidden, inter, top_k, tp, ranks = (row.number(name) for name in names)
        format = format_of(row.cells["moe_dtype"])
        hot, touched = spread_of(row)
        matrix = 3.0 * hidden * inter / tp
        moved = touched * matrix * FORMATS[format].bytes + 2.0 * tokens * hidden * VALUE_BYTES
        return format, 2.0 * matrix * tokens * top_k / ranks * hot, moved


POWER_TABLES: dict[str, type[KernelTable]] = {
    "gemm power": ProductPower,
    "attention power": AttentionPower,
    "moe power": ExpertPower,
}
