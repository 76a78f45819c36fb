"""Plans over a day: a second kind for the peaks, racks and spares, several goals, models of equal loss, stacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.errors import RamwiseError
from simulator.metrics.slo import Slo
from simulator.report.plan_lines import plan_lines
from simulator.study.bench import Bench
from simulator.study.fleet import fleet
from simulator.study.folder import plan_document
from simulator.study.plan import plan
from simulator.study.proposal import Proposal

DAY = [1, 1, 1, 1, 1, 2, 4, 6, 8, 10, 10, 9, 8, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1]
SCENARIO: dict[str, Any] = {
    "model": "llama-3.1-70b",
    "machines": [{"hardware": "h100-sxm-8"}],
    "traffic": {"request_rate": "205 /s", "isl": 400, "osl": 40, "requests": 3000},
    "slo": {"ttft": "2 s", "tpot": "100 ms", "percentile": 90},
    "money": {"basis": "rental"},
}
TWO = {"machines": ["b200-sxm-8", "h100-sxm-8"], "tp": [1, 4], "max_num_seqs": [256], "pools": False}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plans of one folder share their runs."""
    return tmp_path_factory.mktemp("plans")


def planned(folder: Path, scenario: dict[str, Any] | None = None, **study: Any) -> Proposal:
    import yaml

    (folder / "chat.yaml").write_text(yaml.safe_dump({**SCENARIO, **(scenario or {})}))
    return plan({"scenario": str(folder / "chat.yaml"), **TWO, **study}, folder / "out")


def test_the_peaks_of_a_day_go_to_another_kind_where_that_is_cheaper(shared: Path) -> None:
    found = planned(shared, day=DAY)
    best, alone = found.fleets[0], next(each for each in found.fleets if each.peaks is None)
    assert best.peaks is not None
    assert [kind.profile.name for kind in best.kinds] == ["b200-sxm-8", "h100-sxm-8"]
    assert best.cost_per_mtok is not None
    assert best.cost_per_mtok < 0.98 * (alone.cost_per_mtok or 0.0)
    base, peaks = best.parts
    # All of every hour's load is carried, and no part is asked for more than it was verified for.
    assert base.hours(found.demand) + peaks.hours(found.demand) == pytest.approx(found.demand.hours)
    assert base.rate + peaks.rate == pytest.approx(found.demand.peak)
    assert base.hours(found.demand).max() <= base.rate
    assert found.headroom >= 1.0
    assert len(found.joined) == 1  # of two kinds there is one pair
    document = plan_document(found)
    assert document["best"]["peaks_machine"] == "h100-sxm-8"
    assert any("the rest is on" in line for line in plan_lines(document))
    assert planned(shared, day=DAY, mixed=False).fleets[0].peaks is None


def test_what_one_kind_is_too_few_of_another_kind_carries(shared: Path) -> None:
    found = planned(shared, day=DAY, nodes={"b200-sxm-8": 1})
    assert found.fleets[0].count_of("b200-sxm-8") == 1
    assert found.fleets[0].count_of("h100-sxm-8") >= 1
    assert all(each.count_of("b200-sxm-8") <= 1 for each in found.fleets)
    assert found.constraints()["constraint nodes"] > 0


def test_spares_of_two_kinds_are_not_said_to_be_of_the_first(shared: Path) -> None:
    found = planned(shared, day=DAY)
    wanted = found.plan.model_copy(update={"spares": 1})
    spared = replace(found, fleets=(fleet(found.fleets[0].parts, found.demand, wanted),))
    lines = plan_lines(plan_document(spared))
    assert any("spare nodes of all kinds: 2" in line for line in lines)
    assert not any(" spare x " in line for line in lines)


def test_too_few_requests_may_keep_limits_that_each_latency_keeps(shared: Path) -> None:
    """95 of 100 keep both limits and each latency's 99th percentile does: what is missed is the share."""
    slo = Slo(ttft_s=1.0, tpot_s=0.1, percentile=99.0)
    bench = Bench(None, "", (), slo, "goodput", None, None, 1)  # type: ignore[arg-type]
    run = {"saturated": False, "slo_attainment": 0.95, "ttft_p99_ms": 990.0, "tpot_p99_ms": 99.0}
    assert not bench.keeps([run])
    assert bench.miss("x", [run]) == ("x", "95 % of the requests keep the SLO", pytest.approx(0.99 / 0.95))
    assert bench.miss("x", [{**run, "ttft_p99_ms": 2000.0}]).factor == 2.0


def test_percentiles_count_for_nothing_where_requests_are_left() -> None:
    bench = Bench(None, "", (), Slo(ttft_s=1.0, percentile=99.0), "percentiles", None, None, 1)  # type: ignore[arg-type]
    run = {"saturated": False, "ttft_p99_ms": 990.0, "requests": 10, "requests_completed": 10}
    assert bench.keeps([run])
    assert not bench.keeps([run, {**run, "requests_completed": 9}])
    assert not bench.keeps([])


def test_machines_that_an_hour_does_not_need_are_off(shared: Path) -> None:
    found = planned(shared, day=DAY, mixed=False, verify=1)
    best = found.fleets[0]
    off = fleet(best.parts, found.demand, found.plan.model_copy(update={"standby": "off"}))
    assert off.nodes == best.nodes
    assert off.power < best.power
    assert off.cost_per_hour is not None
    assert best.cost_per_hour is not None
    price = best.cost_per_hour / best.nodes
    each = best.candidate.case.machine.parallelism.chips
    on = [-(-np.ceil(best.replicas * load / found.demand.peak - 1e-9) * each // 8) for load in found.demand.hours]
    assert off.cost_per_hour == pytest.approx(price * np.mean(on))


def test_racks_spares_and_headroom(shared: Path) -> None:
    plain = planned(shared, mixed=False, verify=1)
    roomy = planned(shared, mixed=False, verify=1, headroom=1.5, spares=2, rack_power="25 kW")
    assert roomy.fleets[0].spares == 2
    assert roomy.demand.peak == pytest.approx(1.5 * plain.demand.peak)
    assert roomy.demand.hours == plain.demand.hours
    best = roomy.fleets[0]
    assert best.racks == -(-(best.nodes + 2) // int(25e3 / best.node_power))
    assert roomy.headroom >= 1.0
    small = planned(shared, mixed=False, verify=1, rack_power="2 kW")
    assert small.fleets == ()
    assert small.nearest is not None
    assert small.nearest.what.startswith("breaks the constraint rack_power")
    assert small.nearest.factor == pytest.approx(min(each.node_power for each in small.closed) / 2e3)
    with pytest.raises(RamwiseError, match="write rack_power: 40 kW"):
        planned(shared, racks=2)
    with pytest.raises(RamwiseError, match="samples means nothing in a plan"):
        planned(shared, samples=4)
    with pytest.raises(RamwiseError, match="a fleet below its peak does not carry the traffic"):
        planned(shared, headroom=0.9)


def test_several_goals_are_weighed_and_their_front_is_verified(shared: Path) -> None:
    found = planned(shared, mixed=False, objective={"cost": 0.5, "energy": 0.5})
    table = found.table
    front = table[table["front"]]
    assert front["verified"].all()
    assert len(front) >= 1
    # Nothing that was verified is below a fleet of the front in both goals.
    for _, row in table[table["verified"]].iterrows():
        figures = table.loc[table["verified"], ["cost_per_mtok_usd", "energy_per_output_token_j"]]
        own = row[figures.columns].astype(float)
        beaten = (figures <= own).all(axis=1) & (figures < own).any(axis=1)
        assert row["front"] == (not beaten.any())
    costs = {goal: min(each.score(goal) for each in found.closed) for goal in ("cost", "energy")}
    best = found.fleets[0]
    assert found.objective.of(best) == pytest.approx(
        0.5 * best.score("cost") / costs["cost"] + 0.5 * best.score("energy") / costs["energy"]
    )


def test_a_layout_of_two_nodes_and_every_stack_are_candidates(shared: Path) -> None:
    layouts = [{"tp": 8}, {"tp": 8, "pp": 2}]
    found = planned(shared, mixed=False, tp="auto", layouts=layouts, machines=["h100-sxm-8"], stacks="auto", verify=1)
    assert {str(each.candidate.case.machine.parallelism) for each in found.closed} == {"tp8", "tp8 pp2"}
    assert {"vllm-2025", "tensorrt-llm-2024"} <= {each.candidate.case.machine.stack.name for each in found.closed}
    with pytest.raises(RamwiseError, match="unknown stack 'vllm-2052'; did you mean"):
        planned(shared, stacks=["vllm-2052"])


def test_a_model_too_large_for_a_node_spans_several(shared: Path) -> None:
    model = {"model": "deepseek-v3", "precision": {"weights": "bf16"}, "slo": {"ttft": "20 s", "tpot": "200 ms"}}
    found = planned(shared, model, mixed=False, tp="auto", machines=["h100-sxm-8"], verify=1)
    assert {each.candidate.case.machine.parallelism.pp for each in found.closed} == {4}
    assert found.refused["the model does not fit"] > 0


def test_models_are_candidates_at_equal_loss_only(shared: Path) -> None:
    table = {"base": "llama-3.1-8b", "name": "tables", "ffn": [
        {"layers": [1], "kind": "ngram_table", "orders": [2], "heads": 8, "rows": 100_000, "width": 64, "dtype": "fp8"}
    ]}  # fmt: skip
    scenario = {"model": ["llama-3.1-8b", "llama-3.1-70b", table], "slo": {"ttft": "2 s", "tpot": "100 ms"}}
    equal = {"vary": {"tables": {"key": "ffn[0].rows"}}, "tolerance": 0.02}
    found = planned(shared, scenario, mixed=False, verify=1, at_equal_loss=equal)
    names = {str(each.candidate.model) for each in found.closed}
    assert "llama-3.1-8b" in names
    assert "llama-3.1-70b" not in names
    assert found.refused["not at the loss of the reference"] >= 1
    assert any("nats" in line for line in plan_lines(plan_document(found)))
    assert "model" in found.table.columns


def test_percentiles_of_each_latency_may_decide(shared: Path) -> None:
    study: dict[str, Any] = {"mixed": False, "verify": 1, "slo_by": "percentiles"}
    found = planned(shared, **study)
    assert found.run["ttft_p90_ms"] <= 2000
    assert found.run["tpot_p90_ms"] <= 100
    assert found.fleets[0].replicas <= planned(shared, mixed=False, verify=1).fleets[0].replicas
    with pytest.raises(RamwiseError, match="percentiles 50, 90 and 99"):
        planned(shared, {"slo": {"ttft": "2 s", "percentile": 95}}, **study)


def test_seeds_give_an_interval(shared: Path) -> None:
    found = planned(shared, mixed=False, verify=1, replications=3)
    share, half = found.attained()
    shares = [run["slo_attainment"] for run in found.runs]
    assert len(shares) == 3
    assert share == pytest.approx(np.mean(shares))
    assert half == pytest.approx(4.302653 * np.std(shares, ddof=1) / 3**0.5, rel=1e-4)


def test_a_constraint_that_only_events_break_is_named(shared: Path) -> None:
    """Means need three nodes, the 99th percentile needs more than the three that there are."""
    varied = {"lognormal": [800, 1.0], "max": 8000}
    traffic = {"request_rate": "60 /s", "isl": varied, "osl": 40, "requests": 1500}
    scenario = {"traffic": traffic, "slo": {"ttft": "600 ms", "percentile": 99}}
    study: dict[str, Any] = {"mixed": False, "machines": ["h100-sxm-8"], "tp": [4]}
    free = planned(shared, scenario, **study)
    promised, needed = free.closed[0].nodes, free.fleets[0].nodes
    assert promised < needed
    found = planned(shared, scenario, nodes={"h100-sxm-8": promised}, **study)
    assert found.fleets == ()
    assert found.computed == 0
    assert found.nearest is not None
    assert found.nearest.what == f"breaks the constraint nodes: {needed} of {promised} h100-sxm-8"
    assert found.nearest.factor == pytest.approx(needed / promised)


def test_what_no_number_of_replicas_keeps_is_named(shared: Path) -> None:
    """Means keep it and tails never do: lengths that vary give single requests that take too long."""
    varied = {"lognormal": [1000, 1.6], "max": 60_000}
    scenario = {
        "traffic": {"request_rate": "4 /s", "isl": varied, "osl": 100, "requests": 300},
        "slo": {"ttft": "600 ms", "percentile": 99},
    }
    found = planned(shared, scenario, mixed=False, verify=1, machines=["h100-sxm-8"], tp=[8])
    assert found.closed
    assert found.fleets == ()
    assert found.nearest is not None
    assert "ttft_p99 above its limit" in found.nearest.what
    assert found.nearest.factor > 1.0
