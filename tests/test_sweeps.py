"""Benchmarks that send prompts again, and servers that draft: what rows under load make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_validate import made
from test_validate_load import load, run

from simulator.validation import demand
from simulator.validation.drafting import Drafting
from simulator.validation.load import Arrivals
from simulator.validation.repeats import Sent, hits
from simulator.validation.rows import read_rows

LOOP = Arrivals(concurrency=8, requests=80)


def test_a_run_with_twice_the_requests_finds_its_first_half() -> None:
    found = hits([Sent(40, 1024, 128)], Sent(80, 1024, 128), room=1 << 20, block=16)
    assert found.tolist() == [1008] * 40 + [0] * 40  # the last block is computed, whose last token must be


def test_longer_prompts_find_their_beginning() -> None:
    found = hits([Sent(4, 1000, 128)], Sent(4, 3000, 128), room=1 << 20, block=16)
    assert found.tolist() == [992] * 4


def test_what_was_used_first_goes_first_its_end_before_its_beginning() -> None:
    assert hits([Sent(3, 900, 100)], Sent(1, 900, 100), room=2500, block=1).tolist() == [500]
    assert hits([Sent(3, 900, 100)], Sent(3, 900, 100), room=2500, block=1).tolist() == [500, 500, 500]


def test_a_cycle_longer_than_the_cache_finds_nothing() -> None:
    runs = [Sent(20, 900, 100)]
    assert not hits(runs, runs[0], room=19_000, block=16).any()
    assert hits(runs, runs[0], room=20_000, block=16).all()


def test_prompts_found_make_first_tokens_early() -> None:
    plain = load(LOOP)
    again = replace(plain, earlier=(Sent(80, 256, 64),))
    assert run(again)["ttft_p50"] < run(plain)["ttft_p50"]
    assert again.key != plain.key


def test_rounds_give_tokens_and_tokens_are_what_is_reported() -> None:
    plain = load(LOOP)
    sure = replace(plain, drafting=Drafting(drafts=1, kept=1.0))
    never = replace(plain, drafting=Drafting(drafts=1, kept=0.0))
    two, none, one = run(sure), run(never), run(plain)
    assert none["tpot_p50"] / two["tpot_p50"] == pytest.approx(2.0, rel=0.05)
    assert one["tpot_p50"] < none["tpot_p50"] < 1.5 * one["tpot_p50"]  # a round costs more than a step, not twice


def test_requests_differ_in_what_is_kept_of_their_drafts() -> None:
    drafting, rng = Drafting(drafts=2, kept=0.3), np.random.default_rng(0)
    tokens = drafting.tokens_a_round(100_000, rng)
    assert tokens.min() == pytest.approx(1.0, abs=0.01)
    assert tokens.max() == pytest.approx(1.0 + 0.6 + 0.36, abs=0.01)
    assert drafting.mean_tokens == pytest.approx(1.39)


def test_the_runs_before_a_row_are_those_of_its_benchmark(tmp_path: Path) -> None:
    words = {"engine": "vllm (Feb-Mar 2026)", "model": "GLM-5-FP8", "input_len": "2048", "output_len": "128"}
    (row,) = read_rows(made(tmp_path, words | {"metric": "ttft_ms_p50", "unit": "ms", "concurrency_or_batch": "8"}))
    earlier, drafting = demand.sweep(row, "glm-5", demand.arrivals(row, {}), dp=1)
    assert [run.requests for run in earlier] == [40, 80, 160, 320, 480, 640, 40]
    assert [run.prompt for run in earlier] == [1024] * 6 + [2048]
    assert drafting is not None and drafting.drafts == 1
    assert demand.sweep(row, "glm-5", demand.arrivals(row, {}), dp=8) == ((), drafting)
    assert demand.sweep(row, "llama-3.1-8b", demand.arrivals(row, {}), dp=1) == ((), None)
