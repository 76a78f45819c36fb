"""Collectives: their limits, their bounds, and a few measured ones."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.amount import NETWORK
from simulator.cost.collective import collective, collective_seconds
from simulator.cost.grid import axis_by_axis
from simulator.cost.machine import Machine
from simulator.errors import CapacityError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.fabric import Fabric
from simulator.model.operation import Collective
from simulator.model.parallelism import Parallelism, all_reduce
from simulator.quantity import Known
from simulator.stack.parameters import Collectives
from simulator.stack.stack import Stacks

CATALOGUE, STACKS = Catalogue(), Stacks()
PATTERNS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
SHAPES = ((8,), (2, 4), (4, 4), (8, 4), (2, 2, 2), (4, 4, 4))
PERFECT = Collectives(launch=Known(0.0), bandwidth=Known(1.0))

patterns = st.sampled_from(PATTERNS)
sizes = st.floats(0, 1e10)


def fabric(kind: str, **fields: object) -> Fabric:
    return Fabric(**{"kind": kind, "bandwidth": "100 GB/s", "latency": "1 us", **fields})


def h100(tp: int = 8) -> Machine:
    return Machine(CATALOGUE.load("h100-sxm-8"), STACKS.load("vllm-2025"), Parallelism(tp=tp))


def test_one_chip_has_nobody_to_talk_to() -> None:
    amount = collective(Collective("sum", "all_reduce", 1e9, 1), h100(1))
    assert (amount.total_seconds, amount.sent) == (0, {})


def test_a_group_larger_than_the_machine_is_refused() -> None:
    machine = Machine(CATALOGUE.load("wormhole-t3000"), STACKS.load("tt-metal-2025"), Parallelism(tp=8))
    with pytest.raises(CapacityError, match=r"group of 16 chips does not fit 'wormhole-t3000' with 8.*no `scale_out`"):
        collective(Collective("sum", "all_reduce", 1e9, 16), machine)


@pytest.mark.parametrize(("pattern", "passes"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)])
def test_a_ring_over_a_switch_is_its_closed_form(pattern: str, passes: int) -> None:
    software = Collectives(launch=Known(5e-6), bandwidth=Known(0.8))
    for n, size in ((2, 1e3), (4, 1e6), (8, 1e9)):
        expected = 5e-6 + passes * (n - 1) * 1e-6 + passes * (n - 1) / n * size / 80e9
        assert collective_seconds(pattern, size, n, fabric("switch"), software) == pytest.approx(expected)


def test_an_all_to_all_over_a_switch_waits_for_the_logarithm_of_its_group() -> None:
    software = Collectives(launch=Known(5e-6), bandwidth=Known(0.8), exchange_steps=Known(1.5))
    for n, doublings, size in ((2, 1, 1e3), (8, 3, 1e6), (64, 6, 1e9)):
        expected = 5e-6 + 1.5 * doublings * 1e-6 + (n - 1) / n * size / 80e9
        assert collective_seconds("all_to_all", size, n, fabric("switch"), software) == pytest.approx(expected)


def test_an_all_to_all_copies_its_own_part_as_it_says() -> None:
    software = Collectives(launch=Known(0.0), bandwidth=Known(1.0), copy_bandwidth=Known(2.0))
    again = software.model_copy(update={"exchange_copy": Known(0.5)})
    ring, own = (collective_seconds("all_to_all", 8e9, 8, fabric("switch"), each) for each in (software, again))
    assert own - ring == pytest.approx(1e9 / 50e9 - 1e9 / 200e9)
    gathers = [collective_seconds("all_gather", 8e9, 8, fabric("switch"), each) for each in (software, again)]
    assert gathers[0] == gathers[1]


def test_small_messages_cost_latency_and_large_ones_bandwidth() -> None:
    software = Collectives(launch=Known(9e-6), one_shot=Known(4.5e-6), bandwidth=Known(0.8))
    small, large = (collective_seconds("all_reduce", size, 8, fabric("switch"), software) for size in (1e3, 1e10))
    assert small == pytest.approx(4.5e-6, rel=0.03)
    assert large == pytest.approx(2 * 7 / 8 * 1e10 / 80e9, rel=0.001)


@given(sizes, st.sampled_from([2, 4, 8]))
def test_one_more_algorithm_never_slows(size: float, n: int) -> None:
    full = STACKS.load("vllm-2025").collectives
    switch = CATALOGUE.load("h100-sxm-8").node.fabric
    best = collective_seconds("all_reduce", size, n, switch, full)
    for left_out in (("one_shot",), ("two_shot",), ("one_shot", "two_shot")):
        fewer = full.model_copy(update=dict.fromkeys(left_out))
        assert best <= collective_seconds("all_reduce", size, n, switch, fewer)


@given(patterns, sizes, st.sampled_from(SHAPES))
def test_a_torus_is_never_slower_than_a_mesh_of_its_shape(pattern: str, size: float, shape: tuple[int, ...]) -> None:
    torus, mesh = (
        collective_seconds(pattern, size, prod(shape), fabric(kind, axes=shape), PERFECT) for kind in ("torus", "mesh")
    )
    assert torus <= mesh * (1 + 1e-12)


@given(patterns, sizes, st.sampled_from(SHAPES), st.sampled_from(["torus", "mesh"]))
def test_more_links_never_hurt(pattern: str, size: float, shape: tuple[int, ...], kind: str) -> None:
    times = [
        collective_seconds(pattern, size, prod(shape), fabric(kind, axes=shape, links_per_axis=links), PERFECT)
        for links in (1, 2, 4)
    ]
    assert times == sorted(times, reverse=True)


@given(patterns, sizes, sizes, st.sampled_from(["switch", "torus", "mesh"]))
def test_a_longer_message_never_takes_less(pattern: str, a: float, b: float, kind: str) -> None:
    where = fabric(kind) if kind == "switch" else fabric(kind, axes=(4, 4))
    short, long = (collective_seconds(pattern, size, 16, where, PERFECT) for size in sorted((a, b)))
    assert short <= long


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["torus", "mesh"])
def test_no_all_gather_beats_the_links_of_a_chip(kind: str, shape: tuple[int, ...]) -> None:
    # Each chip receives (n-1)/n of the buffer; in a mesh the corner has one link an axis, in a torus every chip two.
    n, size = prod(shape), 1e12
    links = sum(2 if kind == "torus" and axis > 2 else 1 for axis in shape)
    seconds = collective_seconds("all_gather", size, n, fabric(kind, axes=shape), PERFECT)
    assert seconds >= (n - 1) / n * size / (links * 100e9)


@pytest.mark.parametrize("shape", [(8,), (4, 4), (4, 4, 4)])
def test_equal_axes_use_every_link_of_a_torus(shape: tuple[int, ...]) -> None:
    n, size = prod(shape), 1e12
    seconds = collective_seconds("all_gather", size, n, fabric("torus", axes=shape), PERFECT)
    assert seconds == pytest.approx((n - 1) / n * size / (2 * len(shape) * 100e9), rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["torus", "mesh"])
def test_no_all_to_all_beats_the_bisection(kind: str, shape: tuple[int, ...]) -> None:
    # Cut the longest axis in halves: each of the n/2 chips on one side sends half of its S to the other side, over the
    # n/a lines that cross the cut, each with one link, in a ring two.
    n, longest, size = prod(shape), max(shape), 1e12
    crossing = n / longest * (2 if kind == "torus" and longest > 2 else 1)
    seconds = collective_seconds("all_to_all", size, n, fabric(kind, axes=shape), PERFECT)
    assert seconds >= n / 2 * size / 2 / (crossing * 100e9) * (1 - 1e-12)


def test_an_all_reduce_over_two_axes_has_fewer_hops_than_over_one() -> None:
    line, square = (collective_seconds("all_reduce", 1e3, 16, fabric("mesh", axes=a), PERFECT) for a in ((16,), (4, 4)))
    assert line == pytest.approx(30e-6, rel=0.01)
    assert square == pytest.approx(12e-6, rel=0.01)


def test_fused_collectives_cost_only_their_bytes() -> None:
    fused = PERFECT.model_copy(update={"fused": True, "launch": Known(1.0)})
    assert collective_seconds("all_reduce", 8e11, 8, fabric("switch"), fused) == pytest.approx(2 * 7 / 8 * 8)
    assert collective_seconds("all_reduce", 0.0, 8, fabric("mesh", axes=(2, 4)), fused) == 0


def test_two_chips_of_a_fully_connected_box_have_one_pair_of_links() -> None:
    box = fabric("switch", bandwidth="700 GB/s", pair="100 GB/s")
    two, eight = (collective_seconds("all_gather", 1e12, n, box, PERFECT) for n in (2, 8))
    assert two == pytest.approx(1 / 2 * 1e12 / 100e9, rel=1e-3)
    assert eight == pytest.approx(7 / 8 * 1e12 / 700e9, rel=1e-3)


# NCCL 2.27.3 all-reduce on H100 SXM, AIConfigurator h100_sxm (ai-dynamo/aiconfigurator):
# chips, elements of 2 bytes, ms.
NCCL = (
    (2, 8388608, 0.0814),
    (2, 33554432, 0.25304),
    (2, 268435456, 1.6766),
    (4, 8388608, 0.09918),
    (4, 33554432, 0.32403),
    (4, 268435456, 2.305),
    (8, 8388608, 0.12208),
    (8, 33554432, 0.32186),
    (8, 268435456, 2.112),
)


@pytest.mark.parametrize(("n", "elements", "milliseconds"), NCCL)
def test_long_all_reduces_on_h100_are_near_nccl(n: int, elements: int, milliseconds: float) -> None:
    # Eight chips reduce long messages in the switch, which a ring does not know.
    tolerance = 0.25 if n == 8 and elements > 2**24 else 0.15
    seconds = collective(Collective("sum", "all_reduce", 2.0 * elements, n), h100(n)).total_seconds
    assert seconds == pytest.approx(milliseconds * 1e-3, rel=tolerance)


def test_vectors_of_tokens_are_sent_in_whole_tiles() -> None:
    """One token costs what 32 do and 33 what 64 do; a message that is not of vectors stays as it is."""
    machine = Machine(CATALOGUE.load("wormhole-t3000"), STACKS.load("tt-metal-2025"), Parallelism(tp=8))
    tokens = np.array([0.0, 1.0, 32.0, 33.0, 64.0])
    (operation,) = all_reduce("sum", tokens, 4096, 8, 1.0)
    amount = collective(operation, machine)
    assert amount.sent["all_reduce"] / (2 * 7 / 8 * 4096 * 2) == pytest.approx([0.0, 32.0, 32.0, 64.0, 64.0])
    none, one, tile, more, two = amount.seconds[NETWORK]
    assert none == 0.0 < one == tile < more == two
    plain = collective(Collective("sum", "all_reduce", tokens * 8192, 8), machine)
    assert plain.sent["all_reduce"] == pytest.approx(2 * 7 / 8 * 8192 * tokens)


def wormhole_line(n: int, size: float) -> float:
    """All-reduce on a line of Wormhole chips, s: fit of the tt-metal CCL report (Tenstorrent), one link a side."""
    return 9.07e-6 + 5.82e-6 * (n - 1) + 2 * (n - 1) / n * size / 10.9e9


@pytest.mark.parametrize("size", [1e3, 32 * 1024, 64 * 1024, 2**20, 64 * 2**20])
@pytest.mark.parametrize("n", [4, 8])
def test_a_line_of_wormhole_chips_is_within_15_percent_of_the_measured_fit(n: int, size: float) -> None:
    line = CATALOGUE.load("wormhole-t3000").node.fabric.model_copy(update={"axes": (n,)})
    seconds = collective_seconds("all_reduce", size, n, line, STACKS.load("tt-metal-2025").collectives)
    assert seconds == pytest.approx(wormhole_line(n, size), rel=0.15)


def wormhole_ring(n: int, size: float) -> float:
    """The same both ways round a ring, s."""
    return 9.07e-6 + 5.25e-6 * n / 2 + 2 * (n - 1) / n * size / 18.4e9


@pytest.mark.parametrize("size", [1e3, 32 * 1024, 64 * 1024, 2**20, 64 * 2**20])
@pytest.mark.parametrize("kind", ["torus", "mesh"])
def test_a_ring_of_wormhole_chips_is_within_15_percent_of_the_measured_fit(kind: str, size: float) -> None:
    # Eight chips closed in a ring, and the 2 x 4 grid of a T3000 through which a ring winds.
    axes = (8,) if kind == "torus" else (2, 4)
    chips = CATALOGUE.load("wormhole-t3000").node.fabric.model_copy(update={"kind": kind, "axes": axes})
    seconds = collective_seconds("all_reduce", size, 8, chips, STACKS.load("tt-metal-2025").collectives)
    assert seconds == pytest.approx(wormhole_ring(8, size), rel=0.15)


@given(patterns, st.floats(1, 1e10), st.sampled_from(SHAPES), st.sampled_from(["torus", "mesh"]))
def test_a_ring_that_winds_never_slows(pattern: str, size: float, shape: tuple[int, ...], kind: str) -> None:
    n, where = prod(shape), fabric(kind, axes=shape)
    alone = axis_by_axis(pattern, size, n, where, PERFECT).seconds(PERFECT)
    assert collective_seconds(pattern, size, n, where, PERFECT) <= alone


def test_a_long_message_winds_round_a_grid_whose_axes_are_short() -> None:
    grid = fabric("mesh", axes=(2, 4))
    seconds = collective_seconds("all_reduce", 1e12, 8, grid, PERFECT)
    assert seconds == pytest.approx(2 * 7 / 8 * 1e12 / 200e9, rel=1e-3)


def test_a_time_does_not_depend_on_the_other_sizes_of_an_array() -> None:
    machine = Machine(CATALOGUE.load("tpu-v5e-16"), STACKS.load("jax-2025"), Parallelism())
    sizes = np.array([1e3, 1e6, 1e10])
    together = collective(Collective("x", "all_reduce", sizes, 64), machine).total_seconds
    alone = [collective(Collective("x", "all_reduce", float(size), 64), machine).total_seconds for size in sizes]
    assert np.asarray(together).tolist() == [float(seconds) for seconds in alone]


def test_what_is_sent_is_what_passes_a_link() -> None:
    expected = {"all_reduce": 2 * 7 / 8, "all_gather": 7 / 8, "reduce_scatter": 7 / 8, "all_to_all": 7 / 8}
    for pattern, share in expected.items():
        assert collective(Collective("x", pattern, 1e6, 8, repeat=3), h100()).sent == {
            pattern: pytest.approx(3 * share * 1e6)
        }
    assert collective(Collective("x", "send_receive", 1e6, 2), h100()).sent == {"send_receive": pytest.approx(1e6)}


def test_a_larger_group_takes_longer() -> None:
    times = [collective(Collective("sum", "all_reduce", 64 * 2**20, n), h100(n)).total_seconds for n in (2, 4, 8)]
    assert all(a < b for a, b in pairwise(times))
