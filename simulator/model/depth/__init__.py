"""How many layers a token passes, one kind a file. A new kind is one new file and one line in DEPTH_KINDS."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from simulator.model.depth.early_exit import EarlyExit
from simulator.model.depth.full import Full
from simulator.model.depth.kind import Depth
from simulator.model.depth.layer_tree import LayerTree
from simulator.model.depth.mixture_of_depths import MixtureOfDepths
from simulator.model.depth.recursive import Recursive
from simulator.model.depth.self_speculative import SelfSpeculative

__all__ = ["DEPTH_KINDS", "AnyDepth", "Depth"]

DEPTH_KINDS: dict[str, type[Depth]] = {
    "full": Full,
    "early_exit": EarlyExit,
    "self_speculative": SelfSpeculative,
    "mixture_of_depths": MixtureOfDepths,
    "recursive": Recursive,
    "layer_tree": LayerTree,
}

if TYPE_CHECKING:
    AnyDepth = Depth
else:
    AnyDepth = Annotated[reduce(lambda a, b: a | b, DEPTH_KINDS.values()), Field(discriminator="kind")]
