"""The accuracy that was reached: kept beside the code, so that a change that loses some is seen.

`python -m simulator.validation.baseline` measures again and writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simulator.validation.validation import Validation, validate

PATH = Path(__file__).with_name("baseline.json")
WORSE = 1.05
"""The median error may grow by this factor: rounding and small repairs."""


def baseline() -> dict[str, Any]:
    """What the committed version reached: {"overall": figures, "groups": [...]}."""
    document: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return document


def lost(validation: Validation, before: dict[str, Any]) -> list[str]:
    """What is worse than before: the median error by more than 5 % of it, or the coverage at all."""
    now, then = validation.overall, before["overall"]
    found = []
    coverage = then["simulated"] / then["rows"]  # not rounded
    if now.coverage < coverage:
        found.append(f"coverage fell from {coverage:.4f} to {now.coverage:.4f}")
    if now.median_ape is None or now.median_ape > WORSE * then["median_ape"]:
        found.append(f"the median error rose from {then['median_ape']:.4f} to {now.median_ape or float('nan'):.4f}")
    return found


def write_baseline(validation: Validation, path: Path = PATH) -> None:
    """Write the figures of all groups, rounded to four digits, as the new baseline."""
    document = {key: _rounded(validation.document()[key]) for key in ("overall", "groups")}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    write_baseline(validate())
