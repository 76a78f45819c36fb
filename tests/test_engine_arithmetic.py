"""Closed forms of the engine against counting one by one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.piece import elapsed, largest, steps_until
from simulator.engine.context import NEVER, ContextSum, pair_growth, prefill_pairs
from simulator.engine.kv_cache import BlockDemand, KvLimits
from simulator.engine.sequence import Sequence

quick = settings(max_examples=300, deadline=None, derandomize=True)
windows = st.none() | st.integers(1, 40)


@quick
@given(st.integers(0, 200), st.integers(1, 20), st.integers(0, 3))
def test_blocks_held(tokens: int, size: int, fixed: int) -> None:
    kv = KvLimits(100, size, fixed)
    blocks = 0
    while blocks * size < tokens:
        blocks += 1
    assert kv.held(tokens) == (blocks + fixed if tokens else 0)


@quick
@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 3))
def test_the_longest_sequence_fits_and_one_token_more_does_not(blocks: int, size: int, fixed: int) -> None:
    kv = KvLimits(blocks, size, fixed)
    if kv.longest:
        assert kv.held(kv.longest) <= blocks < kv.held(kv.longest + 1)
    else:
        assert kv.held(1) > blocks


@quick
@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), max_size=8),
    st.integers(0, 3),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_blocks_demanded_by_decoders(
    size: int, sequences: list[tuple[int, int]], leave: int, free: int, steps: int
) -> None:
    """`sequences`: (cached tokens, iteration in which it joined); the first few leave at iteration 30."""
    now, kv, demand = 30, KvLimits(10**6, size), BlockDemand(size)
    for cached, joined in sequences:
        demand.add(cached, joined)
    for cached, joined in sequences[:leave]:
        demand.remove(cached + now - joined, now)
    cached_now = [cached + now - joined for cached, joined in sequences[leave:]]

    def taken(within: int) -> int:
        return sum(kv.held(cached + within) - kv.held(cached) for cached in cached_now)

    assert demand.over(now, steps) == taken(steps)
    assert demand.over(now, 1) == taken(1)
    assert demand.steps_within(now, free, steps) == max(n for n in range(steps + 1) if taken(n) <= free)


@quick
@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 60), max_size=5),
    st.integers(0, 40),
    st.integers(1, 30),
    st.integers(0, 300),
    st.integers(1, 40),
)
def test_steps_of_a_long_prompt_beside_decoders(
    size: int, decoding: list[int], computed: int, chunk: int, free: int, most: int
) -> None:
    kv, demand = KvLimits(10**6, size, 1), BlockDemand(size)
    for cached in decoding:
        demand.add(cached, 7)

    def taken(within: int) -> int:
        grown = sum(kv.held(cached + within) - kv.held(cached) for cached in decoding)
        return grown + kv.held(computed + within * chunk) - kv.held(computed)

    fitting = [steps for steps in range(1, most + 1) if taken(steps) <= free]
    assert demand.prompt_steps_within(7, free, most, (computed, chunk), kv) == max(fitting, default=1)


@quick
@given(windows, st.lists(st.tuples(st.integers(1, 50), st.booleans()), min_size=1, max_size=8), st.integers(1, 60))
def test_keys_read_by_decoders(window: int | None, shapes: list[tuple[int, bool]], steps: int) -> None:
    """Sequences join in iteration 0, some leave at once; then `steps` iterations, a straight line at a time."""
    keys, staying = ContextSum(window), []
    for number, (context, stays) in enumerate(shapes):
        sequence = Sequence(number, context, 10**6)
        sequence.context, sequence.joined = context, 0
        keys.add(sequence)
        if stays:
            staying.append(context)
        else:
            sequence.epoch += 1
            keys.remove(context)

    def read(iteration: int) -> int:
        return sum(min(context + iteration + 1, window or NEVER) for context in staying)

    iteration = 0
    while iteration < steps:
        straight = min(steps, keys.next_change()) - iteration
        assert straight > 0
        for ahead in range(straight):
            assert keys.total + keys.growing * ahead == read(iteration + ahead)
        iteration += straight
        keys.advance(iteration, straight)
    assert keys.total == read(steps)


@quick
@given(st.integers(0, 60), st.integers(1, 20), windows, st.integers(1, 12))
def test_pairs_of_prompt_chunks(prefix: int, chunk: int, window: int | None, steps: int) -> None:
    def pairs(step: int) -> int:
        return sum(min(prefix + step * chunk + j, window or NEVER) for j in range(1, chunk + 1))

    growth, holds = pair_growth(prefix, chunk, window)
    for step in range(steps):
        assert prefill_pairs(prefix + step * chunk, chunk, window) == pairs(step)
        if step < holds:
            assert pairs(step) == pairs(0) + step * growth


@quick
@given(st.integers(1, 30), st.integers(1, 50), st.integers(0, 9), st.integers(1, 10**4))
def test_steps_until_an_instant(steps: int, first: int, increment: int, instant: int) -> None:
    piece = (steps, first, increment)
    durations = [first + increment * step for step in range(steps)]
    assert elapsed(piece, steps) == sum(durations)
    found, passed = 0, 0
    while found == 0 or passed < instant:
        passed += first + increment * found
        found += 1
    assert steps_until(piece, instant) == found


@quick
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 12)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(0, 39),
)
def test_the_largest_of_lines_bends_where_one_overtakes(lines: list[tuple[int, int]], steps: int, cut: int) -> None:
    wanted = [max(a + b * step for a, b in lines) for step in range(steps)]
    pieces = largest(lines, steps)
    assert [first + increment * step for count, first, increment in pieces for step in range(count)] == wanted
    assert len(pieces) <= len(lines)
    if cut < steps:
        later = largest([(a + b * cut, b) for a, b in lines], steps - cut)
        assert [first + increment * step for count, first, increment in later for step in range(count)] == wanted[cut:]
