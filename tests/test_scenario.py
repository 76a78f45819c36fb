"""Scenarios: what people write wrong is answered with its place and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from simulator.api import load, run
from simulator.errors import InputError, ScenarioError
from simulator.hardware.catalogue import packaged_folder
from simulator.model.number_format import FORMATS, Precision
from simulator.scenario import PrecisionChoice, Scenario, read_scenario
from simulator.serve import prepare

GOOD = """\
model: llama-3.1-8b
machines:
  - hardware: h100-sxm-8
    tp: 1
traffic:
  request_rate: 5 /s
  isl: 100
  osl: 10
  requests: 20
slo: {ttft: 2 s}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.yaml"


def refused(path: Path, *exchanges: tuple[str, str]) -> str:
    """What is said about the good scenario after some text of it is exchanged."""
    text = GOOD
    for old, new in exchanges:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(InputError) as error:
        run(load(path))
    return str(error.value).replace(f"{path.parent}/", "")


def test_the_good_scenario_is_good(path: Path) -> None:
    path.write_text(GOOD)
    assert run(load(path)).runs[0].summary["requests_completed"] == 20


def test_a_replica_may_span_machines(path: Path) -> None:
    summaries = {}
    for layout in ("tp: 8", "tp: 8\n    pp: 2", "tp: 16"):
        path.write_text(GOOD.replace("llama-3.1-8b", "llama-3.1-70b").replace("tp: 1", layout))
        summaries[layout] = run(load(path)).runs[0].summary
    assert [(each["chips"], each["nodes"]) for each in summaries.values()] == [(8, 1), (16, 2), (16, 2)]
    one, stages, wide = (each["tpot_p50_ms"] for each in summaries.values())
    assert max(one, stages) < wide  # a pipeline crosses the network once a token, tensor parallelism 160 times


@pytest.mark.parametrize("name", sorted(p.stem for p in packaged_folder("scenarios").glob("*.yaml")))
def test_packaged_scenarios_can_be_read(name: str) -> None:
    path = packaged_folder("scenarios") / f"{name}.yaml"
    assert load(path).scenario.description


WRONG = {
    "missing unit": ("5 /s", "5", r"6:17: request_rate: .*5.*unit.*; write 'request_rate: 5 /s'"),
    "wrong dimension": ("5 /s", "5 GB", r"6:17: request_rate: .*; write 'request_rate: "),
    "wrong dimension of a limit": ("{ttft: 2 s}", "{ttft: 2 W}", r"10:13: ttft: .*W.*; write 'ttft: "),
    "NaN": ("5 /s", ".nan", r"6:17: request_rate: "),
    "NaN with a unit": ("5 /s", "nan /s", r"6:17: request_rate: "),
    "infinite": ("5 /s", "inf /s", r"6:17: request_rate: "),
    "negative": ("5 /s", "-5 /s", r"6:17: request_rate: .*is not more than zero"),
    "zero": ("5 /s", "0 /s", r"6:17: request_rate: .*is not more than zero"),
    "zero replicas": ("tp: 1", "replicas: 0", r"4:15: replicas should be greater than 0, not 0"),
    "negative tp": ("tp: 1", "tp: -2", r"4:9: tp should be greater than 0, not -2"),
    "half a chip": ("tp: 1", "tp: 1.5", r"4:9: tp should be a whole number"),
    "1e12 as text": ("isl: 100", "isl: '1e12'", r"7:8: isl should be .*, not '1e12'"),
    "a number as text": ("requests: 20", "requests: '20'", r"9:13: requests should be a whole number, not '20'"),
    "yes for a number": ("requests: 20", "requests: yes", r"9:13: requests should be a whole number, not 'yes'"),
    "unknown key": ("requests: 20", "request: 20", r"9:3: unknown key 'request'; did you mean 'requests'\?"),
    "unknown key in a machine": ("tp: 1", "tpp: 1", r"4:5: unknown key 'tpp'; did you mean 'tp'\?"),
    "duplicate key": ("tp: 1", "tp: 1\n    tp: 2", r"5:5: the key 'tp' stands here twice, first at line 4"),
    "no machine": (
        "  - hardware: h100-sxm-8\n    tp: 1\n",
        "  []\n",
        r"\d+:\d+: machines is an empty list; write machines: ",
    ),
    "no model": ("model: llama-3.1-8b\n", "", r"1:1: the key 'model' is missing"),
    "unknown model": (
        "llama-3.1-8b",
        "lama-3.1-8b",
        r"1:8: unknown model 'lama-3.1-8b'; did you mean 'llama-3.1-8b'\?",
    ),
    "unknown hardware": (
        "h100-sxm-8",
        "h100-sxm",
        r"3:15: unknown hardware profile 'h100-sxm'; did you mean 'h100-sxm-8'\?",
    ),
    "unknown stack": ("tp: 1", "stack: vlm-2025", r"4:12: unknown stack 'vlm-2025'; did you mean 'vllm-2025'\?"),
    "unknown SLO": (
        "{ttft: 2 s}",
        "mlperf/llama3-8b-server",
        r"10:6: unknown SLO .*; did you mean 'mlperf/llama3.1-8b-server'\?",
    ),
    "an SLO without a limit": ("{ttft: 2 s}", "{percentile: 90}", r"10:6: an slo needs a limit; write ttft: 2 s"),
    "unknown router": (
        "slo: {",
        "router: round_robbin\nslo: {",
        r"10:9: unknown router 'round_robbin'; did you mean 'round_robin'\?",
    ),
    "unknown format": (
        "slo: {",
        "precision: {weights: bf8}\nslo: {",
        r"10:22: unknown weights 'bf8'; did you mean 'bfp8'\?",
    ),
    "unknown process": (
        "isl: 100",
        "isl: 100\n  process: poison",
        r"8:12: unknown process 'poison'; did you mean 'poisson'\?",
    ),
    "two kinds of arrivals": (
        "isl: 100",
        "isl: 100\n  concurrency: 4",
        r"6:3: .*gives request_rate and concurrency; write one of",
    ),
    "no kind of arrivals": ("  request_rate: 5 /s\n", "", r"6:3: .*gives none of them; write one of"),
    "no lengths": ("  isl: 100\n", "", r"6:3: .*needs the lengths of requests; write isl: 512"),
    "no end": ("  requests: 20\n", "", r"6:3: .*needs an end; write requests: 1000"),
    "a trace's speed without a trace": (
        "isl: 100",
        "isl: 100\n  speed: 2",
        r"8:3: speed means nothing beside request_rate; remove it",
    ),
    "thought outside of a loop": (
        "isl: 100",
        "isl: 100\n  think: 2 s",
        r"8:3: think means nothing beside request_rate; remove it",
    ),
    "gamma without a shape": ("isl: 100", "isl: 100\n  process: gamma", r"6:3: .*; write burstiness: 0.5"),
    "lengths that run backwards": ("isl: 100", "isl: {uniform: [9, 3]}", r"\d+:\d+: .*runs backwards; write \[3, 9\]"),
    "tp that does not divide": ("tp: 1", "tp: 3", r"3:5: tp 3 does not divide .*; nearest tp: 2 or 4"),
    "more chips than there are": (
        "h100-sxm-8\n    tp: 1",
        "l40s\n    tp: 16",
        r"3:5: tp16 takes 16 chips, 'l40s' has 8 and no `scale_out`; write tp: 8",
    ),
    "experts without experts": ("tp: 1", "tp: 2\n    ep: 2", r"3:5: ep 2, but llama-3.1-8b has no experts; use ep 1"),
    "a stack of another family": (
        "tp: 1",
        "stack: jax-2025",
        r"3:5: stack 'jax-2025' runs on tpu-mesh, not on 'h100-sxm-8'",
    ),
    "a batch below its sequences": (
        "slo: {",
        "limits: {max_num_batched_tokens: 8}\nslo: {",
        r"10:10: max_num_batched_tokens \(8\) is below max_num_seqs \(256\)",
    ),
    "more memory than there is": (
        "slo: {",
        "limits: {memory_utilization: 1.1}\nslo: {",
        r"10:30: memory_utilization: 1.1 is more than 1",
    ),
    "a request longer than the context": (
        "isl: 100",
        "isl: 200000",
        r"6:3: .*requests are longer than the 131,072 tokens that llama-3.1-8b takes.*longer: drop",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_answered_with_its_place_and_the_mend(case: str, path: Path) -> None:
    old, new, expected = WRONG[case]
    said = refused(path, (old, new))
    assert re.search(rf"^chat\.yaml:{expected}", said, re.MULTILINE), said
    several = case == "tp that does not divide"  # neither the heads nor the width of the FFN
    assert len(said.splitlines()) == 1 + several, said


def test_several_mistakes_are_told_at_once_in_the_order_of_the_file(path: Path) -> None:
    said = refused(path, ("5 /s", "5"), ("tp: 1", "tp: 0"), ("osl: 10", "osl: none"), ("requests", "requets"))
    places = re.findall(r"^chat\.yaml:(\d+):", said, re.MULTILINE)
    assert places == ["4", "6", "8", "9"]


def test_text_that_is_no_yaml_has_a_place(path: Path) -> None:
    assert refused(path, ("{ttft: 2 s}", "{ttft: 2 s")).startswith("chat.yaml:11:1: ")


def test_an_empty_file_says_so(path: Path) -> None:
    path.write_text("# nothing yet\n")
    with pytest.raises(ScenarioError, match=r"chat\.yaml:1:1: there is nothing in it; write keys and values"):
        load(path)


def test_a_task_that_is_no_word_has_a_place(path: Path) -> None:
    path.write_text("task: [serve]\n" + GOOD)
    with pytest.raises(ScenarioError, match=r"chat.yaml:1:7: task should be 'serve', not a list"):
        load(path)


def test_a_missing_file_names_one_that_is_there(path: Path) -> None:
    path.write_text(GOOD)
    with pytest.raises(ScenarioError, match=r"there is no file '.*/chatt\.yaml'; did you mean '.*/chat\.yaml'\?"):
        load(path.with_name("chatt.yaml"))


def test_a_circle_of_files_prints_it(path: Path) -> None:
    path.write_text("extends: b.yaml\n" + GOOD)
    path.with_name("b.yaml").write_text("extends: chat.yaml\n")
    with pytest.raises(ScenarioError, match=r"b\.yaml:1:10: .*circle: chat\.yaml -> b\.yaml -> chat\.yaml"):
        load(path)


def test_a_bomb_of_aliases_is_refused(path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(rows))
    with pytest.raises(ScenarioError, match=r"chat\.yaml:\d+:\d+: it holds more than 100,000 values"):
        load(path)


HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROWS = [
    "2023-11-16 18:15:46.6805900,374,44",
    "2023-11-16 18:15:50.9951690,396,109",
    "2023-11-16 18:15:51.2225670,879,55",
]
TRACES = {
    "truncated": (HEADER + "\n".join(ROWS)[:-9], r"mine\.csv:4:1: the file is cut short here"),
    "unsorted": (HEADER + "\n".join(reversed(ROWS)), r"mine\.csv:3:1: .*before"),
    "empty": ("", r"mine\.csv:1: the trace is empty"),
    "without a request": (HEADER, r"mine\.csv:1: the trace has a header and no request"),
    "of another kind": ("when,how\n1,2\n", r"mine\.csv:1"),
    "with no tokens": (HEADER + ROWS[0].replace("374", "0"), r"mine\.csv:2:29"),
}


@pytest.mark.parametrize("case", TRACES)
def test_a_bad_trace_is_refused_with_its_line(case: str, path: Path) -> None:
    text, expected = TRACES[case]
    path.with_name("mine.csv").write_text(text)
    path.write_text(re.sub(r"traffic:\n(  .*\n)+", "traffic: {trace: mine.csv}\n", GOOD))
    with pytest.raises(InputError, match=expected):
        run(load(path))


def test_a_request_longer_than_the_context_is_refused_with_its_line(path: Path) -> None:
    path.with_name("mine.csv").write_text(HEADER + "\n".join(ROWS).replace("396", "140000"))
    path.write_text(re.sub(r"traffic:\n(  .*\n)+", "traffic: {trace: mine.csv}\n", GOOD))
    with pytest.raises(InputError, match=r"mine\.csv:3: 1 of 3 requests are longer .*140,000 \+ 109"):
        run(load(path))


@pytest.mark.parametrize(("name", "near"), [("azure-conv", "azure-conv-2023"), ("mine.cvs", "mine")])
def test_an_unknown_trace_names_the_nearest(name: str, near: str, path: Path) -> None:
    path.with_name("mine.csv").write_text(HEADER + "\n".join(ROWS))
    path.write_text(re.sub(r"traffic:\n(  .*\n)+", f"traffic: {{trace: {name}}}\n", GOOD))
    with pytest.raises(InputError, match=rf"chat\.yaml:5:\d+: unknown trace '{name}'; did you mean '{near}"):
        run(load(path))


def test_changes_lie_over_the_file(path: Path) -> None:
    path.write_text(GOOD)
    scenario = load(path, "limits.max_num_seqs=64", "machines[0].tp=2", "traffic.request_rate=1 /min").scenario
    assert (scenario.limits.max_num_seqs, scenario.machines[0].tp) == (64, 2)
    assert scenario.traffic.request_rate == pytest.approx(1 / 60)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("limits.max_num_seqs", r"not a change; write KEY=VALUE"),
        ("limits.max_num_seq=64", r"--set limits\.max_num_seq=64.*unknown key 'max_num_seq'; did you mean"),
        ("machines[3].tp=4", r"--set machines\[3\]\.tp=4: there is no item \[3\] in a list of 1"),
        ("traffic.request_rate=5", r"--set traffic\.request_rate=5.*write 'request_rate: 5 /s'"),
        ("model.name=x", r"--set model\.name=x: there is no 'name' in a value"),
    ],
)
def test_a_wrong_change_is_told_as_it_was_written(change: str, expected: str, path: Path) -> None:
    path.write_text(GOOD)
    with pytest.raises(ScenarioError, match=expected):
        load(path, change)


def test_precision_of_a_scenario_lies_over_the_checkpoint() -> None:
    over = PrecisionChoice(kv="fp8").over(Precision(weights="fp8", experts="mxfp4"))
    assert (over.weights, over.experts, over.kv) == ("fp8", "mxfp4", "fp8")


def test_every_number_format_can_be_chosen_and_no_other() -> None:
    schema = Scenario.model_json_schema()["$defs"]["PrecisionChoice"]["properties"]["weights"]
    (choice,) = (part["enum"] for part in schema["anyOf"] if "enum" in part)
    assert set(choice) == set(FORMATS)


def what_if(tmp_path: Path, machine: str) -> list[Any]:
    path = tmp_path / "what-if.yaml"
    path.write_text(
        f"model: llama-3.1-8b\nmachines: [{{hardware: h100-sxm-8, tp: 1}}, {machine}]\n"
        "traffic: {offline: true, isl: 100, osl: 10, requests: 3}\n"
    )
    return prepare(*read_scenario(path))


def test_a_machine_may_be_changed_where_it_is_named(tmp_path: Path) -> None:
    plain, changed = what_if(
        tmp_path,
        "{hardware: h100-sxm-8, tp: 1, name: fat, change: {chip.memory.hbm.capacity: 320 GB, price.rental: 9 USD/h},"
        " stack_change: {layer_overhead: 1 us}}",
    )
    assert float(plain.machine.memory.capacity) == 80 * 2**30
    assert float(changed.machine.memory.capacity) == 320e9
    assert float(changed.machine.stack.layer_overhead) == 1e-6
    assert changed.hourly.parts["rental"] == 72.0
    assert changed.machine.memory.bandwidth == plain.machine.memory.bandwidth
    assert changed.machine.memory.capacity.label == "estimated"
    assert changed.machine.memory.bandwidth.source == plain.machine.memory.bandwidth.source


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("change: {chip.memory.hmb.capacity: 1 TB}", "did you mean 'hbm'"),
        ("change: {chip.memory.hbm.capacity: 1}", "1 has no unit"),
        ("change: {chip.memory.hbm.capacity: -1 GB}", "not more than zero"),
        ("change: {chip.clock: 1 GHz}", "chip"),
        ("stack_change: {layer_overhed: 1 us}", "did you mean 'layer_overhead'"),
    ],
)
def test_a_change_that_leads_nowhere_is_said(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(ScenarioError) as failure:
        what_if(tmp_path, f"{{hardware: h100-sxm-8, tp: 1, {change}}}")
    assert said in str(failure.value)
    assert "what-if.yaml:2:" in str(failure.value)
