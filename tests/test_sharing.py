"""Replicas that share: the closed form for one user is the limit, and fast-forward stays exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_cases import MS, EngineCase, MadeUpStep, Tariff, constant_step, engine_cases, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine_fast_forward import assert_same_run

from simulator import load
from simulator import run as simulate_all
from simulator.cost.steady import Replica as SteadyReplica
from simulator.engine.batching import BatchLimits
from simulator.engine.kv_cache import KvLimits
from simulator.serve import prepare

many = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
ROOMY = KvLimits(1 << 20, 16)


def slower(step: MadeUpStep, times: int) -> MadeUpStep:
    """The same step in so many times the time."""
    tariffs = tuple(Tariff(*(times * getattr(t, name) for name in Tariff.__dataclass_fields__)) for t in step.tariffs)
    return replace(step, tariffs=tariffs)


def sharing(case: EngineCase, together: int = 2) -> EngineCase:
    shared = tuple((slower(case.step, count),) for count in range(2, together + 1))
    return replace(case, options={**case.options, "replicas": 3, "shared": shared})


@many
@given(engine_cases(), st.integers(2, 3))
def test_fast_forward_is_stepping_to_the_bit_under_sharing_too(case: EngineCase, together: int) -> None:
    shared = sharing(case, together)
    assert_same_run(shared.run(), shared.run(exact=True))


def run(workload: object, **options: object) -> EngineCase:
    return EngineCase(workload, constant_step(0.01), BatchLimits(1, 64), ROOMY, options)  # type: ignore[arg-type]


def test_one_user_alone_takes_the_closed_form() -> None:
    workload = requests([0.0, 5.0, 10.0], 10, 100)
    alone = run(workload).run()
    shared = run(workload, replicas=2, router="round_robin", shared=((constant_step(0.02),),)).run()
    assert np.array_equal(alone.requests.finish_s, shared.requests.finish_s)


def test_two_that_always_work_take_twice_the_time() -> None:
    workload = requests(0.0, [10, 10], [100, 100])
    shared = run(workload, replicas=2, router="round_robin", shared=((constant_step(0.02),),)).run()
    first = shared.steps.step_seconds()
    assert shared.requests.finish_s == pytest.approx([100 * 0.02 - 0.01] * 2)  # the first step began alone
    assert first.max() < 0.0201


def test_the_second_speeds_up_when_the_first_is_done_and_work_is_conserved() -> None:
    workload = requests([0.0, 0.5], [10, 10], [100, 100])
    shared = run(workload, replicas=2, router="round_robin", shared=((constant_step(0.02),),)).run()
    finish = shared.requests.finish_s
    # 0.5 s alone = 50 steps; the other 50 take 1 s beside the second, which has then done 50 and does 50 more alone.
    assert abs(finish[0] - 1.5) < 0.03
    assert abs(finish[1] - 2.0) < 0.03


@many
@given(engine_cases())
def test_neighbours_on_a_link_and_all_on_a_memory_fast_forward_as_they_step(case: EngineCase) -> None:
    """Four replicas share a memory, each two of them a link: 1 + others on the memory + 2 for one on the link."""
    shared = tuple(tuple(slower(case.step, n + 2 * (k - 1)) for k in range(1, min(n, 2) + 1)) for n in (2, 3, 4))
    linked = replace(case, options={**case.options, "replicas": 4, "shared": shared, "beside": 2})
    assert_same_run(linked.run(), linked.run(exact=True))


def test_only_a_neighbour_behind_the_same_switch_slows_a_replica_down() -> None:
    """Requests go to replicas 0, 1, 2 in turn; 0 and 1 share a link, 2 has the next one for itself."""
    alone, half = constant_step(0.01), constant_step(0.02)
    shared = ((alone, half), (alone, half), (alone, half))
    workload = requests(0.0, [10, 10, 10], [100, 100, 100])
    found = run(workload, replicas=4, router="round_robin", shared=shared, beside=2).run()
    assert found.requests.finish_s == pytest.approx([2.0 - 0.01, 2.0 - 0.01, 1.0])


def test_two_replicas_behind_one_switch_contend_in_a_scenario_and_one_is_the_closed_form(tmp_path: Path) -> None:
    """Experts in DRAM behind PCIe: 1, 2 (on one switch), 4 (on two) replicas, and 2 with links of their own."""
    scenario = tmp_path / "switch.yaml"
    scenario.write_text(
        """
        model: {base: qwen3-30b-a3b, ffn: [{kind: moe, experts: 128, top_k: 8, width: 768, tier: ddr}]}
        machines:
          - {hardware: a100-sxm-80g-8, name: one, tp: 1}
          - {hardware: a100-sxm-80g-8, name: two, tp: 1, replicas: 2}
          - {hardware: a100-sxm-80g-8, name: four, tp: 1, replicas: 4}
          - {hardware: a100-sxm-80g-8, name: apart, tp: 1, replicas: 2, change: {node.memory.ddr.link_shared_by: 1}}
        traffic: {concurrency: 4, isl: 16, osl: 24, requests: 8}
        router: round_robin
        limits: {max_num_seqs: 1, max_num_batched_tokens: 16}
        """
    )
    one, two, four, apart = (result.summary for result in simulate_all(load(str(scenario))).runs)
    assert apart["tpot_p50_ms"] == pytest.approx(one["tpot_p50_ms"], rel=1e-6)
    assert two["tpot_p50_ms"] == pytest.approx(2 * one["tpot_p50_ms"], rel=0.1)
    assert two["makespan_s"] == pytest.approx(one["makespan_s"], rel=0.1)  # the link was busy all the time
    assert four["tpot_p50_ms"] == pytest.approx(two["tpot_p50_ms"], rel=0.05)
    assert two["bound_by"]["sharing"] > 0.4


def test_a_step_of_many_replicas_costs_few_events() -> None:
    workload = requests(np.arange(40) * 0.2, 10, 200)
    case = EngineCase(workload, MadeUpStep(tariffs=(Tariff(MS),)), BatchLimits(8, 64), ROOMY, {})
    shared = tuple((slower(case.step, count),) for count in (2, 3, 4))
    records = replace(case, options={"replicas": 4, "shared": shared}).run()
    assert records.events < 12 * 40


def test_replicas_on_one_host_contend_in_a_scenario(tmp_path: Path) -> None:
    scenario = tmp_path / "shared.yaml"
    scenario.write_text(
        """
        model: mixtral-8x7b
        machines:
          - {hardware: rtx-4090, host: xeon-6454s-2s, name: one, stack: ktransformers-2025, tp: 1}
          - {hardware: rtx-4090, host: xeon-6454s-2s, name: two, stack: ktransformers-2025, tp: 1, replicas: 2}
        precision: {weights: q4_k_m}
        traffic: {concurrency: 2, isl: 64, osl: 64, requests: 2}
        router: round_robin
        limits: {max_num_seqs: 1, max_num_batched_tokens: 64}
        """
    )
    one, two = (result.summary for result in simulate_all(load(str(scenario))).runs)
    # Alone, one answers after the other; two replicas answer at once, but the host gives each half of its memory.
    assert 1.0 < one["makespan_s"] / two["makespan_s"] < 1.7
    assert two["tpot_p50_ms"] > 1.4 * one["tpot_p50_ms"]
    assert two["bound_by"]["sharing"] > 0.2


@pytest.mark.parametrize("hardware", ["h100-sxm-8", "a100-sxm-80g-8"])
def test_the_steady_state_of_replicas_that_contend_is_that_of_the_events(tmp_path: Path, hardware: str) -> None:
    """Four replicas with their experts in one node's DRAM, always at work or idle at times: as much slower than one."""
    scenario = tmp_path / "shared.yaml"
    scenario.write_text(
        f"""
        model: {{base: qwen3-30b-a3b, ffn: [{{kind: moe, experts: 128, top_k: 8, width: 768, tier: ddr}}]}}
        machines:
          - {{hardware: {hardware}, name: one, tp: 1, change: &slow {{node.memory.ddr.bandwidth: 120 GB/s}}}}
          - {{hardware: {hardware}, name: four, tp: 1, change: *slow, replicas: 4}}
        traffic: {{concurrency: 8, isl: 64, osl: 64, requests: 100}}
        limits: {{max_num_seqs: 8, max_num_batched_tokens: 512}}
        """
    )

    def slower(load_of: str, each: float) -> tuple[float, float]:
        """Of four replicas against one: as events and in closed form."""
        events, closed = [], []
        for place, replicas in enumerate((1, 4)):
            traffic = f"traffic={{{load_of % (each * replicas)}, isl: 64, osl: 64, requests: {100 * replicas}}}"
            loaded = load(str(scenario), traffic)
            events.append(simulate_all(loaded).runs[place].summary["tpot_mean_ms"])
            case = prepare(loaded.scenario, loaded.source)[place]
            replica = SteadyReplica(case.architecture, case.precision, case.machine, 64.0, 64.0, 8.0)
            closed.append(float((replica.at_batch(each) if each >= 1 else replica.at_rate(each)).step_s[0]))
        return events[1] / events[0], closed[1] / closed[0]

    events, closed = slower("concurrency: %d", 8)
    assert closed == pytest.approx(events, rel=0.1)
    assert events > 1.8
    events, closed = slower("request_rate: %g /s", 0.01)
    assert closed == pytest.approx(events, rel=0.15)
    events, closed = slower("request_rate: %g /s", 0.08)  # who is slowed down works longer and slows the others down
    assert abs(closed - events) < 0.5 * (events - 1)
