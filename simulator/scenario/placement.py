"""Where a scenario places tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, field_validator

from simulator.cost.place import Near, Place, Placement, Policy
from simulator.hardware.memory import TierName
from simulator.model.number_format import tensor_class
from simulator.quantity import Bytes, Fraction
from simulator.strict import Strict


class NearChoice(Strict):
    """A part of a nearer tier that caches a class of tensors."""

    tier: TierName
    capacity: Bytes = Field(description="Bytes of it on each chip.")
    policy: Policy = Field("pinned", description="pinned: the hottest. lru: last used. lfu: most used so far.")


class CachedChoice(Strict):
    """A class of tensors in one tier, the hottest of it cached in a nearer one."""

    tier: TierName
    cache: NearChoice


class SplitChoice(Strict):
    """A class of tensors cut over several tiers, layer by layer."""

    split: dict[TierName, Fraction]

    @field_validator("split")
    @classmethod
    def _whole(cls, split: dict[TierName, Fraction]) -> dict[TierName, Fraction]:
        if abs(sum(split.values()) - 1.0) > 1e-6:
            raise ValueError(f"the shares add up to {sum(split.values()):g}; they are of the whole, so make them 1")
        return split


PlaceChoice = TierName | SplitChoice | CachedChoice


class Places(Strict):
    """Where each class of tensors lies: a tier, shares in several, or a tier with a cache before it."""

    embedding: PlaceChoice | None = None
    attention: PlaceChoice | None = None
    ffn: PlaceChoice | None = Field(None, description="Dense FFNs and shared experts.")
    expert: PlaceChoice | None = Field(None, description="Routed experts.")
    table: PlaceChoice | None = Field(None, description="Rows of look-up FFNs.")
    neuron: PlaceChoice | None = Field(None, description="Cold neurons of activation-sparse FFNs.")
    store: PlaceChoice | None = Field(None, description="Values of a retrieval store.")
    codes: PlaceChoice | None = Field(None, description="Quantised keys of a retrieval store.")
    router: PlaceChoice | None = None
    head: PlaceChoice | None = None
    norm: PlaceChoice | None = None
    kv: PlaceChoice | None = Field(None, description="The cache of keys and values.")


PlacementChoice = Literal["auto"] | Places


def placement(
    choice: PlacementChoice | None, held: Mapping[str, float], wishes: Iterable[tuple[str, str]] = ()
) -> Placement:
    """What is chosen, over the model's own wishes (tensor, tier); the rest lies in the main memory or is placed
    automatically.

    `held`: tensor class -> bytes on one chip, of which caches hold a share.
    """
    places = {tensor: Place({tier: 1.0}) for tensor, tier in wishes}
    if isinstance(choice, Places):
        for kind in Places.model_fields:
            one = getattr(choice, kind)
            if one is not None:
                alike = [tensor for tensor in held if tensor_class(tensor) == kind] or [kind]
                place = _place(one, sum(held.get(tensor, 0.0) for tensor in alike))
                places |= dict.fromkeys(alike, place)
    return Placement(places)


def _place(choice: PlaceChoice, held: float) -> Place:
    if isinstance(choice, SplitChoice):
        return Place({tier: float(share) for tier, share in choice.split.items()})
    if isinstance(choice, CachedChoice):
        near = choice.cache
        share = min(1.0, float(near.capacity) / held) if held else 0.0
        return Place({choice.tier: 1.0}, Near(near.tier, share, near.policy))
    return Place({choice: 1.0})
