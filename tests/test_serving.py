"""Serving configurations: what their columns state, and the closed forms of a loop of clients against a slow twin."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from simulator.model.parallelism import Parallelism
from simulator.validation import validate
from simulator.validation.closed_loop import simulate
from simulator.validation.deployment import METRICS, Deployments, Habits, Loop, PoolLoop, ServingRow, layout
from simulator.validation.fit import fit, questions
from simulator.validation.kinds import kind_of
from simulator.validation.pools import simulate as simulate_pools
from simulator.validation.rows import Reason, RefusedError
from simulator.validation.serving import Serving
from simulator.validation.stack_numbers import Prior, exchanged
from simulator.validation.steps import Step, step_seconds

AGG = {
    "hardware": "h100-sxm",
    "n_chips": "8",
    "model": "meta-llama/Llama-3.1-70B",
    "dtype_weights": "fp8",
    "tp": "8",
    "pp": "1",
    "ep": "1",
    "dp": "1",
    "engine": "vllm 0.18.0",
    "input_len": "1024",
    "output_len": "1024",
    "concurrency_or_batch": "16",
    "metric": "tpot_ms",
    "value": "10",
    "unit": "ms",
    "note": "measured 2026-03-27; gemm fp8, moe fp8; batch is the client concurrency",
    "mode": "agg",
    "attention_dp": "1",
    "moe_tp": "8",
    "moe_ep": "1",
}
COLUMNS = [field.name for field in fields(ServingRow)]


def made(folder: Path, *changes: dict[str, str]) -> Path:
    """A file with one row for each change of AGG, their ids s0, s1, ..."""
    path = folder / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for index, change in enumerate(changes):
            writer.writerow({**AGG, "id": f"s{index}", **change})
    return path


def row(**change: str) -> ServingRow:
    cells = dict.fromkeys(COLUMNS, "") | AGG | change
    return ServingRow(**{**cells, "value": float(cells["value"])})  # type: ignore[arg-type]


def loop(**change: str) -> Loop:
    found = Deployments().loop(row(**change))
    assert isinstance(found, Loop)
    return found


def seconds(asked: Loop) -> float:
    found = simulate([asked])[asked.row.id]
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("columns", "parallelism", "clients"),
    [
        # n_chips, tp, attention_dp, moe_tp, moe_ep: TP and EP of the benchmark span the same chips
        ("8 8 1 8 1", Parallelism(tp=8), 16),
        ("8 8 1 1 8", Parallelism(tp=8, ep=8), 16),
        ("64 64 1 8 8", Parallelism(tp=8, ep=8), 16),
        ("4 4 1 2 2", Parallelism(tp=2, ep=2), 16),
        ("8 1 8 1 8", Parallelism(dp=8, ep=8), 128),
        ("64 1 64 8 8", Parallelism(dp=8, ep=8), 1024),
        ("16 4 4 1 16", Parallelism(tp=4, ep=4), 64),
        # of other origin each factor stands for itself
        ("4 4  2 2", Parallelism(tp=4, ep=2), 16),
        ("2 2  4 1", Parallelism(tp=2, dp=2), 32),
    ],
)
def test_layouts_and_clients(columns: str, parallelism: Parallelism, clients: float) -> None:
    names = ("n_chips", "tp", "attention_dp", "moe_tp", "moe_ep")
    assert layout(row(**dict(zip(names, columns.split(" "), strict=True)))) == (parallelism, clients)


@pytest.mark.parametrize(
    "change", [{"tp": ""}, {"tp": "3"}, {"concurrency_or_batch": "0"}, {"moe_ep": "many"}, {"attention_dp": "x"}]
)
def test_a_layout_that_is_not_stated_is_a_reason(change: dict[str, str]) -> None:
    with pytest.raises(RefusedError):
        layout(row(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"input_len": "nan"},
        {"output_len": "-1"},
        {"engine": "unheard-of 7", "model": "nobody/nothing"},
        {"hardware": "none"},
        {"unit": "USD"},
        {"tp": "0.5"},
        {"tp": "0.5", "attention_dp": ""},
    ],
)
def test_rows_that_cannot_be_expressed_have_a_reason(change: dict[str, str]) -> None:
    with pytest.raises(RefusedError):
        Deployments().loop(row(**change))


def test_an_engine_nobody_knows_takes_the_nearest_stack() -> None:
    assert loop(engine="unheard-of 7").assumed


def test_the_columns_tell_the_kind_and_pools_are_kept_apart(tmp_path: Path) -> None:
    path = made(tmp_path, {}, {"mode": "disagg", "tp": "", "moe_tp": "", "concurrency_or_batch": ""})
    assert kind_of(path) == "serving"
    found = validate([path])
    assert found.overall.coverage == 1.0
    assert [point.row.id for point in found.apart] == ["s1"]
    assert "pools" in found.apart[0].reason


def test_rows_that_do_not_state_what_ran_are_kept_apart() -> None:
    crowd = {"model": "openai/gpt-oss-120b", "engine": "vllm", "note": "measured 2025-12-05; gemm nvfp4, moe nvfp4; x"}
    assert "stood in line" in row(**crowd, concurrency_or_batch="512").doubt
    assert not row(**crowd, concurrency_or_batch="64").doubt
    assert row(note="SUSPECT: a crash").apart


def test_a_stack_is_fitted_to_loops(tmp_path: Path) -> None:
    """Rows made with another time per step: the fit finds it."""
    plain = [loop(concurrency_or_batch=n) for n in ("4", "16", "64")]
    stack = exchanged(plain[0].machine.stack, {"step_overhead": 2e-3})
    slow = [f"{1e3 * seconds(asked.on(stack)):.9g}" for asked in plain]
    changes = [{"concurrency_or_batch": n, "value": v} for n, v in zip(("4", "16", "64"), slow, strict=True)]
    asked = questions("vllm-2026", ["h100-sxm"], [made(tmp_path, *changes)])
    assert fit(asked, ["step_overhead"], Prior(10.0)).numbers["step_overhead"] == pytest.approx(2e-3, rel=0.01)


def test_a_pool_that_decodes_has_no_prompts() -> None:
    pool = {"mode": "disagg", "attention_dp": "", "decode_batch_size": "64", "decode_tp_size": "8"}
    pool |= {"decode_attention_dp_size": "1", "decode_moe_ep_size": "1"}
    assert layout(row(**pool)) == (Parallelism(tp=8), 64)
    alone, short = (seconds(loop(**pool, input_len=n, output_len="2048")) for n in ("8192", "1024"))
    assert short < alone < 2.0 * short  # the longer context is read, its prompt is not in the way
    assert seconds(loop(concurrency_or_batch="64", input_len="8192", output_len="2048")) > 1.3 * alone
    assert row(**{**pool, "decode_batch_size": ""}).apart


def test_pools_run_in_the_engine(tmp_path: Path) -> None:
    """Eight clients on two workers that decode and one that prefills."""
    sides = {"mode": "disagg", "attention_dp": "", "hardware": "h200-sxm", "input_len": "4096", "output_len": "64"}
    sides |= {f"decode_{name}_size": "1" for name in ("attention_dp", "moe_ep")} | {"decode_tp_size": "4"}
    sides |= {f"prefill_{name}_size": "1" for name in ("attention_dp", "moe_ep")} | {"prefill_tp_size": "4"}
    sides |= {"prefill_num_workers": "1", "decode_num_workers": "2"}
    changes = [sides | {"metric": m, "decode_batch_size": b} for b in ("4", "16") for m in METRICS]
    found = Serving().rows([made(tmp_path, *changes)])
    tpot, ttft, crowded, waiting = (point.simulated or 0.0 for point in Serving().points(found))
    (loop,) = [asked for asked in [Serving().ask(found[0])] if isinstance(asked, PoolLoop)]
    assert (loop.clients, loop.prefill.workers, loop.decode.workers) == (8, 1, 2)
    assert crowded == pytest.approx(tpot, rel=0.05)  # the one that prefills lets no more of them decode
    assert waiting > 2 * ttft > 0  # four times the clients stand in line before the one that prefills
    alone = Deployments().loop(row(**changes[0]))
    assert isinstance(alone, Loop)
    few, all_of = (seconds(replace(alone, clients=n)) for n in (1.0, 4.0))
    assert 0.95 * few < tpot / 1e3 < 1.1 * all_of  # some of the four are being prefilled
    assert row(**{**sides, "metric": "ttft_ms"}).apart  # no batch
    nameless = {**sides, "metric": "ttft_ms", "decode_batch_size": "4", "prefill_tp_size": ""}
    assert isinstance(Serving().ask(row(**nameless)), Reason)


KIMI = {
    "model": "moonshotai/Kimi-K2.5",
    "hardware": "gb200-nvl72",
    "note": "measured 2026-03-07; gemm nvfp4, moe nvfp4; batch is the client concurrency",
    "mode": "disagg",
    "attention_dp": "",
    "output_len": "64",
    "prefill_num_workers": "1",
    "decode_num_workers": "2",
}


def pooled(prefill: str, decode: str, batch: str, **change: str) -> ServingRow:
    """`prefill` and `decode`: tp, dp and ep."""
    names = [f"{side}_{name}_size" for side in ("prefill", "decode") for name in ("tp", "attention_dp", "moe_ep")]
    degrees = dict(zip(names, [*prefill.split(), *decode.split()], strict=True))
    return row(**KIMI | degrees | {"decode_batch_size": batch} | change)


def pools_of(*rows: ServingRow) -> list[PoolLoop]:
    found = [Deployments().pools(each) for each in rows]
    return [each for each in found if isinstance(each, PoolLoop)]


def test_pools_of_vllm_count_data_parallel_ranks_as_tp() -> None:
    wide, narrow, other = pools_of(
        pooled("4 1 4", "16 1 16", "256"),
        pooled("4 1 4", "4 1 4", "8"),
        pooled("4 1 4", "4 1 4", "8", engine="trtllm 1.1.0-dev.2"),
    )
    assert wide.prefill.machine.parallelism == narrow.prefill.machine.parallelism == Parallelism(dp=4, ep=4)
    assert (wide.decode.machine.parallelism, wide.clients) == (Parallelism(dp=16, ep=16), 512)
    assert narrow.decode.machine.parallelism == other.prefill.machine.parallelism == Parallelism(tp=4, ep=4)


def test_captured_graphs_hold_a_power_of_two_and_the_rest_stand_in_line() -> None:
    few, full = (
        pooled("1 4 4", "4 1 4", batch, id=batch, engine="trtllm 1.1.0-dev.2", metric="ttft_ms")
        for batch in ("8", "11")
    )
    (alone,) = simulate_pools(pools_of(few)).values()
    beside = simulate_pools(pools_of(few, full))
    assert alone == beside["8"]  # eight of eight decode, in a recipe for eight
    assert isinstance(beside["11"], float)
    assert isinstance(alone, float)
    (slow,) = simulate_pools(pools_of(pooled("1 4 4", "4 1 4", "11", engine="trtllm 1.1.0-dev.2"))).values()
    assert isinstance(slow, float)
    line = 3 / 8 * 63 * slow  # three of eleven wait for an answer of one of the eight
    assert beside["11"] - alone == pytest.approx(line, rel=0.4)


def test_a_lone_prompt_is_cut_over_no_ranks_and_pays_for_no_others() -> None:
    """One client against as many as there are ranks, and against tensor parallelism."""
    lone, four, together = (
        simulate_pools(pools_of(pooled(prefill, "4 1 4", batch, engine="trtllm", metric="ttft_ms", **worker))).values()
        for worker in [{"decode_num_workers": "1", "input_len": "8192"}]
        for prefill, batch in (("1 4 4", "1"), ("1 4 4", "4"), ("4 1 1", "1"))
    )
    assert 0 < max(together) < max(lone) < max(four)


def test_checkpoints_are_what_was_published() -> None:
    note = "measured 2026-03-27; gemm nvfp4, moe nvfp4; x"
    sparse = loop(model="openai/gpt-oss-120b", note=note)
    assert (sparse.precision.weights, sparse.precision.experts) == ("bf16", "mxfp4")
    with pytest.raises(RefusedError, match="number format fp3"):
        Deployments().loop(row(note="gemm fp3, moe fp3; x"))


def test_a_time_per_token_is_that_of_a_loop_stepped_through() -> None:
    """Twin: one slot a client, a prompt a step; the clients' answers are drawn apart by their starts."""
    asked = loop(concurrency_or_batch="8", engine="vllm 0.18.0")
    asked = replace(asked, output_tokens=200.0, habits=Habits(8192.0, True, 1.0, 0.0, 0.0, 0.5, 0.9, 1.0, 0))
    context = asked.input_tokens + asked.output_tokens / 2
    steps = [Step(n, context, p, asked.input_tokens) for n in range(9) for p in (0.0, 1.0)]
    cost = step_seconds(asked.architecture, asked.precision, asked.machine, steps).reshape(9, 2)
    left = np.linspace(25, 200, 8).astype(int).tolist()  # tokens to go of each client; 0: its prompt is next
    spent, tokens = 0.0, 0
    for _ in range(20_000):
        waiting = [i for i, k in enumerate(left) if k == 0][:1]
        running = [i for i, k in enumerate(left) if k > 0]
        spent += float(cost[len(running), len(waiting)]) * len(running)
        tokens += len(running)
        for i in running:
            left[i] -= 1
        for i in waiting:
            left[i] = 199  # the prompt's step gave the first token
    assert seconds(asked) == pytest.approx(spent / tokens, rel=0.02)


def test_more_clients_wait_longer_and_a_full_cache_makes_a_line() -> None:
    few, many = (seconds(loop(metric="ttft_ms", concurrency_or_batch=n)) for n in ("4", "64"))
    assert few < many
    # 512 answers of 8,000 tokens do not fit two chips: those in line wait for others to end
    narrow = {"n_chips": "2", "tp": "2", "moe_tp": "2", "output_len": "8192", "metric": "ttft_ms"}
    assert seconds(loop(concurrency_or_batch="512", **narrow)) > 60.0


def test_drafts_save_time_while_the_batch_is_small() -> None:
    asked = loop(model="deepseek-ai/DeepSeek-R1", hardware="b200-sxm", concurrency_or_batch="4")
    drafting = replace(asked, habits=replace(asked.habits, drafts=3))
    assert 0.3 < seconds(drafting) / seconds(asked) < 0.8
