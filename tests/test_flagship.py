"""The studies that ship: they are found and read, they say what they ask, and a few points of each can be computed."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from simulator.cost.machine import Machine
from simulator.cost.mean_step import mean_step, seconds_of
from simulator.errors import ScenarioError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import check_profile
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.scenario import parts_of, scenario_of
from simulator.serve import slo
from simulator.stack.stack import Stacks
from simulator.study.axes import Ends, points
from simulator.study.candidates import Candidates
from simulator.study.evaluation import Evaluation
from simulator.study.flagship import TASKS, names, regenerate
from simulator.study.fleet import single
from simulator.study.mixed import mixed
from simulator.study.objective import objective_of
from simulator.study.plan import demand_of, plan
from simulator.study.space import Space
from simulator.study.study import Crossover, Plan, Study, find_study, kind_of, packaged_studies, read_study
from simulator.study.sweep import sweep
from simulator.study.table import table_of
from simulator.yaml_source import read_yaml

STUDIES = sorted(packaged_studies())


@pytest.mark.parametrize("name", [name for name in STUDIES if kind_of(find_study(name)) != "plan"])
def test_a_study_says_what_it_asks_and_two_of_its_points_run(name: str, tmp_path: Path) -> None:
    file = find_study(name)
    says_what_it_asks(file)
    study, source, scenario = read_study(file, Crossover if kind_of(file) == "crossover" else Study)  # type: ignore[type-var]
    assert study.description
    space = Space(scenario, source.where(("axes",)), kept=False)
    if isinstance(study, Crossover):
        corners: list[dict[str, object]] = [{key: axis.at(end) for key, axis in study.axes.items()} for end in (0, 1)]
    else:
        assert isinstance(study, Study)
        every = list(points(study.axes, study.together))
        corners = [dict(every[0]), dict(every[-1])]
    rows = [row for corner in corners for row in space.rows(corner)]
    results = Evaluation().results(space.points)[0]
    if isinstance(study, Study) and study.beside:  # its formulas need another study's columns
        assert all("summary" in result for result in results.values())
        table = sweep(file, tmp_path, samples=0).table
    else:
        table = table_of(rows, results, study, source.where(()))
    assert table["error"].isna().all()
    assert (table["output_throughput"] > 0).all()
    assert all(isinstance(axis, Ends) or len(axis) > 1 for axis in study.axes.values())


def says_what_it_asks(file: Path) -> None:
    first, *rest = file.read_text().splitlines()
    assert first.startswith("# ")
    assert first.endswith("?")
    assert any(line.startswith("# Asked: ") for line in rest)


def test_the_peaks_of_the_packaged_day_go_to_another_kind() -> None:
    """By its closed form alone: `make studies` runs its events."""
    file = find_study("base-and-peaks")
    says_what_it_asks(file)
    wanted, _, scenario_file = read_study(file, Plan)
    assert wanted.description
    base = read_yaml(scenario_file, error=ScenarioError)
    scenario = scenario_of(base)
    objective = slo(scenario, base)
    assert objective is not None
    demand = demand_of(scenario, wanted, scenario_file, base)
    candidates = Candidates(wanted, scenario, base, objective, demand, ())
    alone = [single(one, ceil(demand.peak / one.rate), demand, wanted) for one in candidates.found]
    goal = objective_of(wanted.goals, alone)
    best = mixed(goal.ordered(alone), demand, wanted, goal)[0]
    assert goal.of(best) < 0.98 * min(goal.of(each) for each in alone)
    assert {kind.profile.name for kind in best.kinds} == {"b200-sxm-8", "h100-sxm-8"}


def test_prompts_on_one_kind_and_answers_on_another_are_the_cheapest(tmp_path: Path) -> None:
    file = find_study("prompts-apart")
    says_what_it_asks(file)
    best = plan(file, tmp_path).fleets[0]
    assert best.candidate.prefill is not None
    assert best.candidate.prefill.case.machine.profile.name == "h100-sxm-8"
    assert best.candidate.case.machine.profile.name == "h20-8"


def test_every_flagship_is_known_by_its_name(tmp_path: Path) -> None:
    assert set(names()) == {*STUDIES, *TASKS}
    with pytest.raises(ScenarioError, match="moe-byte-cliff"):
        regenerate("moe-byte-clif", tmp_path, tmp_path)


@pytest.mark.parametrize("name", names())
def test_every_flagship_has_a_finding_with_its_picture(name: str) -> None:
    docs = Path(__file__).parent.parent / "docs" / "studies"
    page = (docs / "findings.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {name}: ")[2].partition("\n## ")[0]
    assert f"({name}.svg)" in section and (docs / f"{name}.svg").is_file()
    assert "\n*What would change it:*" in section


def test_a_study_names_the_command_that_runs_it() -> None:
    with pytest.raises(ScenarioError, match="this is a crossover; ramwise crossover dram-crossover"):
        read_study(find_study("dram-crossover"), Study)


@pytest.mark.parametrize(("name", "file"), [("joules-at-equal-loss", "table.csv"), ("three-classes", "summary.json")])
def test_a_picture_is_made_anew_and_again(tmp_path: Path, name: str, file: str) -> None:
    picture = regenerate(name, tmp_path / "docs", tmp_path / "results")
    assert "<svg" in picture.read_text(encoding="utf-8")
    assert (tmp_path / "results" / name / file).is_file()
    assert regenerate(name, tmp_path / "docs", tmp_path / "results") == picture


def test_llmcompass_priced_its_dram_at_a_seventh_of_what_its_code_says() -> None:
    """711 USD less 58.3 % leaves 154 USD for 512 GB beside a die of 142 USD; DDR5 is 2.4 USD a GB in cost_model.py."""
    cases = Path(find_study("hbm-for-dram")).parent / "cases"
    known = Catalogue([cases])
    hbm, dram = (known.load(f"{name}-as-llmcompass") for name in ("a100", "dram"))
    assert hbm.price and dram.price and hbm.price.capital and dram.price.capital
    assert float(hbm.price.capital) == 8 * (151 + 80 * 7)
    memory = (float(dram.price.capital) / 8 - 142) / 512
    assert memory == pytest.approx(0.30, abs=0.005)
    assert not check_profile(dram)


def test_a_key_with_dots_stands_in_quotes() -> None:
    assert list(parts_of('machines[0].change."node.memory.ddr.latency"')) == [
        "machines", "0", "change", "node.memory.ddr.latency",
    ]  # fmt: skip
    assert list(parts_of("machines[*].tp")) == ["machines", "*", "tp"]


def test_a_tier_of_the_chip_and_of_the_node_under_one_name_is_refused() -> None:
    h100 = Catalogue([]).load("h100-sxm-8")
    assert not check_profile(h100)
    two = h100.model_copy(
        update={"node": h100.node.model_copy(update={"memory": (*h100.node.memory, h100.chip.main_memory)})}
    )
    assert any("both have a tier hbm" in problem.what for problem in check_profile(two))


def test_the_limits_are_liminal_s() -> None:
    """LIMINAL's tokens a second of Llama-3.1-405B for one user at 4,096 tokens: 86, 290 and 776 on 8, 32 and 128 chips.
    Beyond eight chips ours are lower, as key-value projections are copied there, which it cuts further."""
    cases = Path(find_study("dram-or-sram-limits")).parent / "cases"
    profile, stack = Catalogue([cases]).load("liminal-hbm3"), Stacks([cases]).load("liminal-2025")
    for chips, published, below in ((8, 86, 0.01), (32, 290, 0.03), (128, 776, 0.09)):
        each = stack.layer_overhead if chips == 8 else stack.layer_overhead.range[1]  # type: ignore[index]
        machine = Machine(profile, stack.model_copy(update={"layer_overhead": each}), Parallelism(tp=chips))
        model, precision = load_model("llama-3.1-405b"), Precision("fp8", "fp8")
        seconds = seconds_of(mean_step(model, precision, machine, 1.0, 4096.0), model, machine, 0.0)
        assert -below < 1.0 / seconds[0] / published - 1.0 < 0.01


def test_the_sram_machines_answer_one_user_as_fast_as_measured() -> None:
    """Tokens a second of users alone, as published: one number of each stack is fitted to them, none for a model."""
    known = (
        ("groq-lpu-576", "llama-2-70b", Parallelism(tp=8, pp=72), 241),
        ("groq-lpu-576", "llama-3.1-70b", Parallelism(tp=8, pp=72), 276),  # 3.3, of the same shape
        ("groq-lpu-576", "llama-3.1-8b", Parallelism(tp=8, pp=8), 750),
        ("groq-lpu-576", "gpt-oss-120b", Parallelism(tp=8, pp=36), 476),
        ("cerebras-cs3-4", "llama-3.1-70b", Parallelism(pp=4), 450),
        ("cerebras-cs3-4", "llama-3.1-8b", Parallelism(), 1800),
    )
    for hardware, name, layout, published in known:
        profile, model = Catalogue([]).load(hardware), load_model(name)
        machine = Machine(profile, Stacks([]).load(profile.default_stack), layout)
        step = mean_step(model, Precision("fp8", "fp16"), machine, 1.0, 1024.0)
        measured = 1.0 / seconds_of(step, model, machine, 0.0)[0] / published
        assert 0.75 < measured < 1.35, name
