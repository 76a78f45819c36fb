"""Operations on a machine: each cost against its closed form, and the table of steps against a direct evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from cost_machines import (
    ACTIVATIONS,
    BANDWIDTH,
    CATALOGUE,
    H100,
    KEYS,
    PEAK,
    PLATEAU,
    STACKS,
    STREAMING,
    machine,
    square,
    step_s,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.access import gather, stream
from simulator.cost.amount import OVERHEAD, Amount, add, overlapped
from simulator.cost.energy import marginal_joules
from simulator.cost.host_floor import PARTS, HostFloor
from simulator.cost.machine import Machine
from simulator.cost.matmul import attention, matmul
from simulator.cost.piece import largest
from simulator.cost.step import cost_of, step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.ticks import TICKS_PER_SECOND
from simulator.errors import StackError
from simulator.model.ffn.moe import MoEFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Batch, Collective, Gather, Matmul, Operation, Stream, Vector
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model


def test_one_row_waits_for_the_weights() -> None:
    weights_s = 2 * 8192**2 / (BANDWIDTH * STREAMING)
    seconds = matmul(square(1), H100).total_seconds
    assert weights_s < seconds < 1.001 * weights_s


def test_many_rows_wait_for_the_matrix_units() -> None:
    m = 10**6
    compute_s = 2 * m * 8192**2 / (PEAK * PLATEAU)
    seconds = matmul(square(m), H100).total_seconds
    assert compute_s < seconds < 1.001 * compute_s


def test_at_the_ridge_a_four_norm_joins_both_limits() -> None:
    m = 300.0
    compute_s = 2 * m * 8192**2 / (PEAK * PLATEAU)
    memory_s = 2 * 8192**2 / (BANDWIDTH * STREAMING) + m * 2 * 8192 * 2 / (BANDWIDTH * ACTIVATIONS)
    seconds = matmul(square(m), H100).total_seconds
    assert seconds == pytest.approx((compute_s**4 + memory_s**4) ** 0.25)
    assert 0.5 < compute_s / memory_s < 2


def test_only_the_experts_that_are_touched_are_read() -> None:
    one, four = (matmul(Matmul("experts", 8, 2048, 2048, "bf16", "expert", groups=g), H100) for g in (1.0, 4.0))
    assert four.bytes["hbm"] - one.bytes["hbm"] == pytest.approx(3 * 2048**2 * 2)
    assert four.flops == one.flops


def test_the_slowest_rank_sets_the_time_and_not_the_work() -> None:
    even = matmul(Matmul("experts", 64, 4096, 4096, "bf16", "expert"), H100)
    skewed = matmul(Matmul("experts", 64, 4096, 4096, "bf16", "expert", imbalance=1.5), H100)
    assert skewed.total_seconds == pytest.approx(1.5 * even.total_seconds)
    assert (skewed.flops, skewed.bytes) == (even.flops, even.bytes)


times = st.just(0.0) | st.floats(1e-15, 1e3)


@given(times, times, st.floats(1, 16))
def test_overlap_lies_between_the_larger_and_the_sum_and_is_shared_out(a: float, b: float, p: float) -> None:
    shares = overlapped(a, {"hbm": b}, p)
    whole = sum(shares.values())
    assert max(a, b) * (1 - 1e-12) <= whole <= (a + b) * (1 + 1e-12)
    assert min(shares.values()) >= 0
    if a > b:
        assert shares["compute"] >= shares["hbm"]


def test_p_of_one_adds_and_a_large_p_takes_the_larger() -> None:
    assert sum(overlapped(3.0, {"hbm": 4.0}, 1).values()) == pytest.approx(7)
    assert sum(overlapped(3.0, {"hbm": 4.0}, 2).values()) == pytest.approx(5)
    assert sum(overlapped(3.0, {"hbm": 4.0}, 400).values()) == pytest.approx(4)


@settings(max_examples=50, deadline=None)
@given(
    path=st.sampled_from(["chip__memory__1__bandwidth", "chip__matrix__peak__bf16", "stack__kv_streaming"]),
    factor=st.floats(1, 1.1),
    rows=st.integers(1, 100_000),
)
def test_a_faster_part_never_hurts(path: str, factor: float, rows: int) -> None:
    now = {"bandwidth": BANDWIDTH, "bf16": PEAK, "kv_streaming": KEYS}[path.rpartition("__")[2]]
    better = machine(**{path: now * factor})
    for operation in (
        square(rows, 1024),
        Attention("decode", "decode", rows, rows, 4 * 32 * 128, 4096, "bf16"),
        Gather("table", "ffn", rows, rows, 1000),
        Stream("cache", "kv", rows),
        Vector("norm", 5 * rows, 4 * rows),
    ):
        before, after = (float(cost_of(operation, m).total_seconds) for m in (H100, better))
        assert after <= before * (1 + 1e-12)


def test_attention_is_a_straight_line_in_the_context() -> None:
    keys = np.arange(5) * 1e3
    seconds = attention(Attention("decode", "decode", keys, keys, 16384, 4096, "bf16"), H100)
    assert np.diff(seconds.total_seconds) == pytest.approx(seconds.total_seconds[1])
    keys_s, pairs_s = 4096e3 / (BANDWIDTH * KEYS), 16384e3 / (PEAK * float(H100.stack.decode_attention["default"]))
    assert seconds.total_seconds[1] == pytest.approx((keys_s**4 + pairs_s**4) ** 0.25)


def test_a_gather_waits_for_each_row_and_streams_the_rest() -> None:
    rows, latency, outstanding, granule = 1000, 600e-9, 31400, 64
    amount = gather(Gather("table", "ffn", rows, rows, 1000, dependent_hops=3), H100)
    granules = 16 * rows  # 1000 B in granules of 64 B
    waited = rows * latency / outstanding + 3 * latency
    streamed = (granules - rows) * granule / (BANDWIDTH * ACTIVATIONS)
    assert amount.total_seconds == pytest.approx(waited + streamed)
    assert amount.bytes == {"hbm": granules * granule}


def test_a_tier_without_latency_streams_the_granules() -> None:
    wormhole = machine("wormhole-t3000")
    amount = gather(Gather("table", "ffn", 10, 7, 100), wormhole)
    assert amount.total_seconds == pytest.approx(7 * 128 / (288e9 * float(wormhole.stack.activation_streaming)))


def test_rows_that_repeat_are_read_once() -> None:
    many, few = (gather(Gather("table", "ffn", 1000, unique, 256), H100) for unique in (1000.0, 10.0))
    assert many.bytes["hbm"] == 100 * few.bytes["hbm"]


def test_nothing_asked_costs_nothing() -> None:
    asked: list[Operation] = [
        square(0),
        Attention("decode", "decode", 0, 0, 100, 100, "bf16"),
        Gather("table", "ffn", 0, 0, 100),
        Stream("cache", "kv", 0),
        Vector("norm", 0, 0),
        Collective("sum", "all_reduce", 0.0, 8),
    ]
    for operation in asked:
        assert cost_of(operation, machine(tp=8)).total_seconds == 0, operation.name


def test_repeats_multiply() -> None:
    once, often = (stream(Stream("cache", "kv", 1e6, repeat), H100) for repeat in (1, 80))
    assert often.total_seconds == pytest.approx(80 * once.total_seconds)
    assert often.bytes["hbm"] == pytest.approx(80e6)


def test_a_second_socket_adds_what_the_stack_says_it_does() -> None:
    one, two = (machine("xeon-6980p-2s", tp=tp) for tp in (1, 2))
    assert two.bandwidth == pytest.approx(one.bandwidth * float(one.stack.socket_scaling))


def test_a_stack_of_another_family_is_refused_with_the_one_to_use() -> None:
    with pytest.raises(StackError, match=r"'llama-cpp-2025' runs on dram-node.*'h100-sxm-8'.*'vllm-2025'"):
        machine(stack="llama-cpp-2025")


# Steps.

lines = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**4)), min_size=1, max_size=4)


def durations(pieces: tuple[tuple[int, int, int], ...]) -> list[int]:
    return [first + increment * step for steps, first, increment in pieces for step in range(steps)]


@given(lines, st.integers(1, 300))
def test_pieces_are_the_largest_line_of_each_step(some: list[tuple[int, int]], steps: int) -> None:
    assert durations(largest(some, steps)) == [max(a + b * step for a, b in some) for step in range(steps)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 64), st.integers(0, 10**5), st.integers(0, 64), st.integers(0, 10**7), st.integers(1, 80), st.data()
)
def test_splitting_a_run_of_steps_changes_no_duration(
    tokens: int, context: int, growth: int, pairs: int, steps: int, data: st.DataObject
) -> None:
    keys, prompt = [(context, growth)], [(pairs, growth**2)] if pairs else None
    whole = durations(TABLE.pieces(tokens, tokens, keys, prompt, steps))
    cut = data.draw(st.integers(0, steps))
    later = [(context + growth * cut, growth)], [(pairs + growth**2 * cut, growth**2)] if pairs else None
    parts = durations(TABLE.pieces(tokens, tokens, keys, prompt, cut))
    assert whole == parts + durations(TABLE.pieces(tokens, tokens, *later, steps - cut))
    assert len(whole) == steps


SLOW_HOST = machine(stack="vllm-2024", chip__power__cap=460.0)  # has a floor of 5.8 ms, and a limit that is reached
TABLE = StepTable(step_cost(load_model("llama-3.1-8b"), Precision(), SLOW_HOST, 64, 64), SLOW_HOST)

MODELS = {
    "dense": ("llama-3.1-8b", "h100-sxm-8", 1, Precision()),
    "windows, experts and tp": ("gpt-oss-20b", "h100-sxm-8", 2, Precision(experts="mxfp4")),
    "latent attention": ("deepseek-v2", "b200-sxm-8", 8, Precision(weights="fp8")),
    "torus": ("llama-3.1-70b", "tpu-v6e-16", 16, Precision()),
    "sockets": ("qwen3-30b-a3b", "xeon-6980p-2s", 2, Precision(weights="q8_0")),
    "mesh": ("llama-3.1-8b", "wormhole-t3000", 8, Precision(weights="bfp8", kv="bfp8")),
}


@pytest.mark.parametrize("case", MODELS)
def test_the_table_of_steps_agrees_with_the_operations_themselves(case: str) -> None:
    name, hardware, tp, precision = MODELS[case]
    model, chips = load_model(name), machine(hardware, tp, chip__power__cap=1e9)
    stack, limit = chips.stack, 128
    table = StepTable(step_cost(model, precision, chips, limit, limit), chips)
    windows = model.windows
    rng = np.random.default_rng(3)
    sparse = sum(layer.count for layer in model.layers if isinstance(layer.ffn, MoEFFN))
    per_expert_layer = 0.0
    if stack.expert_overhead:
        format_ = precision.format_of("expert")
        per_expert_layer = float(stack.expert_overhead.get(format_, stack.expert_overhead.get("default", 0.0)))
    for _ in range(12):
        tokens, outputs = int(rng.integers(1, limit + 1)), int(rng.integers(0, limit + 1))
        outputs = min(outputs, tokens)
        keys = [int(rng.integers(0, 10**6)) for _ in windows]
        pairs = [int(rng.integers(1, 10**6)) for _ in windows] if rng.random() < 0.5 else None
        batch = Batch(
            float(tokens),
            float(outputs),
            dict(zip(windows, map(float, keys), strict=True)),
            dict(zip(windows, map(float, pairs or [0] * len(windows)), strict=True)),
        )
        operations = model.forward(batch, chips.parallelism, precision, float(stack.expert_popularity))
        layers_on = chips if pairs is None else chips.for_prompts
        of_batch = [isinstance(o, Attention) or o.name == "head" for o in operations]
        priced = [cost_of(o, chips if alike else layers_on) for o, alike in zip(operations, of_batch, strict=True)]
        expected = float(sum(amount.total_seconds for amount in priced))
        expected += float(stack.step_overhead) + sparse * per_expert_layer
        expected += model.layer_count * (float(stack.layer_overhead) + float(stack.thread_overhead) * chips.cores)
        expected += outputs * float(stack.sequence_overhead)
        if name != "gpt-oss-20b":  # asks for neither top-k nor top-p: nothing is sorted
            expected += outputs * float(stack.vocabulary_overhead) * model.vocab_size
        expected += outputs * float(stack.sequence_layer_overhead) * model.layer_count
        if pairs is not None:
            expected += model.layer_count * float(stack.prefill_layer_overhead)
        host = float(stack.host_floor)
        if pairs is not None:
            host += model.layer_count * float(stack.prefill_dispatch) * tp
        expected = float(HostFloor(host, float(stack.host_norm)).joined(expected))
        ((_, got, _),) = table.pieces(
            tokens, outputs, [(k, 0) for k in keys], None if pairs is None else [(p, 0) for p in pairs], 1
        )
        grain = PARTS if host else 1
        rounding = 0.5 * grain * (4 + sum(keys) + sum(pairs or []))  # half a grain for each term of the sum
        assert got == pytest.approx(expected * TICKS_PER_SECOND, rel=1e-11, abs=rounding)


def test_a_lower_power_limit_lengthens_prefill_and_never_shortens() -> None:
    caps = [700.0, 600.0, 500.0, 460.0]
    prefill = [step_s(machine(chip__power__cap=cap), "llama-3.1-8b", 8192, 0, 8192 * 4096) for cap in caps]
    decode = [step_s(machine(chip__power__cap=cap), "llama-3.1-8b", 8, 8 * 1000) for cap in caps]
    assert prefill == sorted(prefill)
    assert prefill[-1] > 1.2 * prefill[0]
    assert decode == [decode[0]] * len(caps)


def test_at_the_power_limit_a_step_takes_its_joules_over_the_room_for_them() -> None:
    chips = machine(chip__power__cap=500.0)
    cost = step_cost(load_model("llama-3.1-8b"), Precision(), chips, 8192, 1)
    pairs = 8192 * 4096
    joules = float(marginal_joules(cost.tokens, chips)[8192] + marginal_joules(cost.pairs[0], chips) * pairs)
    joules += float(marginal_joules(cost.outputs, chips)[1])
    assert step_s(chips, "llama-3.1-8b", 8192, 0, pairs) == pytest.approx(joules / (500 - 70), rel=1e-6)


def test_eight_chips_beat_four_on_a_large_batch_but_not_twofold() -> None:
    four, eight = (step_s(machine(tp=tp), "llama-3.1-70b", 256, 256 * 2000) for tp in (4, 8))
    assert four / 2 < eight < four


def test_marginal_joules_count_flops_bytes_and_what_is_sent() -> None:
    m, d = 100, 1024
    assert marginal_joules(matmul(square(m, d), H100), H100) == pytest.approx(2 * m * d * d * 0.81e-12)
    xeon = machine("xeon-6980p-2s", tp=2)
    moved = Amount({}, {}, {"ddr": 1e9})
    assert xeon.memory.energy is not None
    assert marginal_joules(moved, xeon) == pytest.approx(1e9 * float(xeon.memory.energy))
    sent = cost_of(Collective("sum", "all_reduce", 1e6, 8), machine(tp=8))
    assert marginal_joules(sent, H100) == pytest.approx(2 * 7 / 8 * 1e6 * 8 * 9e-12)


def test_amounts_add_up_by_name() -> None:
    total = add(
        [Amount({"hbm": 1.0}, {"bf16": 2.0}, {"hbm": 3.0}, {"ring": 4.0}, 5.0), Amount({"hbm": 1.0, OVERHEAD: 1.0})]
    )
    assert (total.seconds, total.flops, total.bytes) == ({"hbm": 2.0, OVERHEAD: 1.0}, {"bf16": 2.0}, {"hbm": 3.0})
    assert (total.sent, total.crossed) == ({"ring": 4.0}, 5.0)


def test_a_pipeline_turns_at_the_pace_of_its_longest_stage() -> None:
    def seconds(pp: int) -> float:
        machine = Machine(CATALOGUE.load("h100-sxm-8"), STACKS.load("vllm-2025"), Parallelism(pp=pp))
        cost = step_cost(load_model("llama-3.1-8b"), Precision(), machine, 8192, 1)
        return float(np.asarray(cost.tokens.total_seconds)[8192])

    # 32 layers are eight stages of 4, or five of at most 7, which turn as if there were 35.
    assert seconds(5) * 5 / (seconds(8) * 8) == pytest.approx(35 / 32, rel=0.04)


def floored(p: float, floor_s: float = 10e-3) -> HostFloor:
    return HostFloor(floor_s, p)


@pytest.mark.parametrize("p", [2.0, 3.0, 4.0, 8.0])
def test_the_hosts_time_joins_the_devices_as_a_p_norm(p: float) -> None:
    work = 10e-3 * np.logspace(-2, 2, 401)
    exact = (work**p + 10e-3**p) ** (1 / p)
    joined = floored(p).joined(work)
    assert np.all(joined <= exact * (1 + 1e-12))
    assert np.all(joined >= exact * 0.995)
    assert np.all(joined[work >= floored(p).free_from_s] == work[work >= floored(p).free_from_s])


def test_a_host_norm_of_one_adds_and_no_host_adds_nothing() -> None:
    assert floored(1.0).joined(np.array([1e-3, 1.0])) == pytest.approx([11e-3, 1.01])
    assert floored(4.0, 0.0).joined(np.array([1e-3, 1.0])) == pytest.approx([1e-3, 1.0])


@pytest.mark.parametrize("p", [1.0, 2.0, 4.0])
def test_steps_under_a_host_floor_are_the_same_one_by_one_and_in_a_run(p: float) -> None:
    chips = machine(stack__host_floor=7e-3, stack__host_norm=p)
    model = load_model("llama-3.1-8b")
    cost = step_cost(model, Precision(), chips, 64, 64)
    table = StepTable(cost, chips)
    steps, keys, grown = 3000, 64 * 100, 64
    run = [
        ticks
        for count, first, more in table.pieces(64, 64, [(keys, grown)], None, steps)
        for ticks in range(first, first + more * count, more)
    ]
    single = [table.pieces(64, 64, [(keys + grown * i, 0)], None, 1)[0][1] for i in range(0, steps, 37)]
    assert run[::37] == single
    work = float(np.asarray(cost.tokens.total_seconds)[64] + np.asarray(cost.outputs.total_seconds)[64])
    work += float(cost.keys[0].total_seconds) * keys
    assert run[0] / TICKS_PER_SECOND == pytest.approx(float(cost.floor.joined(work)), rel=1e-6)
    assert run[0] / TICKS_PER_SECOND > 7e-3


def test_narrow_products_reach_less_of_the_peak() -> None:
    wide, narrow = (machine(stack__matmul_half_width=value) for value in (0.0, 2048.0))
    rows, d = 1e6, 2048
    full, half = (matmul(square(rows, d), chips).seconds["compute"] for chips in (wide, narrow))
    memory = matmul(square(rows, d), wide).seconds["hbm"]
    assert memory < 0.1 * full
    assert half / full == pytest.approx(2.0, rel=0.05)


def test_decode_attention_depends_on_the_format_of_the_cache() -> None:
    slow = {"default": H100.stack.decode_attention["default"], "fp8": H100.stack.decode_attention["default"] / 2}
    chips = machine(stack__decode_attention=slow)
    times = [
        float(np.sum(attention(Attention("a", "decode", 1e6, 1e6, 1e6, 1.0, form), chips).total_seconds))
        for form in ("bf16", "fp8")
    ]
    assert times[1] == pytest.approx(2 * times[0], rel=1e-6)


def test_a_stack_that_shards_cuts_what_its_chips_would_copy() -> None:
    copied, sharded = (machine("tpu-v6e-16", 16, stack__sharded=flag) for flag in (False, True))
    norm = Vector("norm", 1e6, 1e9, 1.0, copies=16)
    assert cost_of(norm, copied).total_seconds == pytest.approx(16 * cost_of(norm, sharded).total_seconds)
    model = load_model("llama-3.1-70b")  # 8 key-value heads on 16 chips: each head is on two of them
    batch = Batch(8.0, 8.0, {None: 8e4}, {})
    reads = [o for o in model.forward(batch, copied.parallelism, Precision()) if isinstance(o, Attention)]
    assert {o.copies for o in reads} == {2.0}
    for read in reads:
        assert sum(cost_of(read, copied).bytes.values()) == 2 * sum(cost_of(read, sharded).bytes.values())
    whole = [o for o in model.forward(batch, Parallelism(tp=8), Precision()) if isinstance(o, Attention)]
    assert {o.copies for o in whole} == {1.0}
