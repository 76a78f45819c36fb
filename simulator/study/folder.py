"""The folder that a study leaves: points.jsonl (results by content), table.parquet and .csv, study.json, plots."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import OutputError
from simulator.report.charts import save
from simulator.report.result import plain, version
from simulator.report.study_charts import draw_metrics
from simulator.study.store import STORE

if TYPE_CHECKING:
    from simulator.study.sweep import Sweep


def check(out: Path) -> Path:
    """The folder, if a study may write there. Raise OutputError for a file or a folder that holds other things."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file, not a folder; choose another one with --out DIR")
    ours = any((out / name).is_file() for name in (STORE, "study.json"))
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise OutputError(f"'{out}' is not empty and holds no study (no {STORE}); choose another one with --out DIR")
    return out


def write(found: Sweep, file: Path, out: Path, plots: bool = True) -> None:
    """Write the tables, a copy of the study, its figures and the plots. Raise OutputError.

    Every file is written beside its place and then put there, so that a stop leaves the old one or the new one.
    """
    document = {
        "study": found.name,
        "version": version(),
        "rows": len(found.table),
        "failed": len(found.failed),
        "keys": found.keys,
        "metrics": list(found.study.shown),
        "ahead": {metric: plain(table.to_dict(orient="records")) for metric, table in found.rankings().items()},
        "errors": sorted(set(found.failed["error"])),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _put(out / "study.json", lambda path: path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8"))
        _put(out / "study.yaml", lambda path: shutil.copyfile(file, path))
        _put(out / "table.csv", lambda path: found.table.to_csv(path, index=False))
        _put(out / "table.parquet", lambda path: found.table.to_parquet(path, index=False))
        drawn = draw_metrics(found.means(), found.keys, found.study.shown) if plots else None
        if drawn is not None:
            (out / "plots").mkdir(exist_ok=True)
            save(drawn, out / "plots" / "metrics")
    except OSError as error:
        raise OutputError(f"cannot write to '{out}': {error.strerror or error}; choose another --out DIR") from None


def _put(place: Path, write_to: Callable[[Path], object]) -> None:
    beside = place.with_name(f".{place.name}.part")
    write_to(beside)
    os.replace(beside, place)
