"""Experts and rows that the token ids address are fetched while layers run: what is left is a maximum of lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from engine_cases import EngineCase, requests
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine_fast_forward import assert_same_run

from simulator.cost.amount import Amount, add
from simulator.cost.machine import Machine
from simulator.cost.matmul import far_weights, matmul
from simulator.cost.mean_step import mean_step, seconds_of
from simulator.cost.place import Near, Place, Placement
from simulator.cost.prefetch import here, prefetched, waits
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.kv_cache import KvLimits
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.usage import usage
from simulator.model.architecture import Architecture
from simulator.model.assembly import Change, with_ffns
from simulator.model.ffn.hash_moe import HashMoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.number_format import Precision
from simulator.model.operation import Gather, Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

FAR = {"expert": Place({"ddr": 1.0}), "table": Place({"ddr": 1.0})}
EXPERTS = Matmul(
    "experts up",
    64.0,
    1536.0,
    2048.0,
    "bf16",
    "expert",
    groups=50.0,
    choices=128.0,
    chosen=8.0,
    address_known="token",
    layers_before=4.0,
)


def machine(places: dict[str, Place] | None = None, prefetch: bool = True, link: float = 225e9) -> Machine:
    profile = Catalogue().load("h100-sxm-8")
    ddr = profile.node.memory[0].model_copy(update={"link": link})
    node = profile.node.model_copy(update={"memory": (ddr, *profile.node.memory[1:])})
    stack = Stacks().load("vllm-2025").model_copy(update={"prefetch": prefetch})
    chosen = FAR if places is None else places
    return Machine(profile.model_copy(update={"node": node}), stack, Parallelism(), Placement(chosen))


def model(*layers: int, table: int | None = None) -> Architecture:
    """Qwen3-30B-A3B, with experts by token id in some layers and perhaps an n-gram table."""
    changes = [Change(HashMoEFFN(experts=128, top_k=8, width=768), layers, beside=False)]
    if table is not None:
        changes.append(Change(NgramTable(rows=1_000_000, width=160), (table,), beside=True))
    return with_ffns(load_model("qwen3-30b-a3b"), changes)


def exposed(operations: Sequence[Gather | Matmul], on: Machine, free: float) -> Amount:
    """What is fetched, and what a step waits for of it where a layer leaves the link so many seconds."""
    found = waits(operations, on)
    return add([found.amount, found.beyond(free)])


def total(amount: Amount) -> float:
    return float(np.asarray(amount.total_seconds))


def test_only_what_the_token_knows_and_what_lies_far_is_fetched_early() -> None:
    assert prefetched(EXPERTS, machine())
    assert not prefetched(replace(EXPERTS, address_known="layer"), machine())
    assert not prefetched(replace(EXPERTS, layers_before=0.0), machine())
    assert not prefetched(EXPERTS, machine({}))
    assert not prefetched(EXPERTS, machine(prefetch=False))


def test_with_nothing_to_hide_behind_a_fetch_costs_what_waiting_does() -> None:
    one = machine()
    assert total(exposed([EXPERTS], one, 0.0)) + total(here(EXPERTS, one)) == pytest.approx(total(matmul(EXPERTS, one)))


def test_behind_long_layers_only_the_writing_is_left_and_in_between_what_the_window_lacks() -> None:
    one = machine()
    size = 50 * 1536 * 2048 * 2
    assert total(exposed([EXPERTS], one, 1.0)) == pytest.approx(size / one.bandwidth)
    waited = total(matmul(EXPERTS, one)) - total(here(EXPERTS, one))
    for share in (0.25, 0.5):
        assert total(exposed([EXPERTS], one, share * waited / 4)) == pytest.approx((1 - share) * waited)


def test_bytes_come_once_over_the_link_and_are_written_and_read_near_by() -> None:
    one = machine()
    waited, fetched, product = matmul(EXPERTS, one), exposed([EXPERTS], one, 1.0), here(EXPERTS, one)
    size = 50 * 1536 * 2048 * 2
    assert fetched.bytes["ddr"] == waited.bytes["ddr"] == size
    assert fetched.bytes["hbm"] + product.bytes["hbm"] == pytest.approx(waited.bytes["hbm"] + 2 * size)


def test_a_cache_of_the_hottest_leaves_less_to_fetch() -> None:
    cached = machine({"expert": Place({"ddr": 1.0}, Near("hbm", 0.5))})
    assert exposed([EXPERTS], cached, 1.0).bytes["ddr"] < exposed([EXPERTS], machine(), 1.0).bytes["ddr"]


def test_fetches_queue_in_the_order_of_need() -> None:
    """Equal ones in every layer: the last is the latest where a fetch takes longer than a layer, else the first."""
    one = machine()
    every = [replace(EXPERTS, layers_before=float(place)) for place in range(1, 48)]
    found = waits(every, one)
    assert len(found.layers) == 2  # the lines between are never the largest
    transfer = total(far_weights(EXPERTS, one))
    assert total(exposed(every, one, transfer / 2)) == pytest.approx(47 * transfer / 2, rel=0.01)
    written = 50 * 1536 * 2048 * 2 / one.bandwidth
    assert total(exposed(every, one, 2 * transfer)) == pytest.approx(47 * written)


def test_reading_the_cache_hides_a_fetch_unless_it_takes_the_same_link() -> None:
    at = np.array([8])

    def waiting(keys: float, places: dict[str, Place]) -> float:
        cost = step_cost(model(24), Precision(), machine(FAR | places, link=40e9), 8, 8)
        return float(np.sum(cost.waiting(at, [keys]).total_seconds))

    near, far = {"kv": Place({"hbm": 1.0})}, {"kv": Place({"ddr": 1.0})}
    assert waiting(0.0, near) > waiting(2e4, near) > 0.0
    assert waiting(1e7, near) == 0.0
    assert waiting(2e4, far) > waiting(2e4, near)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 32),
    st.integers(1, 40_000),
    st.sampled_from([2e10, 1e11, 1e12]),
    st.sampled_from([None, 40]),
    st.sampled_from([0, 1, 100]),
)
def test_the_table_of_the_engine_is_the_closed_form(
    tokens: int, context: int, link: float, table: int | None, prompt: int
) -> None:
    one, shape = machine(link=link), model(5, 6, 30, table=table)
    engine = StepTable(step_cost(shape, Precision(), one, 132, 33), one)
    prompts = min(prompt, 1)
    pairs = [(prompt * (prompt + 1) // 2, 0)] if prompts else None
    ((_, ticks, _),) = engine.pieces(tokens + prompt, tokens + prompts, [(tokens * context, 0)], pairs, 1)
    step = mean_step(shape, Precision(), one, float(tokens), float(context), float(prompts), float(prompt))
    assert ticks * SECONDS_PER_TICK == pytest.approx(float(seconds_of(step, shape, one, float(prompts))[0]), rel=1e-6)


def test_fast_forward_over_the_bend_is_stepping_to_the_bit_and_every_second_is_told() -> None:
    """As contexts grow, reading them hides more and more of the fetch, and then all of it."""
    one = machine(link=60e9)
    cost = step_cost(model(16), Precision(), one, 64, 8)
    case = EngineCase(
        requests(0.0, [2000, 20_000, 60_000], [300, 500, 700]),
        StepTable(cost, one),  # type: ignore[arg-type]
        BatchLimits(8, 64),
        KvLimits(1 << 14, 16),
        {},
    )
    fast = case.run()
    assert_same_run(fast, case.run(exact=True))
    steps = fast.steps
    told = usage(fast, cost, one)
    assert sum(told.seconds.values()) == pytest.approx(told.busy_s, rel=1e-9)
    assert told.seconds["ddr"] > 0
    assert len(steps.steps) > 3


@settings(deadline=None, max_examples=25)
@given(st.floats(1.0, 10.0), st.integers(1, 46), st.integers(1, 16))
def test_a_wider_link_a_later_layer_or_prefetching_never_hurts(factor: float, layer: int, tokens: int) -> None:
    def seconds(place: int, link: float, prefetch: bool = True) -> float:
        one = machine(link=link, prefetch=prefetch)
        return float(mean_step(model(place), Precision(), one, float(tokens), 100.0).total_seconds[0])

    slow = seconds(layer, 5e10)
    assert seconds(layer, 5e10 * factor) <= slow * (1 + 1e-9)
    assert seconds(layer + 1, 5e10) <= slow * (1 + 1e-9)
    assert slow <= seconds(layer, 5e10, False) * (1 + 1e-9)
