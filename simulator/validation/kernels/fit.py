"""`python -m simulator.validation.kernels.fit LIBRARY`: the numbers of a kernel library, from tables of single kernels.

Of each kernel on each chip, robust least squares (robust.py) over the rows that it serves, from its present numbers.
The library's YAML is printed, or with --write put in its place, each kernel with its rows, residual and the date.
`ramwise validate --kernels --leave-out chip` fits products on the other chips: what to expect of one that nobody timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simulator.errors import InputError
from simulator.quantity import format_quantity
from simulator.stack.library import FOLDER, library_names
from simulator.validation.kernels.fitting import FIXED, HOST, Job, fit
from simulator.validation.kernels.kind import KERNEL_TABLES
from simulator.validation.rows import header

ON = "on"  # which YAML 1.1 takes for a truth value


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


def _text(value: float, unit: str | None) -> str | float:
    return format_quantity(value, unit) if unit else float(f"{value:.3g}")


def _figures(errors: np.ndarray) -> str:
    size = np.abs(errors)
    median, p90, bias = np.median(size), np.quantile(size, 0.9), np.median(errors)
    return f"median error {100 * median:.1f} %, 90th percentile {100 * p90:.1f} %, bias {100 * bias:+.1f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.kernels.fit", description="Fit a library.")
    parser.add_argument("library", choices=library_names())
    parser.add_argument("--files", nargs="*", type=Path, default=(), help="CSV files; the shipped ones when left out")
    parser.add_argument("--write", action="store_true", help="put the YAML in its place instead of printing it")
    given = parser.parse_args(arguments)
    try:
        text = fitted(given.library, given.files)
    except InputError as error:
        raise SystemExit(f"fit: {error}") from None
    if given.write:
        (FOLDER / f"{given.library}.yaml").write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
