"""`python -m simulator.validation.fit_kernels LIBRARY`: the numbers of a kernel library, from tables of single kernels.

Of each kernel on each chip, robust least squares (robust.py) over the rows that it serves, from its present numbers.
The library's YAML is printed, or with --write put in its place, each kernel with its rows, residual and the date.
`ramwise validate --kernels --leave-out chip` fits products on the other chips: what to expect of one that nobody timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simulator.errors import InputError
from simulator.provenance import Block
from simulator.quantity import Known, format_quantity
from simulator.stack.library import FOLDER, ChipKernels, library_names
from simulator.validation.kernel_rows import KernelRow
from simulator.validation.kernels import KERNEL_TABLES, MS, Call, KernelTable
from simulator.validation.robust import minimum
from simulator.validation.rows import header

SPREAD = 0.6
"""How far, as a logarithm, a number is expected to lie from its present value."""

FIXED = ("occupancy", "kernel_limit")
SHARES = ("plateau", "streaming", "bandwidth", "one_shot_bandwidth", "two_shot_bandwidth", "in_switch_bandwidth")
MOST = 0.99
"""No fitted share of a peak comes closer to it."""

HOST = "host"
ON = "on"  # which YAML 1.1 takes for a truth value


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


def jobs(library: str, files: Sequence[Path] = ()) -> list[Job]:
    """Every kernel of a library that has rows, of `files` or of the shipped tables."""
    found = []
    for kind in KERNEL_TABLES.values():
        paths = [path for path in files if kind.columns <= header(path)] if files else kind.shipped
        table = kind()
        groups, _ = table.calls(table.rows(paths))
        found += [Job(table, call, rows) for call, rows in groups if call.slot.library == library]
    if not found:
        raise InputError(f"no rows of library '{library}'")
    return found


def fit(members: Sequence[Job], names: Sequence[str]) -> dict[str, float]:
    """The numbers `names` that fit all jobs best, from the present ones of the first."""
    start = [float(members[0].value(name) or 0.0) for name in names]
    measured = np.concatenate([job.measured for job in members])

    def errors(x: np.ndarray) -> np.ndarray:
        numbers = dict(zip(names, (start * np.exp(x)).tolist(), strict=True))
        return np.asarray(np.log(np.concatenate([job.seconds(numbers) for job in members]) / measured))

    below_one = {name for name in names if name in SHARES and not _may_exceed(members[0], name)}
    limits = [log(MOST / value) if name in below_one else 3.0 for name, value in zip(names, start, strict=True)]
    x = minimum(errors, np.maximum(limits, 1e-4), SPREAD)
    if "overlap" in names:  # an exponent below 1 is no norm
        place = list(names).index("overlap")
        x[place] = max(x[place], -log(start[place]))
    return dict(zip(names, (start * np.exp(x)).tolist(), strict=True))


def fitted(library: str, files: Sequence[Path] = (), today: date | None = None) -> str:
    """The library's YAML with new numbers; what it takes from another library stays there."""
    document: dict[Any, Any] = yaml.safe_load((FOLDER / f"{library}.yaml").read_text(encoding="utf-8"))
    document = {ON if key is True else key: value for key, value in document.items()}
    for job in jobs(library, files):
        slot = job.call.slot
        chip = document[ON].get(slot.chip, {})
        stated = chip.get(slot.table)
        if stated is None or slot.chip == "default":
            continue
        entry = stated[int(slot.entry)] if isinstance(stated, list) else stated[slot.entry] if slot.entry else stated
        names = [name for name in entry if name not in FIXED and (job.value(name) or 0.0) > 0.0]
        names += [HOST] if slot.table == "collectives" and HOST in chip else []
        numbers = fit([job], names)
        for name, value in numbers.items():
            known = job.value(name)
            (chip if name == HOST else entry)[name] = _text(value, known.unit if known else None)
        entry["source"] = f"fit of {today or date.today()} to {len(job.rows):,} rows: {_figures(job.errors(numbers))}"
    text: str = yaml.dump(document, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True)
    return text.replace(f"'{ON}':", f"{ON}:")


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


def _text(value: float, unit: str | None) -> str | float:
    return format_quantity(value, unit) if unit else float(f"{value:.3g}")


def _figures(errors: np.ndarray) -> str:
    size = np.abs(errors)
    median, p90, bias = np.median(size), np.quantile(size, 0.9), np.median(errors)
    return f"median error {100 * median:.1f} %, 90th percentile {100 * p90:.1f} %, bias {100 * bias:+.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.fit_kernels", description="Fit a library.")
    parser.add_argument("library", choices=library_names())
    parser.add_argument("--files", nargs="*", type=Path, default=(), help="CSV files; the shipped ones when left out")
    parser.add_argument("--write", action="store_true", help="put the YAML in its place instead of printing it")
    given = parser.parse_args(arguments)
    try:
        text = fitted(given.library, given.files)
    except InputError as error:
        raise SystemExit(f"fit_kernels: {error}") from None
    if given.write:
        (FOLDER / f"{given.library}.yaml").write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
