"""The scenarios that ask when memory is worth more than compute: what they claim in their first lines holds."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from simulator.api import load, run
from simulator.errors import CapacityError, InputError
from simulator.hardware.catalogue import packaged_folder
from simulator.report.sample_charts import charts_of


@cache
def report(name: str, *changes: str) -> Any:
    return run(load(packaged_folder("scenarios") / f"{name}.yaml", *changes))


def summaries(name: str, *changes: str) -> list[dict[str, Any]]:
    return [result.summary for result in report(name, *changes).runs]


def rate(found: list[dict[str, Any]], model: str, batch: int, machine: str) -> float:
    return next(s["samples_per_s"] for s in found if (s["model"], s["batch"], s["machine"]) == (model, batch, machine))


def test_deepseek_in_dram_is_as_fast_as_published() -> None:
    """KT-1 and KT-3 (ktransformers, DeepseekR1_V3_tutorial.md): 8.73 and 12.208 tokens a second, within 15 %."""
    found = summaries("dram-moe", "model[0].batch=1")
    one, two = (s["samples_per_s"] for s in found[:2])
    assert one == pytest.approx(8.73, rel=0.15)
    assert two == pytest.approx(12.208, rel=0.15)
    assert two / one == pytest.approx(12.208 / 8.73, abs=0.1)


def test_depth_saves_time_alone_and_in_gathered_batches() -> None:
    found = summaries("depth-vs-batching", "model[*].batch=[1, 16, 64]")
    for model in ("early exit, lock step", "early exit, gathered"):
        assert rate(found, model, 1, "H100") > 1.3 * rate(found, "all layers", 1, "H100")
    lock_step, gathered, full = (
        rate(found, model, 16, "H100") for model in ("early exit, lock step", "early exit, gathered", "all layers")
    )
    assert lock_step < 1.06 * full < gathered
    assert all("no law of its loss" in s["warnings"][0] for s in found if s["model"] == "early exit, gathered")
    assert set(charts_of(report("depth-vs-batching", "model[*].batch=[1, 16, 64]"))) == {"batches"}


EVENTS = """\
task: classes
model:
  - {kind: decode, name: lock, BASE, batching: lock_step}}
  - {kind: decode, name: lock events, BASE, batching: lock_step}, events: lock_step}
  - {kind: decode, name: gathered, BASE, batching: depth_wise}}
  - {kind: decode, name: gathered events, BASE, batching: depth_wise}, events: depth_wise, in_flight: 512}
  - {kind: decode, name: pipeline, BASE, batching: lock_step}, events: pipeline, in_flight: 512}
machines: [{hardware: h100-sxm-8, name: one, tp: 1}]
"""
BASE = "base: llama-3.1-8b, batch: [1, 32], context: 512, depth: {kind: early_exit, missing_kv: share, exits: "


def test_events_agree_with_the_closed_forms_that_steps_are_priced_with(tmp_path: Path) -> None:
    """Lock step; gathered with sequences to spare; a pipeline turns at the pace of its first group, of three."""
    path = tmp_path / "a.yaml"
    path.write_text(EVENTS.replace("BASE", BASE + "{8: 0.25, 16: 0.25}"))
    found = [result.summary for result in run(load(path)).runs]
    for batch in (1, 32):
        assert rate(found, "lock events", batch, "one") == pytest.approx(rate(found, "lock", batch, "one"), rel=0.02)
        even = rate(found, "gathered", batch, "one")
        assert rate(found, "gathered events", batch, "one") == pytest.approx(even, rel=0.02)
        joules = {s["model"]: s["energy_per_sample_j"] for s in found if s["batch"] == batch}
        assert joules["lock events"] == pytest.approx(joules["lock"], rel=0.02)
        assert joules["gathered events"] == pytest.approx(joules["gathered"], rel=0.02)
    pipeline = next(s for s in found if (s["model"], s["batch"]) == ("pipeline", 32))
    assert pipeline["chips"] == 3
    assert pipeline["groups_busy"][0] > 0.97
    assert 1.5 < pipeline["samples_per_s"] / rate(found, "lock", 32, "one") < 3
    for summary in found:
        assert sum(summary["energy_by_component_j"].values()) == pytest.approx(summary["energy_j"])
        assert sum(summary["bound_by"].values()) == pytest.approx(1.0)


TREE = """\
task: classes
model:
  - {kind: decode, name: lock, BASE}
  - {kind: decode, name: events, BASE, events: lock_step}
  - {kind: decode, name: pipeline, BASE, events: pipeline, in_flight: 128}
  - {kind: decode, name: balanced, BASE, events: pipeline, stages: 5, in_flight: 128}
machines: [{hardware: h100-sxm-8, name: one, tp: 1}]
"""
FORKS = """{kind: layer_tree, search: fork, root: {layers: 8, branches: [{share: 0.5, layers: 4},
     {share: 0.5, layers: 8, branches: [{share: 0.5, layers: 4}, {share: 0.5, layers: 16}]}]}}"""


def test_tokens_that_turn_at_forks_are_followed_in_events_and_take_the_closed_form_s_time_and_joules(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(TREE.replace("BASE", f"base: llama-3.1-8b, batch: [1, 32], context: 512, depth: {FORKS}"))
    found = [result.summary for result in run(load(path)).runs]
    for batch in (1, 32):
        closed, events, pipeline, balanced = (s for s in found if s["batch"] == batch)
        for key in ("samples_per_s", "energy_per_sample_j"):
            assert events[key] == pytest.approx(closed[key], rel=0.02), (batch, key)
        assert pipeline["chips"] == balanced["chips"] == 5
        assert balanced["samples_per_s"] > 1.1 * pipeline["samples_per_s"]
        assert min(balanced["stages_busy"]) > min(pipeline["stages_busy"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("BASE, batching: lock_step}", "base: llama-3.1-8b, depth: {kind: full}", "events are of tokens with early"),
        ("events: pipeline", "events: lock_step", "in_flight belongs to events"),
        ("events: pipeline", "events: pipelines", "did you mean 'pipeline'"),
        ("events: lock_step", "events: lock_step, stages: 2", "stages belong to events: pipeline"),
        (
            "events: pipeline",
            "events: pipeline, stages: 40",
            r"7:\d+: 40 stages are more than the 32 layers.*32 or less",
        ),
    ],
)
def test_events_that_mean_nothing_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(EVENTS.replace(old, new).replace("BASE", BASE + "{8: 0.25}"))
    with pytest.raises(InputError, match=message):
        run(load(path))


@pytest.mark.parametrize(("events", "chips"), [("depth_wise", 1), ("pipeline, stages: 2", 2)])
def test_sequences_in_flight_keep_their_caches(tmp_path: Path, events: str, chips: int) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "task: classes\nmachines: [{hardware: h100-sxm-8, tp: 1}]\n"
        "model: {kind: decode, base: llama-3.1-8b, batch: 16, "
        f"context: 512, depth: {{kind: early_exit, exits: {{8: 0.25}}}}, events: {events}, in_flight: 100000}}\n"
    )
    with pytest.raises(CapacityError, match=r"100000 sequences in flight of 512 tokens do not fit") as caught:
        run(load(path))
    fitting = re.search(r"write in_flight: (\d+) or less", str(caught.value))
    assert fitting
    # 0.9 of 80 GiB a chip holds 8.03 billion parameters once and 131,072 bytes of each token
    assert int(fitting[1]) * 512 * 131_072 == pytest.approx(chips * 0.9 * 80 * 2**30 - 16.06e9, rel=0.01)


def test_a_table_in_dram_costs_little_and_a_slow_disk_much() -> None:
    found = summaries("engram-placement", "model[*].batch=[1, 64, 256]")

    def lost(model: str, batch: int, machine: str) -> float:
        return 1 - rate(found, model, batch, machine) / rate(found, "no table", batch, machine)

    assert lost("HBM, layer 1", 64, "prefetched") < 0.01
    assert 0.01 < lost("DRAM, layer 1", 256, "prefetched") < 0.06 < lost("DRAM, layer 1", 1, "prefetched")
    assert lost("SSD, layer 1", 64, "read in the forward pass, slow disk") > 0.4
    assert lost("SSD, layer 14", 64, "prefetched, slow disk") < lost("SSD, layer 1", 64, "prefetched, slow disk")


def test_rows_survive_a_slow_tier_and_experts_do_not() -> None:
    found = summaries("lookup-or-experts", "model[*].batch=[1, 64]")
    machine = "H100 and its host's DRAM"
    for batch in (1, 64):
        experts, table, keys = (
            rate(found, model, batch, machine)
            for model in ("routed experts in DRAM", "4 B + n-gram tables in DRAM", "4 B + product keys in DRAM")
        )
        assert table > keys > 5 * experts


def test_experts_known_by_the_token_arrive_in_time_where_layers_and_link_allow() -> None:
    found = summaries("lookup-or-experts")

    def price(model: str, batch: int, machine: str) -> float:
        """Of a step, in steps without it."""
        return rate(found, "experts in HBM", batch, machine) / rate(found, model, batch, machine) - 1

    pcie, c2c = "H100 and its host's DRAM", "the same behind C2C"
    router, late, first = (
        f"{who} in DRAM"
        for who in (
            "routed experts of 3 late layers",
            "experts by token id of 3 late layers",
            "experts by token id of the first 3 layers",
        )
    )
    assert price(late, 1, pcie) < 0.03
    for batch in (16, 256):
        assert 0.5 < price(late, batch, pcie) / price(router, batch, pcie) < 0.85
        assert price(late, batch, c2c) < 0.06
        assert price(router, batch, c2c) > 0.3
        assert price(first, batch, pcie) > 0.9 * price(router, batch, pcie)


def test_three_classes_are_bound_by_different_things() -> None:
    found = summaries("three-classes", "traffic.queries=40", "machines=[{hardware: h100-sxm-8, tp: 8}]")
    bound = {s["kind"]: max(s["bound_by"], key=s["bound_by"].get) for s in found}
    assert bound["jacobi"] == "hbm"
    assert set(
        charts_of(report("three-classes", "traffic.queries=40", "machines=[{hardware: h100-sxm-8, tp: 8}]"))
    ) == {"samples"}


def test_a_cache_that_overflows_is_best_swapped_and_worst_streamed() -> None:
    found = {s["machine"]: s for s in summaries("kv-offload")}
    recompute, swap, half, c2c = (
        found[name]["output_throughput"]
        for name in ("recompute", "swap to DRAM", "half in DRAM", "half in DRAM behind C2C")
    )
    assert 1.02 < swap / recompute < 1.08
    assert found["swap to DRAM"]["ttft_p50_ms"] < 0.5 * found["recompute"]["ttft_p50_ms"]
    assert 6 < swap / half < 10
    assert 0.5 < c2c / swap < 0.7
