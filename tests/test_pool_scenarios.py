"""Scenarios whose machines decode what others have prefilled: from YAML to the page."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.errors import CapacityError, RamwiseError, ScenarioError
from simulator.hardware.catalogue import Catalogue
from simulator.report.folder import write
from simulator.report.result import Report
from simulator.report.tables import plain_text
from simulator.scenario import read_scenario
from simulator.serve import execute, prepare, run
from simulator.stack.stack import Stacks
from simulator.study.sweep import sweep
from simulator.study.uncertainty import Uncertainty

TWO = "{hardware: h100-sxm-8, tp: 1, replicas: 2, prefill: {hardware: h100-sxm-8, tp: 2}}"
CHAT = """
model: llama-3.1-8b
machines: [MACHINE]
traffic:
  {request_rate: 20 /s, requests: 300, isl: {lognormal: [600, 0.8], max: 8000}, osl: {lognormal: [100, 0.6], max: 1000}}
slo: {ttft: 1 s, tpot: 50 ms}
money: {}
seed: 3
"""


def chat(folder: Path, machine: str = TWO) -> Path:
    """A scenario with one machine."""
    path = folder / "chat.yaml"
    path.write_text(CHAT.replace("MACHINE", machine))
    return path


def reported(path: Path) -> Report:
    """What it comes to."""
    return run(*read_scenario(path))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reported(chat(tmp_path_factory.mktemp("pools")))


def test_the_figures_of_both_pools_add_up(report: Report) -> None:
    summary: dict[str, Any] = report.runs[0].summary
    pools = summary["pools"]
    assert list(pools) == ["prefill", "decode"]
    assert summary["chips"] == 4
    for key in ("energy_j", "average_power_w", "cost_usd", "chips", "nodes"):
        assert summary[key] == pytest.approx(sum(pool[key] for pool in pools.values())), key
    assert sum(summary["energy_by_component_j"].values()) == pytest.approx(summary["energy_j"])
    assert sum(summary["energy_by_phase_j"].values()) == pytest.approx(summary["energy_j"])
    assert sum(summary["bound_by"].values()) == pytest.approx(1.0)
    assert pools["prefill"]["energy_j"] > 0
    assert pools["prefill"]["mfu"] > 5 * pools["decode"]["mfu"]
    assert summary["cost_per_mtok_usd"] == pytest.approx(
        summary["cost_usd"] / report.runs[0].records.requests.output_tokens.sum() * 1e6
    )


def test_ttft_is_the_way_of_the_request(report: Report) -> None:
    summary = report.runs[0].summary
    parts = [summary["transfer"][f"{name}_mean_ms"] for name in ("queue", "prefill", "wait", "transfer")]
    assert sum(parts) == pytest.approx(summary["ttft_mean_ms"])
    tokens = report.runs[0].records.requests.input_tokens.sum()
    assert summary["transfer"]["bytes"] == tokens * 2 * 8 * 128 * 2 * 32  # k and v, heads, width, bf16, layers


def test_the_link_is_the_slower_end_of_both_networks(tmp_path: Path) -> None:
    (case,) = prepare(*read_scenario(chat(tmp_path)))
    assert case.link is not None
    reached = float(case.machine.stack.collectives.scale_out_bandwidth)
    assert case.link.send == pytest.approx(2 * 50e9 * reached)
    assert case.link.receive == pytest.approx(50e9 * reached)
    assert case.link.latency == pytest.approx(13e-6)


def test_a_slower_link_and_a_longer_one_delay_the_first_token(tmp_path: Path, report: Report) -> None:
    fast = report.runs[0].summary
    slow = reported(chat(tmp_path, TWO[:-1] + ", link: {bandwidth: 1 GB/s, latency: 40 ms}}")).runs[0].summary
    assert slow["transfer"]["transfer_alone_mean_ms"] > 40
    assert slow["ttft_mean_ms"] > fast["ttft_mean_ms"] + 40
    assert slow["tpot_mean_ms"] == pytest.approx(fast["tpot_mean_ms"], rel=0.1)


def test_steps_and_stepping_agree_on_a_real_machine(tmp_path: Path) -> None:
    scenario, source = read_scenario(chat(tmp_path), ("traffic.requests=60",))
    (case,) = prepare(scenario, source)
    fast, exact = (execute(case, scenario, None, exact=exact).records for exact in (False, True))
    np.testing.assert_array_equal(fast.requests.finish_s, exact.requests.finish_s)
    np.testing.assert_array_equal(fast.steps.step_seconds(), exact.steps.step_seconds())


def test_tables_page_and_timeline_show_both_pools(tmp_path: Path, report: Report) -> None:
    text = plain_text(report)
    assert "prefill  " in text.replace("h100-sxm-8, tp2 x1", "")
    assert "cache moves" in text
    folder = write(report, tmp_path / "out")
    page = (folder / "report.html").read_text()
    assert "Prefill and decode" in page
    trace = json.loads(gzip.decompress((folder / "timeline.json.gz").read_bytes()))
    names = [event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"]
    assert names == ["prefill 0", "decode 0", "decode 1"]


@pytest.mark.parametrize(
    ("machine", "error", "words"),
    [
        ("{hardware: h100-sxm-8, link: {bandwidth: 1 GB/s}}", ScenarioError, "a link leads from machines that prefill"),
        ("{hardware: xeon-6980p-2s, prefill: {hardware: h100-sxm-8}}", ScenarioError, "no `scale_out` over which"),
        (
            "{hardware: h100-sxm-8, tp: 1, prefill: {hardware: h100-sxm-8, tp: 1, precision: {kv: fp8}}}",
            ScenarioError,
            "prefill caches fp8, decode bf16",
        ),
        (
            "{hardware: h100-sxm-8, tp: 1, prefill: {hardware: h100-sxm-8, tp: 1, max_num_batched_tokens: 64}}",
            ScenarioError,
            r"of the prefill is below its max_num_seqs \(256\)",
        ),
        ("{hardware: h100-sxm-8, tp: 1, prefill: {hardware: t4, tp: 1}}", CapacityError, "does not fit 't4'"),
        ("{hardware: h100-sxm-8, prefill: {hardware: h100-sxm-8, tp: 3}}", ScenarioError, "tp 3"),
        ("{hardware: h100-sxm-8, prefill: {hardware: h100-sxm-9}}", ScenarioError, "did you mean"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, machine: str, error: type[RamwiseError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        reported(chat(tmp_path, machine))
    assert "chat.yaml:3" in str(caught.value)


def test_the_numbers_of_both_machines_are_sampled(tmp_path: Path) -> None:
    scenario, _ = read_scenario(chat(tmp_path))
    uncertain = Uncertainty(4, 0, Catalogue(()), Stacks(()))
    sampled = uncertain.sample(scenario.machines[0], 1)
    assert sampled.prefill is not None
    assert sampled.prefill.stack_change == sampled.stack_change != {}


def test_layers_that_move_early_leave_one_to_wait_for(tmp_path: Path) -> None:
    """A link of 5 GB/s: of the 32 layers 31 have moved when the prompt is done, or most of them."""
    link = ", link: {bandwidth: 5 GB/s, overlapped: OVERLAPPED}}"
    after, beside = (
        reported(chat(tmp_path, TWO[:-1] + link.replace("OVERLAPPED", word))).runs[0].summary
        for word in ("false", "true")
    )
    assert beside["transfer"]["transfer_alone_mean_ms"] == pytest.approx(
        after["transfer"]["transfer_alone_mean_ms"] / 32
    )
    assert beside["transfer"]["bytes"] == after["transfer"]["bytes"]
    assert beside["ttft_mean_ms"] < after["ttft_mean_ms"]
    parts = [beside["transfer"][f"{name}_mean_ms"] for name in ("queue", "prefill", "wait", "transfer")]
    assert sum(parts) == pytest.approx(beside["ttft_mean_ms"])


def test_a_study_varies_either_pool_and_names_both(tmp_path: Path) -> None:
    chat(tmp_path)
    study = tmp_path / "more.yaml"
    study.write_text(
        'study: sweep\nscenario: chat.yaml\nevaluate: steady\naxes: {"machines[0].prefill.replicas": [1, 2]}\n'
    )
    table = sweep(study, tmp_path / "out").table
    assert set(table["machine"]) == {"h100-sxm-8 > h100-sxm-8"}
    assert table["chips"].tolist() == [4, 6]
    assert table["ttft_mean_ms"].is_monotonic_decreasing
