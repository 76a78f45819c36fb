"""What the script of a measured run sets beside the columns of its row: aliases/training_recipes.csv."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.model.training.recipe import Graphs
from simulator.model.training.recompute import PARTS, Recompute
from simulator.validation import aliases
from simulator.validation.training.rows import TrainingRow

MODES: dict[str, Recompute] = {"selective": "selective", "full": "full"}
GRAPHS: dict[str, Graphs] = {"none": "none", "partial": "partial", "full": "full"}


@dataclass(frozen=True)
class Script:
    """Settings in the words of Recipe; `recompute` is None where no script is known, `schedule` empty for 1F1B."""

    recompute: Recompute | None = None
    predictors: int = 0
    wide_layers: int = 0
    graphs: Graphs = "none"
    once: bool = False
    overlap: bool = True
    schedule: str = ""


def script_of(row: TrainingRow) -> Script:
    """By release, chip, model and number format, the most telling entry; else what scripts leave out."""
    found = aliases.longest(
        "training_recipes", id=row.id, hardware=row.hardware, model=row.model, dtype=row.cells["dtype"]
    )
    if not found:
        return Script()
    entry = found[0]
    return Script(
        recompute=_recompute(entry["recompute"]),
        predictors=0 if "w/o MTP" in row.note else int(entry["predictors"] or 0),
        wide_layers=int(entry["wide_layers"] or 0),
        graphs=GRAPHS[entry["graphs"]],
        once=entry["once"] == "y",
        overlap=entry["overlap"] == "y",
        schedule=entry["schedule"],
    )


def _recompute(text: str) -> Recompute:
    """A mode, nothing for none, or parts joined by plus signs."""
    return MODES.get(text) or frozenset(name for name in PARTS if name in text.split("+")) or "none"
