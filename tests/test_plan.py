"""Plans: the smallest fleet that keeps the SLO by events, spares by the binomial, and what cannot be met said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulator.errors import ProfileError, ScenarioError
from simulator.report.plan_lines import plan_lines
from simulator.scenario import read_scenario
from simulator.serve import run
from simulator.study.candidate import Refusal
from simulator.study.fleet import spares_for
from simulator.study.folder import plan_document, write_plan
from simulator.study.judge import judged
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
ALONE = f"{PLAN}pools: false\n"

# Machines whose memory is dear for prompts, and whose compute is slow for them: the answers go to the first.
APART = """\
model: gpt-oss-120b
machines: [{hardware: h100-sxm-8}]
traffic: {request_rate: 20 /s, isl: 4000, osl: 200, requests: 400}
slo: {ttft: 1500 ms, tpot: 150 ms, percentile: 90}
money: {basis: capital}
"""
APART_PLAN = """\
study: plan
scenario: apart.yaml
machines: [h100-sxm-8, xeon-6980p-2s]
tp: [1, 2]
max_num_seqs: [128]
link: {bandwidth: 25 GB/s, latency: 20 us}
objective: OBJECTIVE
verify: 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "fleet.yaml").write_text(ALONE)
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
    # A prompt that fills the cache is no load of less than one request.
    side, limits = best.candidate.sides[0], best.candidate.limits
    full = judged("llama-3.1-8b", side.case, limits, found.slo, 2.0 * side.case.sheet.kv_tokens, 100.0)
    assert full == Refusal("the KV cache does not hold a request")
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
    study.write_text(f"{ALONE}nodes: {{h100-sxm-8: 0}}\npower: 1 W\n")
    found = plan(study, tmp_path / "out")
    assert found.fleets == ()
    assert sum(found.constraints().values()) == len(found.closed)
    kinds = [each.candidate.case.machine.profile.name for each in found.closed]
    assert found.constraints()["constraint power"] == kinds.count("a100-sxm-80g-8") > 0
    # Of a machine that there is none of, no share is too much; the nearest draws the least of too many watts.
    assert found.nearest is not None
    assert found.nearest.what.startswith("breaks the constraint power")
    assert found.nearest.factor == pytest.approx(
        min(f.peak_power for f in found.closed if f.count_of("a100-sxm-80g-8"))
    )


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


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stacks: vllm-2025", r"unknown stacks 'vllm-2025'; known: auto, default, or a list: \[vllm-2025\]"),
        ("objective: [cost, energy]", "objective should be 'cost', 'energy', 'chips' or 'carbon', not a list"),
        ("layouts: [{tp: 2}]", "fleet.yaml:7:1: layouts say tp themselves"),
        ("racks: 2", "fleet.yaml:7:1: racks hold as many nodes as they can feed; write rack_power: 40 kW"),
        ("day: [0, 0]", "fleet.yaml:7:1: the day has no load in any hour"),
    ],
)
def test_what_is_written_wrong_is_said_with_its_mend(study: Path, tmp_path: Path, line: str, said: str) -> None:
    study.write_text(f"{study.read_text()}{line}\n")
    with pytest.raises(ScenarioError, match=said):
        plan(study, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("tp: [1, 2]", "tp: [512]", "every tp of the plan is more than the chips of a node"),
        ("tp: [1, 2]", "stacks: [tt-metal-2025]", "no stack of the plan has numbers of the machine"),
    ],
)
def test_machines_without_a_candidate_say_why(study: Path, tmp_path: Path, old: str, new: str, why: str) -> None:
    study.write_text(ALONE.replace(old, new))
    found = plan(study, tmp_path / "out")
    assert not found.fleets
    assert found.refused[why] >= 3


def test_a_fleet_with_room_needs_no_more_for_a_fifth_more(study: Path, tmp_path: Path) -> None:
    """A node that one request a second leaves idle stays one under 20 % more; no bound of its head-room is found."""
    (tmp_path / "chat.yaml").write_text(SCENARIO.replace("request_rate: 60 /s", "request_rate: 1 /s"))
    found = plan(study, tmp_path / "out")
    assert found.fleets[0].nodes == 1
    assert not found.headroom_found
    assert set(found.sensitivity()["nodes"]) == {1}
    assert "it holds at least " in " ".join(plan_lines(plan_document(found)))


def test_carbon_decides_nothing_where_electricity_has_none(study: Path, tmp_path: Path) -> None:
    study.write_text(f"{study.read_text()}objective: carbon\ncarbon_intensity: 0 kg/kWh\n")
    with pytest.raises(ScenarioError, match="electricity without CO2e makes all fleets equal"):
        plan(study, tmp_path / "out")


def test_spares_are_the_fewest_that_reach_the_target() -> None:
    """One node that is up 9 of 10 hours: 0.9, 0.99, 0.999 with 0, 1, 2 spares."""
    for target, expected in ((0.9, 0), (0.98, 1), (0.998, 2)):
        asked = Availability(target=target, chip_hours="9 h", repair="1 h")  # type: ignore[arg-type]
        assert spares_for(1, 1, asked) == expected
    many = Availability(target=0.99, chip_hours="9 h", repair="1 h")  # type: ignore[arg-type]
    exact, normal = spares_for(400, 1, many), spares_for(600, 1, many)
    assert exact / 400 == pytest.approx(normal / 600, rel=0.1)
    assert spares_for(10, 1, many.model_copy(update={"maintenance": 2})) == spares_for(10, 1, many) + 2


def apart(folder: Path, objective: str, **changes: str) -> Path:
    (folder / "apart.yaml").write_text(APART)
    text = APART_PLAN.replace("OBJECTIVE", objective)
    (folder / "pair.yaml").write_text(text + "".join(f"{key}: {value}\n" for key, value in changes.items()))
    return folder / "pair.yaml"


def test_a_machine_too_slow_for_prompts_answers_them(tmp_path: Path) -> None:
    """Xeons alone miss the limit of the first token; behind an H100 they are candidates, with as many of each kind as
    the peak needs."""
    found = plan(apart(tmp_path, "cost"), tmp_path / "out")
    pairs = [each for each in found.closed if each.candidate.prefill]
    kinds = {(p.candidate.prefill.case.machine.profile.name, p.candidate.case.machine.profile.name)
             for p in pairs if p.candidate.prefill}  # fmt: skip
    assert ("h100-sxm-8", "xeon-6980p-2s") in kinds
    assert not any(prefill == "xeon-6980p-2s" for prefill, _ in kinds)
    assert found.refused["ttft above the SLO in the smallest batch"] >= 1
    mixed = next(p for p in pairs if p.candidate.case.machine.profile.name == "xeon-6980p-2s")
    first, _ = mixed.candidate.sides
    demand = found.demand.peak
    assert first.count(mixed.replicas) * mixed.candidate.rate / first.share >= demand * (1 - 1e-9)
    assert mixed.replicas * mixed.candidate.rate >= demand > (mixed.replicas - 1) * mixed.candidate.rate
    assert mixed.chips == sum((kind.count + kind.spares) * kind.profile.node.chips for kind in mixed.kinds)
    # What a plan makes of it is a scenario that runs and keeps the SLO's means.
    scenario, source = read_scenario(tmp_path / "apart.yaml")
    changed = scenario.model_copy(
        update={"machines": (mixed.candidate.choice(mixed.replicas),), "limits": mixed.candidate.limits}
    )
    summary = run(changed, source).runs[0].summary
    assert summary["chips"] == sum(side.count(mixed.replicas) * side.case.machine.parallelism.chips
                                   for side in mixed.candidate.sides)  # fmt: skip
    assert (
        0.5 * mixed.candidate.token_s < summary["tpot_mean_ms"] / 1e3 < 1.1 * mixed.candidate.token_s
    )  # it begins empty
    assert summary["tpot_mean_ms"] < 150
    document = plan_document(found)
    json.dumps(document, allow_nan=False)


def test_carbon_is_energy_times_the_grid(tmp_path: Path) -> None:
    by_grid = {}
    for grid in ("france-2023", "world-2023"):
        found = plan(apart(tmp_path, "carbon", grid=grid, pools="false"), tmp_path / "out")
        best = found.fleets[0]
        assert best.candidate is min(found.fleets, key=lambda each: each.joules_per_token).candidate
        by_grid[grid] = best.carbon_per_mtok
        assert any("kg of CO2e" in line and grid in line for line in plan_lines(plan_document(found)))
    assert by_grid["world-2023"] / by_grid["france-2023"] == pytest.approx(481 / 56)
    assert by_grid["world-2023"] == pytest.approx(best.joules_per_token * 1e6 * 0.481 / 3.6e6)
    with pytest.raises(ProfileError, match="did you mean 'france-2023'"):
        plan(apart(tmp_path, "carbon", grid="france-2024"), tmp_path / "out")


def test_every_budget_and_placement_is_a_candidate(study: Path, tmp_path: Path) -> None:
    more = "max_num_batched_tokens: [2048, 8192]\nplacement: auto\n"
    study.write_text(ALONE.replace("[h100-sxm-8, l40s, a100-sxm-80g-8]", "[h100-sxm-8]") + more)
    found = plan(study, tmp_path / "out")
    assert found.tried == 2 * 3 * 2 * 2
    budgets = {each.candidate.limits.max_num_batched_tokens for each in found.closed}
    assert budgets == {2048, 8192}
    assert {each.candidate.case.choice.placement for each in found.closed} == {None, "auto"}
