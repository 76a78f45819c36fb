"""The accuracy that was reached: kept beside the code, so that a change that loses some is seen.

`python -m simulator.validation.baseline` measures again and writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

from simulator.validation.compare import figures
from simulator.validation.rows import COLUMNS, Row
from simulator.validation.validation import Validation, validate

PATH = Path(__file__).with_name("baseline.json")
WORSE = 1.05
"""The median error may grow by this factor: rounding and small repairs."""


EVERY = 16
"""Of the configurations that are run in the engine under stated arrivals, one in so many is in the sample."""


def sampled(row: Row) -> bool:
    """Whether a row is in the sample that the tests measure: every closed form, and a fixed part of the rows that state
    when requests arrive, whole configurations, chosen by their words and stratified by nothing but chance."""
    if not row.request_rate:
        return True
    words = "|".join(str(getattr(row, name)) for name in COLUMNS if name not in METRIC)
    return crc32(words.encode()) % EVERY == 0


def baseline() -> dict[str, Any]:
    """What the committed version reached: {"overall": figures, "sample": figures, "groups": [...]}."""
    document: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return document


METRIC = ("id", "metric", "value", "unit", "source", "note")
"""Columns in which the rows of one configuration differ."""


def lost(validation: Validation, before: dict[str, Any], part: str = "overall") -> list[str]:
    """What is worse than before: the median error by more than 5 % of it, or the coverage at all."""
    now, then = validation.overall, before[part]
    found = []
    coverage = then["simulated"] / then["rows"]  # not rounded
    if now.coverage < coverage:
        found.append(f"coverage fell from {coverage:.4f} to {now.coverage:.4f}")
    if now.median_ape is None or now.median_ape > WORSE * then["median_ape"]:
        found.append(f"the median error rose from {then['median_ape']:.4f} to {now.median_ape or float('nan'):.4f}")
    return found


def write_baseline(validation: Validation, path: Path = PATH) -> None:
    """Write the figures of all rows, of the sample and of all groups, rounded to four digits, as the new baseline."""
    whole = validation.document()
    sample = figures([point for point in validation.points if sampled(point.row)])
    document = _rounded({"overall": whole["overall"], "sample": sample.document(), "groups": whole["groups"]})
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    write_baseline(validate())
