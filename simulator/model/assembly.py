"""A model with other FFNs than its own: a table beside experts, memories in place of some layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from simulator.model.architecture import Architecture, Shape, group_layers
from simulator.model.ffn.kind import FFN
from simulator.model.ffn.together import Together
from simulator.model.number_format import Precision
from simulator.model.popularity import Popularity


@dataclass(frozen=True)
class Change:
    """An FFN that some layers get, added to what they have or in its place; its table's or weights' format and tier."""

    ffn: FFN
    places: tuple[int, ...]
    beside: bool = False
    dtype: str | None = None
    tier: str | None = None


def with_ffns(architecture: Architecture, changes: Iterable[Change]) -> Architecture:
    """`architecture` with the changes, one after the other.

    An FFN with a format or a tier of its own names its tensor apart ('table.1', 'table.2', ...).
    """
    shapes = architecture.shapes()
    precision, tiers = architecture.precision or Precision(), dict(architecture.tiers)
    taken = {tensor: (dict(precision.tensors).get(tensor), tiers.get(tensor)) for tensor in _tensors(architecture)}
    for change in changes:
        ffn = change.ffn.fitted(architecture, len(change.places))
        kept = change.dtype, change.tier
        tensor, sort = ffn.stored, 0
        while kept != (None, None) and (not sort or taken.get(tensor, kept) != kept):
            sort += 1
            tensor = f"{ffn.stored}.{sort}"
        taken[tensor] = kept
        if any(field.name == "tensor" for field in fields(ffn)):  # type: ignore[arg-type]
            ffn = replace(ffn, tensor=tensor)  # type: ignore[type-var]
        if change.dtype:
            stored = dict(precision.tensors) | {tensor: change.dtype}
            precision = replace(precision, tensors=tuple(stored.items()))
        if change.tier:
            tiers[tensor] = change.tier
        for place in change.places:
            shapes[place] = _changed(shapes[place], ffn, change.beside)
    return replace(
        architecture,
        layers=group_layers(shapes),
        precision=precision if precision != Precision() else architecture.precision,
        tiers=tuple(tiers.items()),
    )


def with_popularity(architecture: Architecture, popularity: Popularity) -> Architecture:
    """`architecture`, whose experts are asked for so often where their FFN does not say it."""

    def asked(ffn: FFN) -> FFN:
        if isinstance(ffn, Together):
            return replace(ffn, members=tuple(asked(member) for member in ffn.members))
        silent = ffn.routed_experts and getattr(ffn, "popularity", popularity) is None
        return replace(ffn, popularity=popularity) if silent else ffn  # type: ignore[type-var]

    layers = (replace(layer, ffn=asked(layer.ffn)) if layer.ffn else layer for layer in architecture.layers)
    return replace(architecture, layers=tuple(layers))


def _changed(shape: Shape, ffn: FFN, beside: bool) -> Shape:
    attention, old = shape
    if old is None or not beside:
        return attention, ffn
    members = old.members if isinstance(old, Together) else (old,)
    return attention, Together((*members, ffn))


def _tensors(architecture: Architecture) -> set[str]:
    """Tensor classes that the FFNs of a model have."""
    ffns = [layer.ffn for layer in architecture.layers if layer.ffn]
    return {tensor for ffn in ffns for tensor in ffn.parameters(architecture.hidden_size)}
