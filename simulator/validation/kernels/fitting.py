"""The numbers of one kernel from timed calls: robust least squares (robust.py) from its present numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from simulator.provenance import Block
from simulator.quantity import Known
from simulator.stack.library import ChipKernels
from simulator.validation.kernels.rows import KernelRow
from simulator.validation.kernels.table import MS, Call, KernelTable
from simulator.validation.robust import LOWEST, minimum

SPREAD = 0.6
"""How far, as a logarithm, a number is expected to lie from its present value."""

FIXED = ("occupancy", "kernel_limit")
SHARES = (
    "plateau",
    "streaming",
    "bandwidth",
    "one_shot_bandwidth",
    "two_shot_bandwidth",
    "in_switch_bandwidth",
    "scale_out_bandwidth",
    "pipelining",
)
MOST = 0.99
"""No fitted share of a peak comes closer to it."""

HOST = "host"


@dataclass(frozen=True)
class Job:
    """One kernel of a library on a chip, with the rows that it serves."""

    table: KernelTable
    call: Call
    rows: list[KernelRow]

    @property
    def measured(self) -> np.ndarray:
        """Seconds."""
        return np.array([row.value for row in self.rows]) * MS

    @property
    def kernel(self) -> Block:
        """Its present numbers."""
        return _entry(self.call.kernels, self.call)

    def seconds(self, numbers: Mapping[str, float]) -> np.ndarray:
        """Of each row, with these numbers in the place of its present ones."""
        kernels = _with_numbers(self.call.kernels, self.call, numbers)
        return self.table.seconds(self.rows, self.call.slot, kernels, self.call.profile)

    def errors(self, numbers: Mapping[str, float]) -> np.ndarray:
        """simulated / measured - 1."""
        return np.asarray(self.seconds(numbers) / self.measured - 1.0)

    def value(self, name: str) -> Known | None:
        """A number of the kernel, if it is one."""
        found = self.call.kernels.host if name == HOST else getattr(self.kernel, name, None)
        return found if isinstance(found, Known) else None


def fit(members: Sequence[Job], names: Sequence[str]) -> dict[str, float]:
    """The numbers `names` that fit all jobs best, from the present ones of the first."""
    start = [float(members[0].value(name) or 0.0) for name in names]
    measured = np.concatenate([job.measured for job in members])

    def errors(x: np.ndarray) -> np.ndarray:
        numbers = dict(zip(names, (start * np.exp(x)).tolist(), strict=True))
        return np.asarray(np.log(np.concatenate([job.seconds(numbers) for job in members]) / measured))

    below_one = {name for name in names if name in SHARES and not _may_exceed(members[0], name)}
    limits = [log(MOST / value) if name in below_one else 3.0 for name, value in zip(names, start, strict=True)]
    # An exponent below 1 is no norm.
    lowest = [-log(value) if name == "overlap" else LOWEST for name, value in zip(names, start, strict=True)]
    x = minimum(errors, np.maximum(limits, 1e-4), SPREAD, np.array(lowest))
    return dict(zip(names, (start * np.exp(x)).tolist(), strict=True))


def _may_exceed(job: Job, name: str) -> bool:
    """Whether a share may be above 1, as its schema says."""
    return job.call.slot.table == "experts" and name == "plateau"


def _entry(kernels: ChipKernels, call: Call) -> Block:
    table: Any = getattr(kernels, call.slot.table)
    entry = table[int(call.slot.entry)] if isinstance(table, tuple) else table
    found: Block = entry[call.slot.entry] if isinstance(entry, dict) else entry
    return found


def _with_numbers(kernels: ChipKernels, call: Call, numbers: Mapping[str, float]) -> ChipKernels:
    table: Any = getattr(kernels, call.slot.table)
    known = {name: Known(value) for name, value in numbers.items()}
    kernel = _entry(kernels, call).model_copy(update={name: x for name, x in known.items() if name != HOST})
    if isinstance(table, dict):
        table = {**table, call.slot.entry: kernel}
    elif isinstance(table, tuple):
        table = tuple(kernel if str(place) == call.slot.entry else old for place, old in enumerate(table))
    else:
        table = kernel
    update = {call.slot.table: table}
    return kernels.model_copy(update=update | ({HOST: known[HOST]} if HOST in known else {}))
