"""Finds stacks of one kind by name: the user's folders first, then those that come with ramwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from simulator.errors import Problem, StackError, Where, unknown
from simulator.stack.head import Head
from simulator.yaml_source import Marked, Source, read_yaml, validate

S = TypeVar("S", bound=Head)


class StackFolders(Generic[S]):
    """The stacks in some folders (NAME.`suffix`.yaml, beside hardware profiles) and in ramwise's `own`. The first
    folder that has a name wins."""

    def __init__(self, model: type[S], kind: str, suffix: str, own: Path, folders: Sequence[Path | str]) -> None:
        """Raise StackError when a folder does not exist."""
        self._model, self._kind, self._suffix, self._own = model, kind, suffix, own
        self._folders = tuple(Path(folder) for folder in folders)
        missing = [folder for folder in self._folders if not folder.is_dir()]
        if missing:
            raise StackError(Problem(f"no such folder of stacks: {folder}") for folder in missing)
        self._loaded: dict[str, S] = {}

    def paths(self) -> dict[str, Path]:
        """Name -> file of every stack, in alphabetical order."""
        found: dict[str, Path] = {}
        for folder, suffix in (*((folder, f".{self._suffix}.yaml") for folder in self._folders), (self._own, ".yaml")):
            for path in sorted(folder.glob(f"*{suffix}")):
                found.setdefault(path.name.removesuffix(suffix), path)
        return dict(sorted(found.items()))

    def load(self, name: str, where: Where | None = None) -> S:
        """The stack of that name. Raise StackError with everything that is wrong."""
        if name not in self._loaded:
            known = self.paths()
            if name not in known:
                raise StackError(unknown(self._kind, name, known, where))
            source = read_yaml(known[name], error=StackError, find=lambda other: known.get(Path(other).stem))
            self._loaded[name] = validate(self._model, _nearest_first(source), error=StackError)
        return self._loaded[name]


def _nearest_first(source: Source) -> Source:
    """Of all files that state a number the nearest holds, and within that file the entry of a single chip."""
    whole = source.marks.value
    chips = whole.get("on") if isinstance(whole, dict) else None
    if chips is None or not isinstance(chips.value, dict):
        return source
    distance = {file: index for index, file in enumerate(source.files)}
    left = {name: _without_outdone(mark, source.marks, distance) for name, mark in chips.value.items()}
    marks = replace(source.marks, value={**whole, "on": replace(chips, value=left)})
    return replace(source, data=marks.plain(), marks=marks)


def _without_outdone(part: Marked, whole: Marked, distance: Mapping[str, int]) -> Marked:
    if not (isinstance(part.value, dict) and isinstance(whole.value, dict)):
        return part
    left = {}
    for key, mark in part.value.items():
        above = whole.value.get(key)
        if above is None:
            left[key] = mark
        elif isinstance(mark.value, dict) and isinstance(above.value, dict) and "value" not in above.value:
            left[key] = _without_outdone(mark, above, distance)
        elif distance[mark.where.file] <= distance[above.where.file]:
            left[key] = mark
    return replace(part, value=left)
