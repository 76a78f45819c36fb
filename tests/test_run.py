"""Whole runs: reproducible, complete, and true to what the scenario says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.api import Loaded, load, run
from simulator.errors import CapacityError, InputError, ScenarioError
from simulator.hardware.catalogue import packaged_folder
from simulator.report.result import Report
from simulator.serve import execute, prepare, slo

CHECKOUT = Path(__file__).parent.parent
BASE = """
model: llama-3.1-8b
machines: [{{hardware: h100-sxm-8, tp: 1}}]
traffic: {{{traffic}}}
limits: {{max_num_seqs: 16, max_num_batched_tokens: 512}}
seed: 5
"""
POISSON = "request_rate: 20 /s, isl: {lognormal: [300, 0.9], max: 4000}, osl: {uniform: [1, 120]}, requests: 120"


@pytest.fixture
def scenario(tmp_path: Path) -> Any:
    """Writes a scenario with some traffic and returns it, loaded, with changes on top."""

    def write(traffic: str = POISSON, *changes: str) -> Loaded:
        path = tmp_path / "chat.yaml"
        path.write_text(BASE.format(traffic=traffic))
        return load(path, *changes)

    return write


def only(report: Report) -> dict[str, Any]:
    (result,) = report.runs
    return result.summary


def test_the_same_seed_gives_the_same_bytes_in_two_processes(scenario: Any, tmp_path: Path) -> None:
    scenario(POISSON, "model=llama-3.1-8b")
    texts = []
    for number in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(CHECKOUT)}
        code = (
            "from simulator.api import load, run; import sys; sys.stdout.write(run(load('chat.yaml')).summary_json())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["runs"][0]["requests_completed"] == 120


def test_the_package_itself_offers_load_and_run(scenario: Any, tmp_path: Path) -> None:
    scenario("offline: true, isl: 10, osl: 2, requests: 1")
    code = "from simulator import load, run; print(run(load('chat.yaml')).runs[0].summary['requests_completed'])"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_another_seed_gives_another_result(scenario: Any) -> None:
    loaded = scenario()
    assert run(loaded).summary_json() == run(loaded, seed=5).summary_json()
    assert only(run(loaded))["ttft_mean_ms"] != only(run(loaded, seed=6))["ttft_mean_ms"]


@pytest.mark.parametrize("changes", [(), ("model=gpt-oss-20b",), ("limits.memory_utilization=0.195",)])
@pytest.mark.parametrize("traffic", [POISSON, "concurrency: 9, think: 20 ms, isl: 700, osl: 60, requests: 60"])
def test_fast_forward_changes_no_figure(scenario: Any, traffic: str, changes: tuple[str, ...]) -> None:
    loaded = scenario(traffic, *changes)
    (case,) = prepare(loaded.scenario, loaded.source)
    fast, exact = (execute(case, loaded.scenario, None, exact=exact).summary for exact in (False, True))
    # Sums over segments differ in late digits: the stepping engine cuts them at every step, and where power is limited
    # or both phases share a step, joules are cut by the segment.
    sums = {"mfu", "mbu", "bound_by", "roofline", "average_power_w", "utilisation"}
    for key, value in fast.items():
        if key in sums or "energy" in key:
            assert flat(value) == pytest.approx(flat(exact[key]), rel=1e-5), key
        elif key != "events" and not key.startswith("itl"):
            assert value == exact[key], key
    assert [fast[f"itl_{p}_ms"] for p in ("p50", "p90", "p99")] == [exact[f"itl_{p}_ms"] for p in ("p50", "p90", "p99")]
    assert fast["itl_mean_ms"] == pytest.approx(exact["itl_mean_ms"])
    assert fast["events"] < exact["events"]


def flat(value: Any) -> dict[str, float]:
    """Numbers of nested data by path."""
    if isinstance(value, dict):
        return {f"{k}.{path}": x for k, entry in value.items() for path, x in flat(entry).items()}
    if isinstance(value, list):
        return flat(dict(enumerate(value)))
    return {} if isinstance(value, str) else {"": value}


def test_a_cache_that_runs_out_preempts_and_still_finishes_everything(scenario: Any) -> None:
    summary = only(run(scenario("offline: true, isl: 700, osl: 400, requests: 60", "limits.memory_utilization=0.195")))
    assert summary["preemptions"] > 0
    assert summary["kv_occupancy_max"] > 0.95
    assert summary["requests_completed"] == 60


def test_every_request_ends_exactly_once_after_it_began(scenario: Any) -> None:
    (result,) = run(scenario()).runs
    requests = result.records.requests
    assert len(requests) == 120
    assert requests.completed.all()
    assert (requests.arrival_s <= requests.scheduled_s).all()
    assert (requests.scheduled_s < requests.first_token_s).all()
    assert (requests.first_token_s <= requests.finish_s).all()
    one_token = requests.output_tokens == 1
    assert np.array_equal(requests.first_token_s == requests.finish_s, one_token)


def test_the_summary_speaks_of_what_was_asked(scenario: Any) -> None:
    (result,) = run(scenario()).runs
    summary, requests = result.summary, result.records.requests
    assert (summary["machine"], summary["family"], summary["layout"]) == ("h100-sxm-8", "hbm-gpu", "tp1")
    assert summary["requests"] == summary["requests_completed"] == 120
    tokens = int(requests.output_tokens.sum())
    assert summary["output_throughput"] * summary["makespan_s"] == pytest.approx(tokens)
    assert summary["running_mean"] + summary["queue_mean"] == pytest.approx(
        summary["request_throughput"] * summary["e2el_mean_ms"] / 1e3
    )  # Little's law


def test_one_request_takes_its_prefill_and_its_steps(scenario: Any) -> None:
    summary = only(run(scenario("offline: true, isl: 100, osl: 11, requests: 1")))
    assert summary["e2el_mean_ms"] == pytest.approx(summary["ttft_mean_ms"] + 10 * summary["tpot_mean_ms"])
    assert summary["steps"] == 11


def test_a_machine_that_cannot_keep_up_is_called_saturated_with_the_rate_that_it_holds(scenario: Any) -> None:
    summary = only(run(scenario("request_rate: 60 /s, isl: 512, osl: 128, requests: 2000")))
    assert summary["saturated"] is True
    assert summary["sustainable_rate"] < 60
    assert summary["sustainable_rate"] == pytest.approx(summary["request_throughput"], rel=0.1)
    assert summary["steady"] == {"reason": "saturated"}
    assert summary["ttft_p99_ms"] > 1000 * summary["tpot_p50_ms"]


def test_a_machine_that_keeps_up_is_not(scenario: Any) -> None:
    summary = only(run(scenario("request_rate: 5 /s, isl: 512, osl: 128, requests: 500")))
    assert summary["saturated"] is False
    assert summary["steady"]["ttft_mean_ms"] == pytest.approx(summary["ttft_mean_ms"], rel=0.05)


def test_a_preset_slo_is_the_one_of_mlperf(scenario: Any) -> None:
    summary = only(run(scenario(POISSON, "slo=mlperf/llama3.1-8b-server")))
    assert summary["slo"] == {
        "name": "mlperf/llama3.1-8b-server",
        "ttft_ms": 2000.0,
        "tpot_ms": 100.0,
        "percentile": 99.0,
    }
    assert summary["slo_attainment"] == 1
    assert summary["request_goodput"] == summary["request_throughput"]


def test_an_slo_of_ones_own_counts_those_who_keep_it(scenario: Any) -> None:
    loaded = scenario(POISSON, "slo={ttft: 25 ms, percentile: 90}")
    objective = slo(loaded.scenario, loaded.source)
    assert objective is not None and (objective.ttft_s, objective.percentile) == (0.025, 90)
    (result,) = run(loaded).runs
    requests = result.records.requests
    met = int((requests.first_token_s - requests.arrival_s <= 0.025).sum())
    assert 0 < met < 120
    assert result.summary["slo_attainment"] == met / 120


def trace(folder: Path, lengths: list[tuple[int, int]]) -> str:
    rows = [f"{index * 0.1:.1f},{prompt},{answer}" for index, (prompt, answer) in enumerate(lengths)]
    (folder / "mine.csv").write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return "trace: mine.csv"


LONG = [(100, 10), (130_000, 5_000), (200, 20)]  # Llama 3.1 takes 131,072


def test_requests_longer_than_the_context_are_an_error_with_the_line(scenario: Any, tmp_path: Path) -> None:
    loaded = scenario(trace(tmp_path, LONG))
    with pytest.raises(InputError, match=r"mine\.csv:3: 1 of 3 requests are longer than the 131,072.*longer: drop"):
        run(loaded)


def test_requests_longer_than_the_context_can_be_dropped(scenario: Any, tmp_path: Path) -> None:
    (result,) = run(scenario(trace(tmp_path, LONG) + ", longer: drop")).runs
    assert result.records.requests.input_tokens.tolist() == [100, 200]
    assert "1 of 3 requests" in result.summary["traffic"]


def test_requests_longer_than_the_context_can_be_cut(scenario: Any, tmp_path: Path) -> None:
    (result,) = run(scenario(trace(tmp_path, LONG) + ", longer: truncate")).runs
    assert result.records.requests.input_tokens.tolist() == [100, 131_072 - 5_000, 200]
    assert result.records.requests.output_tokens.tolist() == [10, 5_000, 20]


def test_replicas_share_the_traffic(scenario: Any) -> None:
    offline = "offline: true, isl: 512, osl: 64, requests: 80"
    one, four = (run(scenario(offline, f"machines[0].replicas={n}")).runs[0] for n in (1, 4))
    assert np.bincount(four.records.requests.replica).tolist() == [20, 20, 20, 20]
    assert four.summary["chips"] == 4
    assert 2 < one.summary["makespan_s"] / four.summary["makespan_s"] <= 4


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding"])
def test_either_router_reaches_every_replica(scenario: Any, router: str) -> None:
    (result,) = run(scenario(POISSON, f"router={router}", "machines[0].replicas=3")).runs
    counts = np.bincount(result.records.requests.replica)
    assert len(counts) == 3
    if router == "round_robin":
        assert counts.tolist() == [40, 40, 40]


def test_a_closed_loop_never_has_more_in_flight_than_its_users(scenario: Any) -> None:
    (result,) = run(scenario("concurrency: 6, isl: 200, osl: 30, requests: 40")).runs
    requests = result.records.requests
    inside = [int(((requests.arrival_s <= t) & (requests.finish_s > t)).sum()) for t in requests.arrival_s]
    assert max(inside) == 6
    assert result.summary["sustainable_rate"] is None
    assert result.summary["running_mean"] + result.summary["queue_mean"] <= 6


def test_offline_means_everything_at_once(scenario: Any) -> None:
    (result,) = run(scenario("offline: true, isl: 100, osl: 10, requests: 30")).runs
    assert (result.records.requests.arrival_s == 0).all()
    assert result.summary["queue_max"] >= 30 - 16


def test_every_model_runs_on_every_machine_in_the_order_of_the_scenario(scenario: Any) -> None:
    loaded = scenario(
        "offline: true, isl: 10, osl: 2, requests: 3",
        "model=[llama-3.1-8b, qwen3-8b]",
        "machines=[{hardware: h100-sxm-8, name: fast}, {hardware: wormhole-t3000}]",
        "precision.weights=bfp8",
    )
    pairs = [(result.summary["model"], result.summary["machine"]) for result in run(loaded).runs]
    models, machines = ("llama-3.1-8b", "qwen3-8b"), ("fast", "wormhole-t3000")
    assert pairs == [(model, machine) for model in models for machine in machines]


def test_a_profile_and_a_model_beside_the_scenario_are_found(scenario: Any, tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text(
        "extends: h100-sxm-8.yaml\nname: half\nchip: {power: {cap: {value: 500 W, label: estimated, source: mine}}}\n"
    )
    config = json.loads((CHECKOUT / "simulator" / "model" / "zoo" / "llama-3.1-8b.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 16}))
    loaded = scenario(POISSON, "model=config.json", "machines[0].hardware=half")
    summary = only(run(loaded))
    assert summary["hardware"] == "half"
    whole = only(run(scenario(POISSON)))
    assert summary["kv_tokens"] > 2 * whole["kv_tokens"]


def test_a_folder_of_profiles_comes_before_the_packaged_ones(scenario: Any, tmp_path: Path) -> None:
    mine = tmp_path / "profiles"
    mine.mkdir()
    text = (packaged_folder("hardware_profiles") / "h100-sxm-8.yaml").read_text()
    (mine / "h100-sxm-8.yaml").write_text(text.replace("bandwidth: 3.35 TB/s", "bandwidth: 1.675 TB/s"))
    slow, fast = only(run(scenario(), profiles=(mine,))), only(run(scenario()))
    assert 1.5 < slow["tpot_mean_ms"] / fast["tpot_mean_ms"] < 2


def test_a_model_that_does_not_fit_is_refused_before_anything_runs(scenario: Any) -> None:
    loaded = scenario(POISSON, "model=[llama-3.1-8b, llama-3.1-70b]")
    done: list[Any] = []
    with pytest.raises(CapacityError, match=r"\.yaml:\d+:\d+: llama-3\.1-70b does not fit 'h100-sxm-8' on 1 of 8"):
        run_with(loaded, done)
    assert not done


def run_with(loaded: Loaded, done: list[Any]) -> None:
    from simulator.serve import run as run_scenario

    run_scenario(loaded.scenario, loaded.source, finished=done.append)


def test_a_request_larger_than_the_cache_is_refused_with_the_sheet(scenario: Any) -> None:
    loaded = scenario("offline: true, isl: 20000, osl: 10, requests: 1", "limits.memory_utilization=0.195")
    with pytest.raises(CapacityError, match=r"a request of 20,010 tokens does not fit the KV cache of .* tokens"):
        run(loaded)


def test_everything_wrong_is_told_at_once(scenario: Any) -> None:
    loaded = scenario(
        POISSON,
        "model=lama-3.1-8b",
        "machines=[{hardware: h100}, {hardware: h100-sxm-8, stack: vlm-2025}]",
        "slo=mlperf/llama3.1-8b",
    )
    with pytest.raises(ScenarioError) as refused:
        run(loaded)
    text = str(refused.value)
    assert len(refused.value.problems) == 4
    for near in ("llama-3.1-8b", "h100-sxm-8", "vllm-2025", "mlperf/llama3.1-8b-server"):
        assert f"did you mean '{near}'?" in text
