"""Prompts come as text: one thread makes tokens of all that wait and hands them over together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from engine_cases import EngineCase, constant_step, requests

from simulator.engine.batching import BatchLimits
from simulator.engine.front_end import MOST, WAIT_S
from simulator.engine.kv_cache import KvLimits

STEP = 0.01
ROOMY = KvLimits(1 << 20, 16)
LIMITS = BatchLimits(max_num_seqs=64, max_num_batched_tokens=1 << 16, tokenization=1e-4)


def case(arrivals: object, prompts: object, outputs: object = 1, **options: int) -> EngineCase:
    return EngineCase(requests(arrivals, prompts, outputs), constant_step(STEP), LIMITS, ROOMY, options)


def test_prompts_sent_together_reach_the_scheduler_together() -> None:
    run = case(0.0, [1000, 2000, 3000]).run().requests
    np.testing.assert_allclose(run.first_token_s, WAIT_S + 0.6 + STEP, rtol=1e-9)
    assert np.all(run.arrival_s == 0.0)


def test_a_prompt_that_comes_while_others_are_worked_on_waits_for_the_next_batch() -> None:
    run = case([0.0, 0.1, 0.2], 3000).run().requests
    first = WAIT_S + 0.3
    assert run.first_token_s[0] == pytest.approx(first + STEP)
    np.testing.assert_allclose(run.first_token_s[1:], first + WAIT_S + 0.6 + STEP)


def test_a_batch_has_so_many_prompts_at_most() -> None:
    run = case(np.zeros(MOST + 1), 10).run().requests
    assert np.unique(run.first_token_s[:-1]).size == 1
    assert run.first_token_s[-1] == pytest.approx(run.first_token_s[0] + STEP)  # the step after the others


def test_each_replica_has_a_thread_of_its_own() -> None:
    run = case(0.0, [1000, 1000], replicas=2, router="round_robin").run().requests
    np.testing.assert_allclose(run.first_token_s, WAIT_S + 0.1 + STEP)


def test_without_it_prompts_are_seen_at_once() -> None:
    plain = case(0.0, [1000, 2000])
    run = replace(plain, batch=replace(LIMITS, tokenization=0.0)).run().requests
    np.testing.assert_allclose(run.first_token_s, STEP)


def test_tokens_found_in_the_cache_are_not_computed_and_take_room_all_the_same() -> None:
    chunks = BatchLimits(max_num_seqs=8, max_num_batched_tokens=100)
    found = requests(0.0, [1000, 1000], 1, cached=np.array([0, 950]))
    run = EngineCase(found, constant_step(STEP), chunks, ROOMY).run()
    assert (run.steps.prefill_tokens * run.steps.steps).sum() == 1050
    np.testing.assert_allclose(run.requests.first_token_s, [10 * STEP, 11 * STEP])
    assert EngineCase(found, constant_step(STEP), chunks, KvLimits(100, 16)).run().kv_used_max == pytest.approx(0.63)
