"""Where a scenario places tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from simulator.cost.place import Near, Place, Placement, Policy, Swap
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


class SwapRoom(Strict):
    """A part of a farther tier that takes the caches of preempted sequences."""

    tier: TierName
    capacity: Bytes | None = Field(None, description="Bytes of it on each chip; all that is left when left out.")


class SwappedChoice(Strict):
    """The cache in one tier; a sequence that is preempted is moved to another and back, in place of being computed
    again (vLLM's swap space)."""

    tier: TierName
    swap: SwapRoom


PlaceChoice = TierName | SplitChoice | CachedChoice

NOT_CACHED = ("embedding", "norm", "kv", "activation")
"""Classes of which nothing is used more than the rest."""


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
    kv: PlaceChoice | SwappedChoice | None = Field(None, description="The cache of keys and values.")
    activation: PlaceChoice | None = Field(None, description="Hidden states between operations, and logits.")
    rest: Literal["main", "auto"] = Field(
        "main", description="Where the other classes lie: in the main memory, or as with `placement: auto`."
    )

    @model_validator(mode="before")
    @classmethod
    def _only_caches_wait(cls, given: Any) -> Any:
        places = given.items() if isinstance(given, Mapping) else ()
        swapped = [name for name, one in places if isinstance(one, Mapping) and "swap" in one and name != "kv"]
        if swapped:
            raise ValueError(f"the kv of preempted sequences alone is swapped, not the {swapped[0]}; leave `swap` out")
        return given

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Places:
        for kind in NOT_CACHED:
            one = getattr(self, kind)
            if isinstance(one, CachedChoice):
                mend = f"write {kind}: {one.tier}, or {kind}: {{split: {{{one.cache.tier}: 0.1, {one.tier}: 0.9}}}}"
                raise ValueError(f"nothing of the {kind} is used more than the rest, so a cache holds nothing; {mend}")
        return self

    @property
    def chosen(self) -> dict[str, PlaceChoice | SwappedChoice]:
        """Class -> its place, of those that have one."""
        places = {kind: getattr(self, kind) for kind in type(self).model_fields if kind != "rest"}
        return {kind: place for kind, place in places.items() if place is not None}


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
        for kind, one in choice.chosen.items():
            alike = [tensor for tensor in held if tensor_class(tensor) == kind] or [kind]
            place = _place(one, sum(held.get(tensor, 0.0) for tensor in alike))
            places |= dict.fromkeys(alike, place)
    return Placement(places)


def is_automatic(choice: PlacementChoice | None) -> bool:
    """Whether what is not named is placed automatically."""
    return choice == "auto" or (isinstance(choice, Places) and choice.rest == "auto")


def _place(choice: PlaceChoice | SwappedChoice, held: float) -> Place:
    if isinstance(choice, SplitChoice):
        return Place({tier: float(share) for tier, share in choice.split.items()})
    if isinstance(choice, CachedChoice):
        near = choice.cache
        share = min(1.0, float(near.capacity) / held) if held else 0.0
        return Place({choice.tier: 1.0}, Near(near.tier, share, near.policy))
    if isinstance(choice, SwappedChoice):
        room = choice.swap.capacity
        return Place({choice.tier: 1.0}, swap=Swap(choice.swap.tier, None if room is None else float(room)))
    return Place({choice: 1.0})
