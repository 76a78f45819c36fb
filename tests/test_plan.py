"""Plans: the smallest fleet that keeps the SLO by events, spares by the binomial, and what cannot be met said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.scenario import read_scenario
from simulator.serve import run
from simulator.study.fleet import spare_nodes
from simulator.study.folder import plan_document, write_plan
from simulator.study.plan import plan
from simulator.study.study import Availability

SCENARIO = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8}]
traffic: {request_rate: 60 /s, isl: 400, osl: 100, requests: 1500}
slo: {ttft: 400 ms, tpot: 25 ms, percentile: 95}
money: {basis: rental}
"""
PLAN = "study: plan\nscenario: chat.yaml\nmachines: [h100-sxm-8, l40s, a100-sxm-80g-8]\ntp: [1, 2]\nverify: 2\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "fleet.yaml").write_text(PLAN)
    return tmp_path / "fleet.yaml"


def test_the_fleet_keeps_the_slo_and_one_replica_less_does_not(study: Path, tmp_path: Path) -> None:
    found = plan(study, tmp_path / "out")
    best = found.fleets[0]
    assert found.tried == 3 * 2 * 3
    table = found.table
    assert len(table) == len(found.closed)
    verified = table[table["verified"]]
    assert verified["cost_per_mtok_usd"].is_monotonic_increasing
    attained = []
    for replicas in (best.replicas, best.replicas - 1):
        layout = best.candidate.case.machine.parallelism
        machine = best.candidate.case.machine.profile.name
        (tmp_path / "check.yaml").write_text(
            SCENARIO.replace(
                "{hardware: h100-sxm-8}", f"{{hardware: {machine}, tp: {layout.tp}, replicas: {max(1, replicas)}}}"
            ).replace("slo:", f"limits: {{max_num_seqs: {best.candidate.limits.max_num_seqs}}}\nslo:")
        )
        summary = run(*read_scenario(tmp_path / "check.yaml")).runs[0].summary
        attained.append(summary["slo_attainment"] if not summary["saturated"] else 0.0)
    assert attained[0] >= 0.95
    assert best.replicas == 1 or attained[1] < 0.95
    assert found.headroom >= 1.0
    assert found.run["slo_attainment"] == pytest.approx(attained[0])
    document = plan_document(found)
    json.dumps(document, allow_nan=False)
    assert document["best"]["machine"] == best.candidate.case.machine.profile.name
    assert found.sensitivity()["change"].iloc[0] == pytest.approx(0.2)
    write_plan(found, study, tmp_path / "out")
    assert (tmp_path / "out" / "plots" / "candidates.png").is_file()
    again = plan(study, tmp_path / "out")
    assert again.computed == 0
    assert again.fleets[0].replicas == best.replicas


def test_an_slo_that_nobody_meets_names_the_nearest(study: Path, tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(SCENARIO.replace("tpot: 25 ms", "tpot: 1 ms"))
    found = plan(study, tmp_path / "out")
    assert found.fleets == ()
    assert found.nearest is not None
    machine, what, factor = found.nearest
    assert machine == "h100-sxm-8"
    assert what == "tpot above the SLO in the smallest batch"
    assert factor > 1.0
    assert plan_document(found)["best"] is None


def test_constraints_leave_fleets_out(study: Path, tmp_path: Path) -> None:
    study.write_text(f"{PLAN}nodes: {{h100-sxm-8: 0, a100-sxm-80g-8: 0}}\npower: 1 W\n")
    found = plan(study, tmp_path / "out")
    assert found.fleets == ()
    assert found.refused["constraint power"] == len(found.closed)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("slo: {ttft: 400 ms, tpot: 25 ms, percentile: 95}\n", "", "a plan needs an slo"),
        ("request_rate: 60 /s", "concurrency: 4", "no rate to plan for"),
    ],
)
def test_what_cannot_be_planned_is_said(study: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "chat.yaml").write_text(SCENARIO.replace(old, new))
    with pytest.raises(ScenarioError, match=said):
        plan(study, tmp_path / "out")


def test_spares_are_the_fewest_that_reach_the_target() -> None:
    """One node that is up 9 of 10 hours: 0.9, 0.99, 0.999 with 0, 1, 2 spares."""
    for target, expected in ((0.9, 0), (0.98, 1), (0.998, 2)):
        asked = Availability(target=target, chip_hours="9 h", repair="1 h")  # type: ignore[arg-type]
        assert spare_nodes(1, 1, asked) == expected
    many = Availability(target=0.99, chip_hours="9 h", repair="1 h")  # type: ignore[arg-type]
    exact, normal = spare_nodes(400, 1, many), spare_nodes(600, 1, many)
    assert exact / 400 == pytest.approx(normal / 600, rel=0.1)
    assert spare_nodes(10, 1, many.model_copy(update={"maintenance": 2})) == spare_nodes(10, 1, many) + 2
