"""Tokens of different depth as events: the limits of one token and of many are the closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.depth import DepthRun, Path, Policy, simulate_depth
from simulator.model.depth.paths import Node, Paths, balanced
from simulator.model.use import Use

EXITS = (0.25, 0.25, 0.0, 0.5)  # of four groups of layers: a quarter leaves after the first, a quarter after the second
REACH = (1.0, 0.75, 0.5, 0.5)
PATHS = [Path(share, tuple(range(last + 1))) for last, share in enumerate(EXITS) if share]
LOAD, EACH = 1e-3, 1e-5  # a group reads its weights in a millisecond and computes a token in ten microseconds
TIMES = [[0.0] + [LOAD + EACH * b for b in range(1, 1025)]] * 4


def simulated(policy: Policy, sequences: int, batch: int = 1024, tokens: int = 20_000) -> DepthRun:
    return simulate_depth(PATHS, TIMES, policy=policy, sequences=sequences, batch=batch, tokens=tokens)


def closed(batch: float, *, lock_step: bool) -> float:
    """Tokens a second from the expected runs of each group, as steps are priced."""
    step = 0.0
    for reach in REACH:
        use = Use(reach=reach, lock_step=lock_step)
        step += float(use.times(batch)) * (LOAD + EACH * batch * float(use.share(batch)))
    return batch / step


def test_one_token_alone_takes_the_groups_of_its_path() -> None:
    mean = sum(REACH) * (LOAD + EACH)
    for policy in ("lock_step", "depth_wise", "pipeline"):
        assert simulated(policy, 1, 1, 5000).tokens_per_second == pytest.approx(1 / mean, rel=0.03)
    assert closed(1.0, lock_step=True) == pytest.approx(1 / mean)


@pytest.mark.parametrize("batch", [1, 2, 8, 32, 256])
def test_a_lock_step_batch_runs_what_any_token_needs(batch: int) -> None:
    assert simulated("lock_step", batch).tokens_per_second == pytest.approx(closed(batch, lock_step=True), rel=0.02)


def test_the_savings_die_with_a_lock_step_batch_and_live_with_gathered_tokens() -> None:
    """At 64 tokens in lock step every layer is read in every step; gathered from many sequences it is read less."""
    full = 64 / sum(LOAD + EACH * 64 for _ in REACH)
    lock_step = simulated("lock_step", 64)
    gathered = simulated("depth_wise", 1024, 64, 60_000)
    assert lock_step.tokens_per_second / full == pytest.approx(closed(64, lock_step=True) / full, rel=0.02)
    assert lock_step.tokens_per_second < 1.2 * full
    assert gathered.tokens_per_second == pytest.approx(closed(64, lock_step=False), rel=0.03)
    assert min(gathered.batch) > 60


def test_gathering_needs_more_sequences_than_a_batch() -> None:
    few, many = (simulated("depth_wise", n, 64).tokens_per_second for n in (64, 512))
    assert few < 0.9 * many
    assert few == pytest.approx(simulated("lock_step", 64).tokens_per_second, rel=0.03)  # a batch alone gains nothing


def test_a_pipeline_turns_at_the_pace_of_its_busiest_group() -> None:
    """The first group passes every token: max over groups of reach * t(B) / B; freed groups stand idle."""
    run = simulated("pipeline", 1024, 64, 60_000)
    assert run.tokens_per_second == pytest.approx(64 / (LOAD + EACH * 64), rel=0.03)
    assert run.busy[0] > 0.98
    assert run.busy[1] == pytest.approx(0.75, abs=0.35)


def test_a_pipeline_with_balanced_stages_takes_other_tokens_in_freed_places() -> None:
    """Groups cut so that reach * layers is alike keep every stage busy: the throughput of the mean depth."""
    balanced = [[0.0] + [(LOAD + EACH * b) / reach for b in range(1, 1025)] for reach in REACH]
    run = simulate_depth(PATHS, balanced, policy="pipeline", sequences=2048, batch=64, tokens=60_000)
    assert min(run.busy) > 0.85
    assert run.tokens_per_second == pytest.approx(64 / (LOAD + EACH * 64), rel=0.1)


def test_recursion_gathers_tokens_of_all_depths_in_one_block() -> None:
    """Mixture of recursions: a block passed once, twice or three times, its weights read for all depths together."""
    paths = [Path(0.4, (0,)), Path(0.3, (0, 0)), Path(0.3, (0, 0, 0))]
    run = simulate_depth(paths, TIMES[:1], policy="depth_wise", sequences=64, batch=64, tokens=50_000)
    mean = 0.4 + 0.6 + 0.9
    assert run.tokens_per_second == pytest.approx(64 / (LOAD + EACH * 64) / mean, rel=0.02)
    assert run.batch[0] == pytest.approx(64, rel=0.01)


def test_a_tree_is_a_set_of_paths() -> None:
    paths = [Path(0.75, (0, 1)), Path(0.25, (0, 2, 3))]
    run = simulate_depth(paths, TIMES, policy="lock_step", sequences=16, batch=16, tokens=30_000)
    chance = np.array([1.0, 0.75, 0.25, 0.25])
    runs = 1 - (1 - chance) ** 16
    step = float((runs * LOAD + chance * 16 * EACH).sum())
    assert run.tokens_per_second == pytest.approx(16 / step, rel=0.02)


def test_the_same_seed_is_the_same_run() -> None:
    assert simulated("pipeline", 128, 16) == simulated("pipeline", 128, 16)


def test_times_that_end_too_early_are_refused() -> None:
    with pytest.raises(ValueError, match="do not reach 2000 tokens"):
        simulated("lock_step", 2000)


# --- cut into stages ---


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=9), st.integers(1, 9))
def test_stages_are_cut_as_trying_every_way_would(loads: list[float], parts: int) -> None:
    parts = min(parts, len(loads))

    def sums(edges: Sequence[int]) -> list[float]:
        return [sum(loads[a:b]) for a, b in pairwise([0, *edges, len(loads)])]

    every = [sums(edges) for edges in combinations(range(1, len(loads)), parts - 1)]
    found = sums(balanced(loads, parts))
    least = min(map(max, every))
    assert max(found) == pytest.approx(least)
    squares = [sum(x * x for x in one) for one in every if max(one) <= least * (1 + 1e-9)]
    assert sum(x * x for x in found) == pytest.approx(min(squares), rel=1e-6)


def test_nodes_are_cut_where_stages_begin_and_ways_go_on_through_the_parts() -> None:
    paths = Paths((Node(0, 4, searches=(2,)), Node(4, 2, 0.5), Node(4, 6, 0.5)), ((0.5, (0, 1)), (0.5, (0, 2))))
    cut, stages = paths.cut([[1.0] * 4, [0.5] * 2, [0.5] * 6], 4)
    assert [(node.first, node.layers, node.searches) for node in cut.nodes] == [
        (0, 2, ()),
        (2, 2, (2,)),
        (4, 2, ()),
        (4, 2, ()),
        (6, 4, ()),
    ]
    assert stages == ((0,), (1,), (2, 3), (4,))
    assert cut.ways == ((0.5, (0, 1, 2)), (0.5, (0, 1, 3, 4)))
    assert sum(node.layers for node in cut.nodes) == 12


def test_balanced_stages_beat_those_between_exits() -> None:
    """Eight layers between two exits."""
    layers = Paths(
        tuple(Node(8 * place, 8, reach) for place, reach in enumerate(REACH)),
        tuple((path.share, path.groups) for path in PATHS),
    )
    cut, stages = layers.cut([[reach / 8] * 8 for reach in REACH], 4)
    times = [[node.layers / 8 * t for t in TIMES[0]] for node in cut.nodes]
    ways = [Path(share, way) for share, way in cut.ways]
    run = simulate_depth(ways, times, policy="pipeline", sequences=1024, batch=64, tokens=60_000, stages=stages)
    between = simulated("pipeline", 1024, 64, 60_000)
    best = 4 / sum(REACH) * 64 / (LOAD + EACH * 64)
    assert run.tokens_per_second > 1.3 * between.tokens_per_second
    assert run.tokens_per_second == pytest.approx(best, rel=0.1)
