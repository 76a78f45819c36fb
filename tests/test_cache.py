"""Caches: the closed forms give the reference's rates, and the simulated ones agree with them."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.cache import hit_rate, hits
from simulator.cost.place import Policy
from simulator.model.popularity import unique_rows

# Table of 1e8 rows, a static cache of the hottest, independent draws (reference, computed by brute force).
ZIPF_CACHE = """\
zipf_s,draws,unique,top_1e-4,top_1e-3,top_1e-2,top_1e-1
0.0,16384,16383,0.000,0.001,0.010,0.100
0.6,16384,16350,0.025,0.063,0.158,0.398
0.8,16384,15507,0.139,0.234,0.384,0.622
1.0,16384,10421,0.515,0.636,0.758,0.879
1.1,16384,6780,0.734,0.825,0.897,0.954
0.8,1048576,846601,0.139,0.234,0.384,0.622
1.0,1048576,437422,0.515,0.636,0.758,0.879
1.1,1048576,239207,0.734,0.825,0.897,0.954
"""
ROWS = list(csv.DictReader(io.StringIO(ZIPF_CACHE)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['zipf_s']}-{row['draws']}")
def test_a_table_of_1e8_rows_gives_the_reference_rates(row: dict[str, str]) -> None:
    zipf = float(row["zipf_s"])
    for share in (1e-4, 1e-3, 1e-2, 1e-1):
        published = float(row[f"top_{share:.0e}".replace("e-0", "e-")])
        assert hit_rate(1e8, zipf, share * 1e8) == pytest.approx(published, abs=2e-3)
    assert unique_rows(1e8, float(row["draws"]), zipf) == pytest.approx(float(row["unique"]), rel=1e-3)


def draws(items: int, zipf: float, number: int, seed: int = 3) -> np.ndarray:
    weights = np.arange(1, items + 1, dtype=float) ** -zipf
    return np.random.default_rng(seed).choice(items, number, p=weights / weights.sum())


@pytest.mark.parametrize("policy", ["pinned", "lru", "lfu"])
@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.1])
def test_simulated_and_closed_rates_agree(policy: Policy, zipf: float) -> None:
    items, kept = 500, 50
    sequence = draws(items, zipf, 40_000)
    steady = hits(sequence, kept, policy, hot=range(kept))[10_000:]
    closed = hit_rate(items, zipf, kept, policy)
    assert float(steady.mean()) == pytest.approx(closed, abs=0.015)


def test_a_cache_starts_cold_and_drops_by_its_policy() -> None:
    assert hits([1, 2, 1, 3, 2], 2, "lru").tolist() == [False, False, True, False, False]
    assert hits([1, 1, 2, 3, 1], 2, "lfu").tolist() == [False, True, False, False, True]
    assert hits([1, 2, 3], 2, "pinned", hot=[2, 3]).tolist() == [False, True, True]
    assert not hits([1, 1, 1], 0).any()


@given(st.floats(0, 1.5), st.floats(1, 1e6), st.floats(0, 1), st.sampled_from(["pinned", "lru", "lfu"]))
def test_a_larger_cache_never_hits_less_and_rates_are_shares(
    zipf: float, items: float, part: float, policy: Policy
) -> None:
    items = float(round(items))
    small, large = (hit_rate(items, zipf, kept, policy) for kept in (part * items / 2, part * items))
    assert 0 <= small <= large + 1e-9
    assert large <= 1 + 1e-9
    if policy == "lru":
        assert large <= hit_rate(items, zipf, part * items) + 1e-6  # nothing beats knowing the hottest
