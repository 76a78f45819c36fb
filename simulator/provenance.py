"""How every number of a profile is known: a label and a source, given by the number itself or by the nearest block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel, Field

from simulator.quantity import LABELS, Known, Label
from simulator.strict import Strict


class Block(Strict):
    """A part of a profile. Its label and source hold for every number inside that does not carry its own."""

    label: Label | None = Field(None, description="How the numbers of this block are known; inherited when absent.")
    source: str | None = Field(
        None, min_length=1, description="Where the numbers of this block come from; inherited when absent."
    )


class Fact(NamedTuple):
    """One number of a profile: where it stands, its value in SI, how it is known, and from where."""

    path: str
    value: float
    label: str
    source: str


def facts(block: Block) -> list[Fact]:
    """Every number below `block`, each with the label and the source of its nearest enclosing block."""
    return list(_walk(block, "", block.label, block.source))


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
