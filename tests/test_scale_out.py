"""Collectives between machines: closed forms, bounds, and what was measured."""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.collective import collective, collective_seconds, members_inside
from simulator.cost.machine import Machine
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.fabric import Fabric, ScaleOut
from simulator.hardware.profile import Profile
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Collective
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.quantity import Known
from simulator.stack.parameters import Collectives
from simulator.stack.stack import Stacks
from simulator.validation.compare import figures
from simulator.validation.inference import Inference
from simulator.validation.rows import measurements

CATALOGUE, STACKS = Catalogue(), Stacks()
PATTERNS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_receive")
PERFECT = Collectives(launch=Known(0.0), bandwidth=Known(1.0), scale_out_bandwidth=Known(1.0))

patterns = st.sampled_from(PATTERNS)
sizes = st.floats(1, 1e11)
groups = st.sampled_from([16, 24, 64, 1000, 4096, 200_000])


def node(
    network: str = "50 GB/s",
    latency: str = "10 us",
    fabric: str = "4 TB/s",
    machine: str | None = None,
    reduces: bool = True,
) -> Profile:
    """Eight chips on a switch without latency, and a network."""
    inside = Fabric(kind="switch", bandwidth=fabric, latency="1e-15 s", reduces=reduces)
    out = ScaleOut(kind="infiniband", bandwidth=network, latency=latency, machine=machine)
    whole = CATALOGUE.load("h100-sxm-8")
    return whole.model_copy(
        update={"node": whole.node.model_copy(update={"fabric": inside, "scale_out": out}), "name": "made-up"}
    )


def machine(profile: Profile, software: Collectives = PERFECT) -> Machine:
    stack = STACKS.load("vllm-2025").model_copy(update={"collectives": software, "on": {}})
    return Machine(profile, stack, Parallelism())


def seconds(pattern: str, size: float, group: int, profile: Profile, stride: int = 1) -> float:
    return float(collective(Collective("x", pattern, size, group, 1.0, stride), machine(profile)).total_seconds)


def test_a_long_all_reduce_is_bound_by_the_network_cards_of_all_its_members() -> None:
    # Two machines that add up inside: each chip sends half of its eighth for the sum and half for the result.
    assert seconds("all_reduce", 8e11, 16, node()) == pytest.approx(2 * 8e11 / 8 / 50e9 / 2, rel=1e-3)
    # A ring through all sixteen chips brings nearly the whole buffer through the cards twice.
    ring = 2 * 15 / 16 * 8e11 / 8 / 50e9
    assert seconds("all_reduce", 8e11, 16, node(reduces=False)) == pytest.approx(ring, rel=1e-3)
    assert seconds("all_gather", 8e11, 16, node(reduces=False)) == pytest.approx(ring / 2, rel=1e-3)
    # One member a machine (stride 8): the whole buffer passes the one card of that member.
    assert seconds("all_reduce", 8e11, 2, node(), stride=8) == pytest.approx(2 * 8e11 / 50e9 / 2, rel=1e-3)


def test_the_cards_of_a_machine_are_shared_by_the_chips_that_send() -> None:
    shared = node(machine="100 GB/s")
    assert seconds("all_to_all", 8e11, 64, shared) == pytest.approx(7 / 8 * 8e11 / (100e9 / 8), rel=1e-3)
    assert seconds("all_to_all", 8e11, 64, node(machine="1 TB/s")) == seconds("all_to_all", 8e11, 64, node())


def test_a_slow_fabric_bounds_it_where_the_network_is_faster_than_an_eighth_of_it() -> None:
    expected = 2 * 7 / 8 * 8e11 / 400e9
    assert seconds("all_reduce", 8e11, 16, node(network="390 GB/s", fabric="400 GB/s")) == pytest.approx(
        expected, rel=1e-3
    )


def test_gathering_and_exchanging_send_each_byte_for_another_machine_once() -> None:
    n = 64  # eight machines
    assert seconds("all_gather", 8e11, n, node()) == pytest.approx(7 / 8 * 8e11 / 8 / 50e9, rel=1e-3)
    assert seconds("reduce_scatter", 8e11, n, node()) == pytest.approx(7 / 8 * 8e11 / 8 / 50e9, rel=1e-3)
    assert seconds("all_to_all", 8e11, n, node()) == pytest.approx((n - 8) / n * 8e11 / 50e9, rel=1e-3)


def test_short_messages_take_the_tree_whose_steps_grow_with_the_logarithm() -> None:
    for group in (16, 64, 4096):
        assert seconds("all_reduce", 1e3, group, node()) == pytest.approx(2 * log2(group / 8) * 10e-6, rel=1e-2)


def test_a_chain_crosses_the_network_only_from_machine_to_machine() -> None:
    within = seconds("send_receive", 1e9, 2, node())
    assert within == pytest.approx(1e9 / 4e12, rel=1e-3)
    across = seconds("send_receive", 1e9, 2, node(), stride=8)
    assert across == pytest.approx(1e9 / 50e9 + 10e-6, rel=1e-3)
    # Eight stages of four chips: two a machine, so three of seven steps cross.
    assert seconds("send_receive", 1e9, 8, node(), stride=4) == pytest.approx((3 * across + 4 * within) / 7, rel=1e-9)


@pytest.mark.parametrize(
    ("group", "stride", "inside"),
    [(8, 1, 8), (16, 1, 8), (24, 1, 8), (12, 1, 6), (4, 4, 2), (4, 8, 1), (4, 64, 1), (2, 3, 2), (200_000, 1, 8)],
)
def test_members_of_a_group_on_one_machine(group: int, stride: int, inside: int) -> None:
    assert members_inside(Collective("x", "all_reduce", 1.0, group, 1.0, stride), node().node) == inside


@given(patterns, sizes, groups, st.sampled_from([1, 2, 8]))
def test_a_faster_network_never_hurts(pattern: str, size: float, group: int, stride: int) -> None:
    times = [seconds(pattern, size, group, node(network), stride) for network in ("10 GB/s", "50 GB/s", "100 GB/s")]
    assert times == sorted(times, reverse=True)
    nearer = seconds(pattern, size, group, node("10 GB/s", "1 us"), stride)
    assert nearer <= times[0]


@given(patterns, sizes, groups)
def test_one_large_machine_is_never_slower_than_several_small_ones(pattern: str, size: float, group: int) -> None:
    large = Fabric(kind="switch", bandwidth="4 TB/s", latency="1e-15 s")
    assert collective_seconds(pattern, size, group, large, PERFECT) <= seconds(pattern, size, group, node()) * (
        1 + 1e-6
    )


@given(patterns, sizes, groups, st.sampled_from([1, 2, 8]))
def test_a_switch_that_reduces_never_hurts(pattern: str, size: float, group: int, stride: int) -> None:
    plain, adding = (seconds(pattern, size, group, node(reduces=reduces), stride) for reduces in (False, True))
    assert adding <= plain


@given(patterns, sizes, sizes, groups, st.sampled_from([1, 2, 8]))
def test_a_longer_message_never_takes_less(pattern: str, a: float, b: float, group: int, stride: int) -> None:
    short, long = (seconds(pattern, size, group, node(), stride) for size in sorted((a, b)))
    assert short <= long


def test_slices_of_a_torus_are_joined_by_the_data_centre_network() -> None:
    slices = Machine(CATALOGUE.load("tpu-v5p-64"), STACKS.load("jax-2025"), Parallelism())
    sums = [Collective("gradients", "all_reduce", 64e9, 64 * count) for count in (1, 2, 4, 32)]
    times = [float(collective(each, slices).total_seconds) for each in sums]
    assert all(a < b for a, b in pairwise(times))
    out = slices.profile.node.scale_out
    assert out is not None
    # 1 GB a chip, sent twice at 31/32, at the share of the network that the stack reaches.
    rate = float(out.bandwidth) * float(slices.stack.collectives.scale_out_bandwidth)
    assert times[-1] == pytest.approx(2 * 31 / 32 * 1e9 / rate, rel=0.01)


def test_tensor_parallelism_stays_inside_and_stages_cross() -> None:
    layout = Parallelism(tp=8, pp=3)
    operations = load_model("megatron-530b").forward(Batch(8.0, 8.0), layout, Precision())
    sums = [o for o in operations if isinstance(o, Collective) and o.pattern == "all_reduce"]
    handed = [o for o in operations if isinstance(o, Collective) and o.pattern == "send_receive"]
    dgx = CATALOGUE.load("a100-sxm-80g-8").node
    assert {members_inside(o, dgx) for o in sums} == {8}
    assert [(o.group, o.stride, o.repeat, members_inside(o, dgx)) for o in handed] == [(3, 8, 2, 1)]
    assert Machine(CATALOGUE.load("a100-sxm-80g-8"), STACKS.load("fastertransformer-2022"), layout).nodes == 3


# NCCL between two DGX H100 over 400 Gb/s cards and two DGX A100, 2 chips: bytes, ms (microsoft/vidur, MIT).
SEND = (("h100-sxm-8", 4980736, 0.150), ("h100-sxm-8", 13139968, 0.378), ("h100-sxm-8", 67108864, 1.871))


@pytest.mark.parametrize(("chip", "size", "milliseconds"), SEND)
def test_a_message_to_another_node_is_near_the_measured(chip: str, size: int, milliseconds: float) -> None:
    dgx = Machine(CATALOGUE.load(chip), STACKS.load("vllm-2025"), Parallelism())
    found = float(collective(Collective("x", "send_receive", size, 2, 1.0, 8), dgx).total_seconds)
    assert found == pytest.approx(milliseconds * 1e-3, rel=0.15)


def test_models_over_several_nodes_are_within_20_percent_of_the_measured() -> None:
    # FasterTransformer, Megatron-530B on two, three and four DGX A100, batch 1 to 256.
    rows = [
        row for row in measurements() if row.model == "Megatron-530B" and row.engine.startswith("fastertransformer")
    ]
    several = [row for row in rows if float(row.n_chips) > 8]
    found = figures(list(Inference().points(several)))
    assert len(several) >= 70
    assert found.coverage == 1
    assert found.median_ape is not None
    assert found.median_ape < 0.20
