"""What a scenario writes of an FFN: the fields of its kind, and which layers get it."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import Field, create_model, model_validator

from simulator.model.ffn import FFN_KINDS
from simulator.model.ffn.fields import Inner
from simulator.model.ffn.kind import FFN
from simulator.model.number_format import FormatName
from simulator.strict import Strict

_RANGE = re.compile(r"(\d+)-(\d+)")

Tier = Literal["sram", "hbm", "gddr", "lpddr", "ddr", "cxl", "nvme", "remote"]


class FFNChoice(Strict):
    """Where an FFN is put. Layers count from 0, as in checkpoints; all layers when nothing is said."""

    kind: str
    layers: tuple[Annotated[int, Field(ge=0)] | str, ...] | None = Field(
        None, description="Layers that get it: numbers from 0, or ranges such as 3-60."
    )
    every: Annotated[int, Field(gt=0)] | None = Field(None, description="Every n-th layer: 4 means 3, 7, 11, ...")
    beside: bool | None = Field(
        None, description="True: added to the FFN that is there. False: in its place. Tables are added when left out."
    )
    dtype: FormatName | None = Field(None, description="Number format of its table or weights.")
    tier: Tier | None = Field(
        None, description="Memory tier of its table or weights; a machine's `placement` goes before."
    )

    @model_validator(mode="after")
    def _buildable(self) -> FFNChoice:
        if self.layers is not None and self.every is not None:
            raise ValueError("layers and every both say which layers; keep one of them")
        if self.layers == ():
            raise ValueError("layers is an empty list; leave it out for all layers")
        for item in self.layers or ():
            if isinstance(item, str) and not _RANGE.fullmatch(item):
                raise ValueError(f"'{item}' is no layer; write a number from 0, or a range such as 3-60")
        self.build()
        return self

    def build(self) -> FFN:
        """The FFN. Raise ValueError for fields that contradict each other."""
        kind = FFN_KINDS[self.kind]
        return kind(**{name: getattr(self, name) for name in written(kind)})

    def places(self, layer_count: int) -> list[int]:
        """The layers of a model with so many. Raise ValueError for one that it does not have."""
        if self.every is not None:
            if self.every > layer_count:
                raise ValueError(f"every {self.every} leaves no layer of {layer_count}; write {layer_count} or less")
            return list(range(self.every - 1, layer_count, self.every))
        if self.layers is None:
            return list(range(layer_count))
        found: set[int] = set()
        for item in self.layers:
            first, last = (item, item) if isinstance(item, int) else (int(x) for x in item.split("-"))
            if not first <= last < layer_count:
                raise ValueError(f"layer {item} is not one of 0 to {layer_count - 1}")
            found.update(range(first, last + 1))
        return sorted(found)


def written(kind: type[FFN]) -> dict[str, Any]:
    """Name -> annotation of the fields that a scenario writes of a kind."""
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return {n: hints[n] for n in names if not any(isinstance(m, Inner) for m in getattr(hints[n], "__metadata__", ()))}


def choice_of(name: str, kind: type[FFN]) -> type[FFNChoice]:
    """The schema of a kind: its own fields beside those of every choice."""
    defaults = {f.name: f.default for f in fields(kind)}  # type: ignore[arg-type]
    own: dict[str, Any] = {"kind": (Literal[name], ...)} | {
        field: (hint, ... if defaults[field] is MISSING else defaults[field]) for field, hint in written(kind).items()
    }
    title = "".join(part.capitalize() for part in name.split("_"))
    model: type[FFNChoice] = create_model(title, __base__=FFNChoice, __module__=__name__, __doc__=kind.__doc__, **own)
    return model


CHOICES = {name: choice_of(name, kind) for name, kind in FFN_KINDS.items()}
globals().update({choice.__name__: choice for choice in CHOICES.values()})  # studies send scenarios to other processes

if TYPE_CHECKING:
    AnyFFN = FFNChoice
else:
    AnyFFN = Annotated[reduce(lambda a, b: a | b, CHOICES.values()), Field(discriminator="kind")]
