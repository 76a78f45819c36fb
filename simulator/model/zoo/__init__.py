"""The packaged models: real HuggingFace config.json files, each with its `_source` and its `_published` totals."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from simulator.errors import ModelError, unknown
from simulator.model.architecture import Architecture
from simulator.model.huggingface import read_config

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Published:
    """Totals that the makers of a model print, rounded as they print them."""

    total_parameters: float
    active_parameters: float
    source: str


def _configs(folder: Path) -> dict[str, Path]:
    """Name -> file: NAME.json, or NAME/config.json as HuggingFace lays a model out."""
    found = {path.stem: path for path in sorted(folder.glob("*.json"))}
    return {path.parent.name: path for path in sorted(folder.glob("*/config.json"))} | found


def model_names(folders: Iterable[str | Path] = ()) -> list[str]:
    """Every name that load_model knows, the user's folders included."""
    return sorted({name for folder in (*folders, FOLDER) for name in _configs(Path(folder))})


def load_model(name_or_path: str | Path, folders: Iterable[str | Path] = ()) -> Architecture:
    """A model by name (the user's folders first, then the zoo) or by the path of a config.json or of its folder.

    Raises ModelError for a name that nobody knows, with the nearest one, and for a config that cannot be read.
    """
    own = [Path(folder) for folder in folders]
    text = str(name_or_path)
    for folder in (*own, FOLDER):
        path = _configs(folder).get(text)
        if path:
            return read_config(path, text)
    path = Path(text)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    if path.suffix == ".json" or "/" in text:
        for candidate in (path, *(folder / path for folder in own)):
            if candidate.is_file():
                path = candidate
                break
        return read_config(path, path.resolve().parent.name if path.stem == "config" else path.stem)
    raise ModelError(unknown("model", text, model_names(own)))


def published(name: str) -> Published | None:
    """The published totals of a packaged model, None where none is known."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    totals = json.loads(path.read_text(encoding="utf-8")).get("_published")
    return Published(totals["total_params"], totals["active_params"], totals["source"]) if totals else None
