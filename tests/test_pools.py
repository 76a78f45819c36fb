"""Prefill and decode in pools of their own: the same bits as stepping, limits that are known, laws that hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from engine_cases import MadeUpStep, engine_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine_fast_forward import assert_same_run

from simulator.engine.batching import BatchLimits
from simulator.engine.disaggregated import Pool, simulate_pools
from simulator.engine.kv_cache import KvLimits
from simulator.engine.link import LinkLimits
from simulator.engine.records import RunRecords, TransferRecords
from simulator.engine.traffic import Workload

EVENTS = 9
"""Most events a request: four in either pool, and its transfer."""

FAST = LinkLimits(1e30, 1e30, 0.0, 1.0)
ROOMY = KvLimits(1 << 20, 16)

many = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class PoolCase:
    """Arguments of one run."""

    workload: Workload
    prefill: Pool
    decode: Pool
    link: LinkLimits = FAST
    router: str = "least_outstanding"

    def run(self, **more: Any) -> RunRecords:
        """Simulate it."""
        return simulate_pools(self.workload, self.prefill, self.decode, self.link, router=self.router, **more)


def transfers(run: RunRecords) -> TransferRecords:
    """They are there."""
    assert run.transfers is not None
    return run.transfers


@st.composite
def pool_cases(draw: st.DrawFn) -> PoolCase:
    """Small traces over two pools: tiny caches on either side, links from very slow to very fast, closed loops."""
    first = draw(engine_cases())
    longest = int((first.workload.input_tokens + first.workload.output_tokens).max())
    size = draw(st.sampled_from([1, 4, 16]))
    need = -(-longest // size) + 1
    room = need + draw(st.integers(0, need) | st.integers(0, 8 * need))
    rate = draw(st.sampled_from([1e2, 1e4, 1e30]))
    return PoolCase(
        first.workload,
        Pool(first.step, first.batch, first.kv, draw(st.integers(1, 3))),
        Pool(
            replace(first.step, tariffs=draw(st.sampled_from([MadeUpStep().tariffs, first.step.tariffs]))),
            BatchLimits(draw(st.sampled_from([1, 3, 16])), draw(st.sampled_from([16, 64, 512]))),
            KvLimits(room, size, 1),
            draw(st.integers(1, 3)),
        ),
        LinkLimits(rate, draw(st.sampled_from([1e3, 1e30])), draw(st.sampled_from([0.0, 0.003])), 1.0, 5.0),
        draw(st.sampled_from(["round_robin", "least_outstanding"])),
    )


@many
@given(pool_cases())
def test_fast_forward_is_stepping_to_the_bit(case: PoolCase) -> None:
    fast, exact = case.run(), case.run(exact=True)
    assert_same_run(fast, exact)
    for name in TransferRecords.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(fast.transfers, name), getattr(exact.transfers, name), name)
