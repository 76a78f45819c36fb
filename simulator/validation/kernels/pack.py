"""`python -m simulator.validation.kernels.pack FOLDER`: tables of single kernels, compact, into the package.

Of each kind one .csv.gz with the columns that its form needs; rows in the order of the files' names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from simulator.validation.kernels.kind import KERNEL_TABLES
from simulator.validation.kernels.rows import records, write_table
from simulator.validation.rows import header

ALSO = ("device", "version", "kernel_source", "attn_dtype", "kv_cache_dtype", "latency")
"""Columns that more than one kind needs beside its own."""


def pack(folder: Path) -> list[Path]:
    """Write the shipped file of every kind that has tables in the folder; the files written."""
    written = []
    paths = sorted(folder.rglob("*.csv"))
    for kind in KERNEL_TABLES.values():
        found: list[dict[str, str]] = []
        for path in paths:
            if kind.columns <= header(path):
                found += [cells for _, cells in records(path, kind.prepared) if kind.kept(cells)]
        if found:
            wanted = dict.fromkeys((*ALSO[:3], *kind.shape, *sorted(kind.columns), *ALSO[3:]))
            columns = [name for name in wanted if any(cells.get(name) for cells in found)]
            target = kind.shipped[0]
            target.parent.mkdir(parents=True, exist_ok=True)
            write_table(found, columns, target)
            written.append(target)
    return written


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.kernels.pack", description=pack.__doc__)
    parser.add_argument("folder", type=Path)
    for path in pack(parser.parse_args(arguments).folder):
        print(f"{path.stat().st_size:>9,} bytes  {path}")


if __name__ == "__main__":
    main()
