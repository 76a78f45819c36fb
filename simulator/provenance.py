"""How every number of a profile is known: a label and a source, given by the number itself or by the nearest block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from simulator.errors import InputError, Where, unknown
from simulator.quantity import LABELS, Known, Label
from simulator.strict import Strict
from simulator.yaml_source import Marked, Source, validate


class Block(Strict):
    """A part of a profile. Its label and source hold for every number inside that does not carry its own."""

    label: Label | None = Field(None, description="How the numbers of this block are known; inherited when absent.")
    source: str | None = Field(
        None, min_length=1, description="Where the numbers of this block come from; inherited when absent."
    )

    def provenance(self) -> list[Fact]:
        """(path, value in SI, label, source) of every number that the block states."""
        return facts(self)

    def weakest_label(self) -> str:
        """The weakest label among all numbers: measured, calibrated, datasheet or estimated (the weakest)."""
        return weakest(fact.label for fact in self.provenance())


B = TypeVar("B", bound=Block)


class Fact(NamedTuple):
    """One number of a profile: where it stands, its value in SI, how it is known, and from where."""

    path: str
    value: float
    label: str
    source: str


def facts(block: Block) -> list[Fact]:
    """Every number below `block`, each with the label and the source of its nearest enclosing block."""
    return list(_walk(block, "", block.label, block.source))


def label_counts(*blocks: Block) -> dict[str, int]:
    """How many numbers of the blocks (a profile, a stack) are known in which way."""
    labels = [fact.label for block in blocks for fact in block.provenance()]
    return {label: labels.count(label) for label in LABELS}


def weakest(labels: Iterable[str]) -> str:
    """The weakest of the labels; 'measured' when there are none."""
    return max(labels, key=LABELS.index, default=LABELS[0])


def _walk(value: object, path: str, label: str | None, source: str | None) -> Iterator[Fact]:
    if isinstance(value, BaseModel):
        label = getattr(value, "label", None) or label
        source = getattr(value, "source", None) or source
        for name in type(value).model_fields:
            # A default is the schema's word, not the profile's: only what the profile wrote is a fact.
            if name in value.model_fields_set and name not in ("label", "source"):
                yield from _walk(getattr(value, name), f"{path}.{name}" if path else name, label, source)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}", label, source)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]", label, source)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        own_label = getattr(value, "label", None) or label
        own_source = getattr(value, "source", None) or source
        yield Fact(path, value if isinstance(value, Known) else float(value), str(own_label), str(own_source))


def changed(block: B, changes: Mapping[str, Any], where: Where, error: type[InputError]) -> B:
    """A block with other values at some paths ("chip.memory.hbm.bandwidth": "6 TB/s"), checked as if so written.

    An item of a list is named by its number or by its `tier` or `name`. A changed number is `estimated`. Raise error
    for a path that leads nowhere, with the nearest name, and for a value that is none.
    """
    data = block.model_dump()
    for path, value in changes.items():
        parts = path.replace("[", ".").replace("]", "").split(".")
        inside: Any = data
        for depth, part in enumerate(parts):
            key = _key(inside, part, ".".join(parts[:depth]), where, error)
            if depth < len(parts) - 1:
                inside[key] = list(inside[key]) if isinstance(inside[key], tuple) else inside[key]
                inside = inside[key]
        number = isinstance(inside[key], Known) and not isinstance(value, Mapping)
        inside[key] = {"value": value, "label": "estimated", "source": "changed by the scenario"} if number else value
    read: B = validate(type(block), Source(where.file, data, Marked({}, where)), error)
    return read


def _key(inside: Any, part: str, before: str, where: Where, error: type[InputError]) -> str | int:
    """Where `part` of a path leads inside a mapping or a list."""
    if isinstance(inside, Mapping):
        if part in inside:
            return part
        names = list(inside)
    elif isinstance(inside, (list, tuple)):
        if part.isdigit() and int(part) < len(inside):
            return int(part)
        names = [str(item.get("tier") or item.get("name")) if isinstance(item, Mapping) else "" for item in inside]
        if part in names:
            return names.index(part)
    else:
        names = []
    raise error(unknown(f"key of {before or 'the profile or stack'}", part, names, where))
