"""Pools of prefill and decode in closed form: what holds them, and the event engine beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.mean_step import mean_step, seconds_of
from simulator.cost.steady import Replica
from simulator.cost.steady_pools import Pools
from simulator.scenario import read_scenario
from simulator.serve import prepare
from simulator.study.steady_pools import pools_of
from simulator.study.sweep import sweep

SCENARIO = """
model: llama-3.1-8b
machines:
  - {hardware: h100-sxm-8, tp: 1, replicas: 2, prefill: {hardware: h100-sxm-8, tp: 1}}
traffic: {request_rate: 10 /s, isl: 1000, osl: 200, requests: 1500}
"""

STUDY = """
study: sweep
scenario: pools.yaml
evaluate: EVALUATE
axes: {traffic.request_rate: [1 /s, 10 /s, 25 /s]}
"""


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    path = tmp_path / "pools.yaml"
    path.write_text(SCENARIO)
    (case,) = prepare(*read_scenario(path))
    return pools_of(case, np.array([1000.0]), np.array([200.0]))


def test_closed_form_and_events_agree(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(SCENARIO)
    found = {}
    for how in ("steady", "events"):
        path = tmp_path / f"{how}.yaml"
        path.write_text(STUDY.replace("EVALUATE", how))
        found[how] = sweep(path, tmp_path / how).table
    for name, within in {
        "request_throughput": 0.06,
        "ttft_mean_ms": 0.12,
        "tpot_mean_ms": 0.05,
        "average_power_w": 0.06,
        "running_mean": 0.1,
        "utilisation": 0.15,
    }.items():
        np.testing.assert_allclose(found["steady"][name], found["events"][name], rtol=within, err_msg=name)


def test_the_least_part_holds_the_rate(pools: Pools) -> None:
    most = pools.at_rate(np.inf)
    parts = pools.holds()
    assert most.rate[0] == min(float(value[0]) for value in parts.values())
    assert most.saturated.all()
    assert most.binding[0] == "prefill"
    assert replace(pools, prefills=100).at_rate(np.inf).binding[0] == "decode"
    narrow = replace(pools, prefills=100, send=1e6)
    assert narrow.at_rate(np.inf).binding[0] == "link"
    assert narrow.at_rate(np.inf).rate[0] == pytest.approx(100 * 1e6 / float(pools.size[0]))  # type: ignore[index]


def test_a_link_that_falls_behind_the_prompt_is_waited_for(pools: Pools) -> None:
    """All but the last of the layers leave with the prompt; what is late is waited for, then the last."""
    alone, size = float(pools.prefill.alone_s[0]), float(np.ravel(pools.size)[0])
    for seconds, late in ((alone / 2, 0.0), (4 * alone, 3 * alone + 0.001 - alone)):
        link = replace(pools, send=size / seconds, receive=size / seconds, latency=0.001, layers=4)
        assert link.move_s == pytest.approx(0.001 + seconds / 4 + late)


def test_more_of_either_never_holds_less(pools: Pools) -> None:
    rate = pools.at_rate(np.inf).rate[0]
    for change in ({"prefills": 2}, {"decodes": 3}, {"send": 1e12}, {"receive": 1e12}):
        assert replace(pools, **change).at_rate(np.inf).rate[0] >= rate, change


def test_clients_keep_little_s_law(pools: Pools) -> None:
    users = np.array([1.0, 8.0, 64.0])
    wide = replace(
        pools,
        prefill=replace(pools.prefill, prompt=np.full(3, 1000.0)),
        decode=replace(pools.decode, most=np.full(3, 256.0)),
    )
    state = wide.at_users(users)
    free = ~state.saturated
    assert free[:2].all()
    np.testing.assert_allclose((state.rate * state.inside_s(200.0))[free], users[free], rtol=1e-6)


def test_a_prompt_longer_than_a_step_takes_several(pools: Pools) -> None:
    """8,000 tokens in steps of 2,000: four steps of a quarter of a prompt."""
    long = replace(pools.prefill, prompt=np.array([8000.0]), tokens=2000.0)
    state = long.at_rate(0.01)
    step = mean_step(long.architecture, long.precision, long.machine, 0.0, 0.0, 0.25, 8000.0)
    seconds = seconds_of(step, long.architecture, long.machine, 1.0)[0]
    assert state.batch[0] == 0.25
    assert state.busy[0] == pytest.approx(0.01 * 4 * seconds)
    load = 0.01 * 4 * seconds
    assert state.first_s[0] == pytest.approx(4 * seconds * (1 + load / (2 * (1 - load))))
    assert long.at_rate(np.inf).rate[0] == pytest.approx(1 / (4 * seconds))


def test_a_pool_that_only_decodes_is_faster_than_one_that_does_both(pools: Pools) -> None:
    alone = pools.decode
    both = Replica(alone.architecture, alone.precision, alone.machine, alone.prompt, alone.output, alone.most)
    rates = np.array([1.0, 5.0, 10.0])
    assert (alone.at_rate(rates).step_s < both.at_rate(rates).step_s).all()
    assert alone.at_batch(np.inf).rate[0] > both.at_batch(np.inf).rate[0]
