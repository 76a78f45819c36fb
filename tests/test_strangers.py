"""What strangers write: slips of the pen, impossible numbers, files of others. One line a problem, and no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.api import load, run
from simulator.errors import InputError, RamwiseError
from simulator.hardware.catalogue import Catalogue
from simulator.report.samples import plain_text
from simulator.report.state import over_replicas
from simulator.report.tables import plain_text as serving_table
from simulator.study.crossover import crossover
from simulator.study.folder import write, write_map
from simulator.study.plan import plan
from simulator.study.sweep import sweep
from simulator.validation.validation import validate

SERVE = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}]
traffic: {request_rate: 2 /s, isl: 300, osl: 20, requests: 30}
"""
TRAIN = """\
task: train
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, chips: 32, stack: megatron-2024, parallelism: {tp: 2, pp: 4}}]
batch: {global_batch: 64, micro_batch: 1, sequence_length: 4096}
recompute: none
tokens: 1e9
"""
SAMPLES = """\
task: classes
model: {kind: decode, base: llama-3.1-8b, batch: [1, 8], context: 512, iterations: 10}
machines: [{hardware: h100-sxm-8, tp: 1}]
"""


def said(folder: Path, text: str) -> list[str]:
    """The lines of the mistake that a scenario makes."""
    path = folder / "a.yaml"
    path.write_text(text)
    with pytest.raises(RamwiseError) as failure:
        run(load(path))
    return str(failure.value).replace(f"{folder}/", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "request_rate: 2 /s",
            "request_rate: .inf",
            "a.yaml:3:25: request_rate: inf has no unit, /s is needed; write 'request_rate: 5 /s'",
        ),
        (
            "request_rate: 2 /s",
            "request_rate: 1e-300 /s",
            "a.yaml:3:25: request_rate: '1e-300 /s' is beyond all measure (1e-30 to 1e+30 in SI); "
            "write 'request_rate: 5 /s'",
        ),
        ("tp: 1", "tp: 1e300", "a.yaml:2:39: tp should be a smaller number, not 1e+300"),
        ("request_rate: 2 /s", "offline: false", "a.yaml:3:20: offline should be true, not false"),
        (
            "tp: 1",
            "tp: 1, placement: automatic",
            "a.yaml:2:53: unknown placement 'automatic'; did you mean 'auto'?",
        ),
        (
            "tp: 1",
            "tp: 1, change: {chip.memory.hbm.capacity: 160}",
            "a.yaml:2:50: capacity: 160 has no unit, B is needed; write 'capacity: 80 GB'",
        ),
        (
            "llama-3.1-8b",
            "{base: llama-3.1-8b, ffn: [{kind: ngram_table, rows: 9, width: 8, popularity: {zipf: .nan}}]}",
            "a.yaml:1:93: zipf: nan is not a finite number; write 'zipf: 0.9'",
        ),
    ],
)
def test_a_slip_in_a_serving_scenario_is_one_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert said(tmp_path, SERVE.replace(old, new)) == [line]


def test_a_missing_key_is_placed_where_it_is_missing(tmp_path: Path) -> None:
    lines = said(tmp_path, TRAIN + "bill: {}\n")
    assert "a.yaml:7:1: the key 'machines' is missing" in lines  # and not at the scenario's own machines


def test_a_sample_table_fits_a_narrow_terminal(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SAMPLES)
    text = plain_text(run(load(tmp_path / "a.yaml")), 80)  # type: ignore[arg-type]
    assert "batch 8" in text
    assert "% of time" in text
    assert all(line.rstrip().endswith("%") for line in text.splitlines() if "overhead" in line)


def test_the_state_of_replicas_adds_up_as_it_does_one_by_one() -> None:
    rng = np.random.default_rng(5)
    replica, value = rng.integers(0, 4, 60), rng.integers(0, 9, 60).astype(float)
    now: dict[int, float] = {}
    expected = []
    for one, new in zip(replica.tolist(), value.tolist(), strict=True):
        now[one] = new
        expected.append(sum(now.values()))
    assert over_replicas(replica, value).tolist() == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TRAIN.replace("chips: 32", "chips: []"), "a.yaml:3:42: chips has 0 items, 1 are needed"),
        (
            TRAIN.replace("chips: 32", "chips: 30"),
            "a.yaml:3:12: 30 chips are no multiple of tp 2 x pp 4 x cp 1 = 8; write chips: 24 or 32",
        ),
        (
            TRAIN + "failures: {components: {gpu: {mtbf: 100 h, shape: 0.01}}}\n",
            "a.yaml:7:30: a Weibull shape of 0.01 is none of parts, which have 0.2 to 20; write shape: 0.8",
        ),
        (
            TRAIN + "failures: {}\ncheckpoints: {interval: never}\n",
            "a.yaml:8:25: interval: 'never' is not a quantity; write 'interval: 600 ns'",
        ),
        (SAMPLES.replace("[1, 8]", "[]"), "a.yaml:2:50: batch has 0 items, 1 are needed"),
        (SAMPLES.replace("task: classes", "task: class"), "a.yaml:1:7: unknown task 'class'; did you mean 'classes'?"),
        (
            SERVE.replace("tp: 1", "tp: 1, change: {chip.memory.hbm.bandwidth: 1 B/s}"),
            "a step takes 1.21e+11 s, and 4,096 s are the most that is simulated; "
            "look for a bandwidth or peak that is too low, or write smaller `limits`",
        ),
        (
            SERVE.replace("tp: 1", "tp: 1, replicas: 1e15"),
            "a.yaml:2:52: replicas should be less than or equal to 100000, not 1000000000000000.0",
        ),
        (
            "study: sweep\nscenario: a.yaml\naxes: {}\n",
            "a.yaml:1:1: this is a study and no scenario; run it: ramwise sweep a.yaml",
        ),
    ],
)
def test_what_no_machine_and_no_run_has_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert said(tmp_path, text) == [line]


# --- studies ----------------------------------------------------------------------------------------------------------


def studied(folder: Path, text: str, scenario: str = SERVE, kind: Any = sweep) -> Any:
    """What a study of a scenario finds."""
    (folder / "chat.yaml").write_text(scenario)
    (folder / "study.yaml").write_text(text)
    return kind(folder / "study.yaml", folder / "out")


def test_a_model_may_vary_and_one_that_cannot_run_is_a_row(tmp_path: Path) -> None:
    found = studied(tmp_path, "scenario: chat.yaml\naxes: {model: [llama-3.1-8b, llama-2-7b, llama-3.1-405b]}\n")
    means = found.means()
    assert list(means["model"]) == ["llama-3.1-8b", "llama-2-7b", "llama-3.1-405b"]
    assert means["error"].notna().tolist() == [False, False, True]
    assert len(found.failed) == 1
    write(found, tmp_path / "study.yaml", tmp_path / "out", plots=False)


def test_a_rate_that_is_none_is_a_row_among_numbers(tmp_path: Path) -> None:
    found = studied(tmp_path, "scenario: chat.yaml\naxes: {traffic.request_rate: [-1 /s, 60 /min]}\n")
    assert list(found.table["traffic.request_rate"]) == [-1.0, 1.0]
    write(found, tmp_path / "study.yaml", tmp_path / "out", plots=False)


def test_two_traffics_are_two_points(tmp_path: Path) -> None:
    """A result has a column `traffic` too (what was done to a trace); the study's own tells them apart."""
    traffics = "[{request_rate: 1 /s, isl: 9, osl: 9, requests: 9}, {request_rate: 2 /s, isl: 9, osl: 9, requests: 9}]"
    assert len(studied(tmp_path, f"scenario: chat.yaml\naxes: {{traffic: {traffics}}}\n").means()) == 2


def test_a_path_in_a_profile_needs_no_quotes(tmp_path: Path) -> None:
    key = "machines[0].change.chip.memory.hbm.bandwidth"
    found = studied(tmp_path, f"scenario: chat.yaml\naxes:\n  {key}: [3 TB/s, 6 TB/s]\n").means()
    assert list(found[key]) == [3e12, 6e12]
    assert found["tpot_p50_ms"][0] > found["tpot_p50_ms"][1]


MAP = """\
study: crossover
scenario: chat.yaml
grid: 2
refine: 0
axes: {traffic.request_rate: {log: [1 /s, 9 /s]}, AXIS}
"""
PLAN = "study: plan\nscenario: chat.yaml\nmachines: [h100-sxm-8]\ntp: [1]\n"
LIMITED = SERVE + "slo: {ttft: 1 s}\n"
TWO = SERVE.replace("tp: 1}", "tp: 1}, {hardware: h200-sxm-8, tp: 1}")
LENGTHS = MAP.replace("AXIS", "traffic.isl: {log: [64, 512]}")


@pytest.mark.parametrize(
    ("kind", "text", "scenario", "line"),
    [
        (sweep, "scenario: chat.yaml\nmetrics: [model]\n", SERVE, "the metric 'model' is text"),
        (sweep, "scenario: chat.yaml\nderived: {chips: chips * 2}\n", SERVE, "there is a column 'chips'"),
        (sweep, "scenario: chat.yaml\n", SERVE.replace("tp: 1", "tp: 3"), "no point can run: "),
        (plan, PLAN, TRAIN, "the task is train, and serve is needed here"),
        (sweep, PLAN, SERVE, "this is a plan; ramwise plan"),
        (sweep, SERVE, SERVE, "this is a scenario and no study; run it: ramwise run"),
        (sweep, "scenario: chat.yaml\naxes: {machines.tp: [1]}\n", SERVE, "or [*] for all"),
        (crossover, LENGTHS, SERVE, "a crossover of one contender has no winner"),
        (crossover, LENGTHS + "metric: bound_by\n", TWO, "the metric 'bound_by' is text"),
        (crossover, LENGTHS + "within: tpot_mean_ms\n", TWO, "'tpot_mean_ms' is no condition"),
        (crossover, LENGTHS.replace("9 /s", "1e999 /s"), TWO, "'1e999 /s' is no finite number"),
        (plan, PLAN, SERVE, "a plan needs an slo"),
        (plan, PLAN.replace("[1]", "[]"), SERVE, "tp has 0 items"),
        (plan, PLAN + "nodes: {h100: 5}\n", LIMITED, "study.yaml:5:9: unknown hardware profile 'h100'"),
        (plan, PLAN + "availability: {target: 1}\n", LIMITED, "target: 1 is more than 1; write 'target: 0.999'"),
        (plan, PLAN + "availability: {target: 0.9, repair: 1e9 h}\n", LIMITED, "write a smaller target"),
        (plan, PLAN + "precision: [{weights: fp9}]\n", LIMITED, "unknown weights 'fp9'"),
        (plan, PLAN + "growth: 1e6\n", SERVE + "slo: {ttft: 1 s}\n", "plan for a share of the traffic"),
    ],
)
def test_a_study_that_cannot_be_is_told_in_a_line(
    tmp_path: Path, kind: Any, text: str, scenario: str, line: str
) -> None:
    with pytest.raises(RamwiseError) as failure:
        studied(tmp_path, text, scenario, kind)
    assert line in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1


def test_a_map_has_nodes_where_a_value_is_none(tmp_path: Path) -> None:
    found = studied(tmp_path, MAP.replace("AXIS", "traffic.isl: {log: [64, 4e9]}"), TWO, crossover)
    write_map(found, tmp_path / "study.yaml", tmp_path / "out", plots=True)
    assert sorted(found.winners["winner"] == "") == [False, False, True, True]


def test_scenarios_beside_profiles_are_no_profiles(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(SERVE)
    (tmp_path / "mine.yaml").write_text("extends: h100-sxm-8.yaml\nname: mine\n")
    names = Catalogue([tmp_path]).names()
    assert "mine" in names
    assert "chat" not in names


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            SERVE + "money: {capital: {h100-sxm: 300000 USD}}\n",
            "a.yaml:4:8: unknown hardware profile 'h100-sxm'; did you mean 'h100-sxm-8'?",
        ),
        (
            SERVE.replace("tp: 1", "tp: 1, placement: {attention: {tier: hbm, cache: {tier: ddr, capacity: 1 GB}}}"),
            "a.yaml:2:65: the attention in hbm cannot be cached in ddr of 'h100-sxm-8', which is no nearer; "
            "cache it in a nearer tier, or leave `cache` out",
        ),
        (
            SERVE.replace("tp: 1", "tp: 1, host: xeon-6454s-2s"),
            "a.yaml:2:12: stack 'vllm-2025' runs on hbm-gpu, not on 'xeon-6454s-2s+h100-sxm-8' (dram-node); "
            "name a stack that runs on dram-node: ramwise stacks list",
        ),
        (
            TRAIN.replace(
                "model: llama-3.1-8b",
                "model: {base: llama-3.1-8b, ffn: [{layers: [1], kind: ngram_table, rows: 9, width: 8, tier: cxl}]}",
            ),
            "a.yaml:3:12: unknown tier of 'h100-sxm-8' 'cxl'; known: ddr, hbm, nvme",
        ),
        (
            TRAIN.replace("llama-3.1-8b", "{base: llama-3.1-8b, depth: {kind: early_exit, exits: {8: 0.5}}}"),
            "a.yaml:1:1: depth is not simulated in training; leave it out",
        ),
    ],
)
def test_what_would_change_nothing_is_refused(tmp_path: Path, text: str, line: str) -> None:
    assert said(tmp_path, text) == [line]


NO_TABLE = "this is no table of measurements; its first line names the columns: hardware, model, metric"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", NO_TABLE),
        ("a,b,c\n1,2,3\n", NO_TABLE),
        ("hardware,model,metric,value,unit\n", "there is no measurement in it; write one a line"),
    ],
)
def test_a_table_without_measurements_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(RamwiseError) as failure:
        validate([tmp_path / "a.csv"])
    assert line in str(failure.value)


def test_a_long_name_cuts_no_number_of_a_narrow_table(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        SERVE.replace("llama-3.1-8b", "{base: llama-3.1-8b, name: an 8B of ours that we made}")
    )
    report = run(load(tmp_path / "a.yaml"))
    lines = serving_table(report, 80).splitlines()  # type: ignore[arg-type]
    assert [line.split()[-1] for line in lines if "TTFT" in line or "TPOT" in line] == ["%", "%"]


def test_a_placement_of_what_a_model_lacks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SERVE.replace("tp: 1}", "tp: 1, placement: {expert: ddr, kv: hbm}}"))
    report: Any = run(load(path))
    told = [warning for warning in report.runs[0].summary["warnings"] if "placement" in warning]
    assert told == ["placement of 'expert' changes nothing: llama-3.1-8b has no such tensors"]


def test_a_run_with_too_many_failures_to_draw_is_refused(tmp_path: Path) -> None:
    (line,) = said(tmp_path, TRAIN.replace("tokens: 1e9", "tokens: 1e25\nfailures: {}"))
    assert "interruptions in 32 histories are more than 3,000,000; train fewer tokens" in line


@pytest.mark.parametrize("seed", [-1, "seven", 1.5])
def test_a_seed_that_is_none_is_refused(seed: Any) -> None:
    with pytest.raises(InputError, match=r"is no whole number of zero or more; write seed=7"):
        run("first", seed=seed)


@pytest.mark.parametrize(
    ("value", "what"), [("-0.05", "is not zero or more"), (".nan", "is not a finite number"), ("1.5", "is more than 1")]
)
def test_a_number_in_place_of_a_mapping_is_told_as_a_number(tmp_path: Path, value: str, what: str) -> None:
    (line,) = said(tmp_path, f"{TRAIN}stragglers: {value}\n")
    assert line == f"a.yaml:7:13: stragglers: {value.strip('.')} {what}; write 'stragglers: 0.02'"


def test_no_worker_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SERVE)
    (tmp_path / "s.yaml").write_text("study: sweep\nscenario: a.yaml\naxes: {traffic.osl: [10, 20]}\n")
    with pytest.raises(InputError, match="0 workers compute nothing"):
        sweep(tmp_path / "s.yaml", tmp_path / "out", workers=0)


def test_a_model_whose_activations_do_not_fit_is_told_to_take_fewer_tokens_a_step(tmp_path: Path) -> None:
    text = SERVE.replace("llama-3.1-8b", "llama-3.1-70b").replace("h100-sxm-8, tp: 1", "groq-lpu-576, tp: 8, pp: 72")
    (first, *sheet) = said(tmp_path, text)
    assert "does not fit 'groq-lpu-576' on 576 of 576 chips" in first
    assert "a smaller `limits.max_num_batched_tokens` (activations take most)" in first
    assert any("activations" in line for line in sheet)


def test_a_metric_that_is_none_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text(SERVE)
    study = tmp_path / "s.yaml"
    study.write_text("scenario: serve.yaml\nevaluate: steady\naxes: {traffic.isl: [64, 128]}\nmetrics: [tpot_men_ms]\n")
    with pytest.raises(InputError, match=r"s\.yaml:4:10: unknown metric 'tpot_men_ms'; did you mean 'tpot_mean_ms'"):
        sweep(study, tmp_path / "out")
