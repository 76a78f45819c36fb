"""Tables of collectives: NCCL, the serving engines' own all-reduces, and networks of whole machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from simulator.cost.collective import collective_seconds, group_seconds
from simulator.hardware.profile import Profile
from simulator.model.number_format import FORMATS
from simulator.model.operation import Collective
from simulator.stack.library import ChipKernels
from simulator.validation.kernels.rows import SHIPPED, KernelRow, device_entry
from simulator.validation.kernels.table import KernelTable, Slot, column, format_of


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
        size = self.sizes(rows)
        keys = [(_pattern(row.cells), int(row.number("num_gpus"))) for row in rows]
        for key in set(keys):
            chosen = np.array([other == key for other in keys])
            pattern, chips = key
            fabric = profile.node.fabric
            found[chosen] = collective_seconds(pattern, size[chosen], chips, fabric, kernels.collectives)
        return found

    def sizes(self, rows: Sequence[KernelRow]) -> np.ndarray:
        """Bytes of each message."""
        return column(rows, "message_size") * [FORMATS[format_of(row.cells[self.format])].bytes for row in rows]


class CustomAllReduce(NcclCalls):
    """custom_allreduce_*.csv: the serving engines' own kernels; message_size counts elements. Without a captured graph
    the time between launches is the least that one takes, and the message is copied first: graphs register the buffers
    that peers read."""

    columns = frozenset({"allreduce_dtype", "num_gpus", "message_size", "backend", "latency"})
    shipped = (SHIPPED / "custom_allreduce.csv.gz",)
    shape: ClassVar[tuple[str, ...]] = ("num_gpus", "message_size", "kernel_source")
    format = "allreduce_dtype"

    COPYING: ClassVar[float] = 0.88
    """Share of the memory's bandwidth at which a buffer is copied: read once, written once (eager less captured calls
    of 64 MiB and more: 0.86 on A100, 0.90 on H100, 0.88 on B200)."""

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        """A library with kernels of its own."""
        own = kernels.collectives is not None and kernels.collectives.one_shot is not None
        return ("collectives", "") if own else None

    def metric(self, cells: Mapping[str, str]) -> str:
        return "engine all_reduce, eager" if _eager(cells) else "engine all_reduce"

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        eager = np.array([_eager(row.cells) for row in rows])
        copied = 2.0 * self.sizes(rows) / (self.COPYING * float(profile.chip.main_memory.bandwidth))
        seconds = super().seconds(rows, slot, kernels, profile)
        return np.where(eager, np.maximum(seconds + copied, float(kernels.host or 0.0)), seconds)


def _pattern(cells: Mapping[str, str]) -> str:
    return cells.get("coll", "all_reduce").replace("alltoall", "all_to_all")


def _eager(cells: Mapping[str, str]) -> bool:
    return cells.get("kernel_source", "").endswith("eager")


class Networks(KernelTable):
    """vidur's networks/*/all_reduce.csv and send_recv.csv: size counts bytes; the folder names the machine."""

    columns = frozenset({"collective", "num_workers", "devices_per_node", "size"})
    shipped = (SHIPPED / "network.csv.gz",)
    shape = ("collective", "num_workers", "devices_per_node", "size")
    numbers = ("num_workers", "devices_per_node", "size")

    SHORT: ClassVar[float] = 2.0**20
    """Messages below hold the launch of the host: 7, 28 or 60 us for neighbouring sizes."""
    KEPT: ClassVar[int] = 9
    """Of so many neighbouring sizes one is shipped."""

    @staticmethod
    def prepared(cells: dict[str, str], path: Path) -> dict[str, str]:
        """Median times of NCCL, the folder's name as the device."""
        took = cells.get(f"time_stats.{cells.get('collective')}.median", "")
        filled = {"latency": took, "device": path.parent.name, "kernel_source": "NCCL in vidur"}
        return {**cells, **{name: cells.get(name) or text for name, text in filled.items()}}

    @classmethod
    def kept(cls, cells: Mapping[str, str]) -> bool:
        """Some of those that say something."""
        known = device_entry(cells["device"]) is not None
        return known and not _unlike(cells) and int(float(cells["size"])) // 2048 % cls.KEPT == 0

    def refused(self, row: KernelRow) -> str:
        """Short messages, and networks that are not the profile's."""
        return _unlike(row.cells)

    def metric(self, cells: Mapping[str, str]) -> str:
        """What a row's figures are kept under."""
        far = float(cells.get("num_workers") or 0) > float(cells.get("devices_per_node") or 0)
        return f"network {_wire_pattern(cells)}{' between machines' if far else ''}"

    def entry(self, row: KernelRow, kernels: ChipKernels) -> tuple[str, str] | None:
        """NCCL."""
        return ("collectives", "") if kernels.collectives else None

    def seconds(self, rows: Sequence[KernelRow], slot: Slot, kernels: ChipKernels, profile: Profile) -> np.ndarray:
        """Groups inside a machine, or spread evenly over several."""
        assert kernels.collectives is not None
        found, size = np.zeros(len(rows)), column(rows, "size")
        chips, inside = (column(rows, name).astype(int) for name in ("num_workers", "devices_per_node"))
        patterns = np.array([_wire_pattern(row.cells) for row in rows])
        for pattern, n, i in {*zip(patterns.tolist(), chips.tolist(), inside.tolist(), strict=True)}:
            chosen = (patterns == pattern) & (chips == n) & (inside == i)
            # The other chips of a machine are silent: a machine of i chips.
            alone = profile.model_copy(update={"node": profile.node.model_copy(update={"chips": i})})
            found[chosen] = group_seconds(Collective("", pattern, size[chosen], n), alone, kernels.collectives)
        return found


def _wire_pattern(cells: Mapping[str, str]) -> str:
    return cells.get("collective", "").replace("send_recv", "send_receive")


def _unlike(cells: Mapping[str, str]) -> str:
    """Why a row says nothing of its profile's network; nothing when it does."""
    entry = device_entry(cells["device"]) or {}
    chips, inside = float(cells["num_workers"]), float(cells["devices_per_node"])
    if float(cells["size"]) < Networks.SHORT:
        return "a short message, whose time is the host's launch"
    if chips < float(entry.get("least_chips") or 0):
        return "chips with a bridge between them, which the profile lacks"
    if chips > inside and entry.get("machines") == "1":
        return "machines joined by another network than the profile's"
    return ""
