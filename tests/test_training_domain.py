"""A run's scale-up domain: slices as tori, and collectives that cost what those of inference cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.cost.collective import collective_seconds
from simulator.cost.training.domain import as_node, even_axes
from simulator.cost.training.machine import TrainingMachine
from simulator.errors import CapacityError
from simulator.hardware.catalogue import Catalogue
from simulator.quantity import Known
from simulator.stack.parameters import Collectives
from simulator.stack.training.stack import TrainingStacks


def machine(hardware: str, stack: str, chips: int) -> TrainingMachine:
    profile = Catalogue().load(hardware)
    return TrainingMachine(profile, TrainingStacks().load(stack).on_profile(profile), chips)


@pytest.mark.parametrize(
    ("chips", "dimensions", "axes"),
    [(256, 2, (16, 16)), (3072, 3, (12, 16, 16)), (128, 2, (8, 16)), (7, 2, (1, 7)), (1, 3, (1, 1, 1)), (8, 1, (8,))],
)
def test_slices_have_axes_as_even_as_they_can(chips: int, dimensions: int, axes: tuple[int, ...]) -> None:
    assert even_axes(chips, dimensions) == axes


def test_a_slice_of_a_whole_pod_closes_its_axes() -> None:
    profile = Catalogue().load("tpu-v5e-16")
    small, whole = (as_node(profile, chips, None, 0.0).node for chips in (64, 256))
    assert (small.fabric.kind, small.fabric.axes, small.chips) == ("mesh", (8, 8), 64)
    assert (whole.fabric.kind, whole.fabric.axes) == ("torus", (16, 16))
    switch = as_node(Catalogue().load("h100-sxm-8"), 8, 25e9, 5e-6).node
    assert switch.scale_out is not None
    assert (float(switch.scale_out.bandwidth), float(switch.fabric.latency or 0)) == (25e9, 5e-6)


def test_training_and_inference_share_their_collectives() -> None:
    """Inside a node the same seconds as the same message of a model that serves, at the stack's share of the link."""
    here = machine("h100-sxm-8", "megatron-2024", 64)
    software = Collectives(launch=Known(0.0), bandwidth=here.stack.link)
    for pattern in ("all_reduce", "all_gather", "reduce_scatter"):
        fabric = here.profile.node.fabric
        assert here.collective(pattern, 1e8, 8) == pytest.approx(
            float(collective_seconds(pattern, 1e8, 8, fabric, software))
        )
    assert here.collective("all_reduce", 1e8, 1) == 0.0


def test_a_network_carries_what_a_domain_does_not_join() -> None:
    here = machine("h100-sxm-8", "megatron-2024", 64)
    inside, across = here.collective("all_gather", 1e9, 8), here.collective("all_gather", 1e9, 8, 8)
    assert across > 5 * inside
    assert across == pytest.approx(7 / 8 * 1e9 / here.network, rel=0.05)
    assert here.collective("all_gather", 1e9, 64) < here.collective("all_gather", 1e9, 8, 8)
    lonely = replace(
        here, profile=here.profile.model_copy(update={"node": here.profile.node.model_copy(update={"scale_out": None})})
    )
    with pytest.raises(CapacityError, match="has no `scale_out`"):
        lonely.collective("all_gather", 1e9, 16)
