"""The command: what it prints, what it leaves behind, and that no mistake ends in a traceback."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from simulator import cli
from simulator.cli.progress import progress
from simulator.progress import untold

CHECKOUT = Path(__file__).parent.parent
SCENARIO = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}]
traffic: {request_rate: 50 /s, isl: 100, osl: 10, requests: 120}
seed: 4
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "COLUMNS": "120"}


@dataclass(frozen=True)
class Done:
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one scenario in it."""
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


@pytest.fixture
def ramwise(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in this process; it must end with that status, and by nothing but SystemExit."""

    def command(*words: str, status: int = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["ramwise", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        done = Done(*capsys.readouterr())
        assert (ended.value.code or 0) == status, done
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return command


def test_a_run_prints_one_table_and_leaves_a_folder(folder: Path, ramwise: Any) -> None:
    done = ramwise("run", "chat.yaml")
    assert "h100-sxm-8" in done.stdout
    assert done.stderr == ""
    place = folder / "ramwise-results" / "chat"
    assert f"results: {place}" in done.stdout
    names = {path.name for path in place.iterdir()}
    assert names == {"summary.json", "summary.txt", "requests.parquet", "timeline.json.gz", "plots", "report.html"}
    assert {path.suffix for path in (place / "plots").iterdir()} == {".png", ".svg"}


def test_json_is_the_summary_and_nothing_else(folder: Path, ramwise: Any) -> None:
    done = ramwise("run", "chat.yaml", "--json", "--no-plots", "--out", "out", "--seed", "9")
    assert done.stdout == (folder / "out" / "summary.json").read_text()
    document = json.loads(done.stdout)
    assert (document["scenario"], document["seed"], document["complete"]) == ("chat", 9, True)
    (run,) = document["runs"]
    wanted = {"machine", "family", "model", "stack", "label", "saturated", "requests_completed", "ttft_p50_ms"}
    assert wanted | {"energy_per_output_token_j", "bound_by"} <= run.keys()
    assert not (folder / "out" / "plots").exists()


def test_changes_on_the_command_line_count(folder: Path, ramwise: Any) -> None:
    words = ("--set", "traffic.requests=7", "--set", "machines[0].name=mine")
    done = ramwise("run", "chat.yaml", "--json", "--no-plots", *words)
    (run,) = json.loads(done.stdout)["runs"]
    assert (run["requests"], run["machine"]) == (7, "mine")


def test_a_second_run_replaces_the_first_as_a_whole_and_keeps_other_files(folder: Path, ramwise: Any) -> None:
    ramwise("run", "chat.yaml", "--no-plots", "--out", "out")
    (folder / "out" / "notes.txt").write_text("mine")
    ramwise("run", "chat.yaml", "--no-plots", "--out", "out", "--set", "traffic.requests=3")
    assert json.loads((folder / "out" / "summary.json").read_text())["runs"][0]["requests"] == 3
    assert (folder / "out" / "notes.txt").read_text() == "mine"


def test_compare_puts_machines_side_by_side(folder: Path, ramwise: Any) -> None:
    machines = "machines=[{hardware: h100-sxm-8, tp: 1}, {hardware: h200-sxm-8, tp: 1}]"
    done = ramwise("compare", "chat.yaml", "--no-plots", "--set", machines)
    assert any("h100-sxm-8" in line and "h200-sxm-8" in line for line in done.stdout.splitlines())


def test_init_writes_a_scenario_that_runs(folder: Path, ramwise: Any) -> None:
    ramwise("init", "mine.yaml")
    ramwise("run", "mine.yaml", "--no-plots", "--set", "traffic.requests=5")
    assert "exists; give another name" in ramwise("init", "mine.yaml", status=1).stderr


@pytest.mark.parametrize("what", ["scenario", "hardware", "stack"])
def test_schema_is_json_schema(ramwise: Any, what: str) -> None:
    assert json.loads(ramwise("schema", what).stdout)["type"] == "object"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("hardware", "list"), "h100-sxm-8"),
        (("hardware", "show", "h100-sxm-8"), "NVIDIA H100 SXM5 datasheet"),
        (("hardware", "check", str(CHECKOUT / "hardware_profiles" / "l40s.yaml")), "'l40s' is sound"),
        (("models", "list"), "gpt-oss-120b"),
        (("models", "show", "llama-3.1-8b"), "131"),
        (("stacks", "list"), "vllm-2025"),
        (("stacks", "show", "vllm-2025"), "layer_overhead"),
        (("--help",), "compare"),
    ],
)
def test_catalogues_can_be_listed_and_shown(ramwise: Any, words: tuple[str, ...], shown: str) -> None:
    assert shown in ramwise(*words).stdout


MISTAKES = {
    "a scenario that is not there": (("run", "chatt.yaml"), "no such file: chatt.yaml"),
    "a name that nobody knows": (
        ("run", "four-machine"),
        "unknown scenario 'four-machine'; did you mean 'four-machines'?",
    ),
    "a folder of profiles that is not there": (
        ("run", "chat.yaml", "--profiles", "nowhere"),
        "no such folder of profiles: nowhere",
    ),
    "an unknown profile": (("hardware", "show", "h100"), "unknown hardware profile 'h100'; did you mean 'h100-sxm-8'?"),
    "an unknown model": (("models", "show", "lama-2-70b"), "unknown model 'lama-2-70b'; did you mean 'llama-2-70b'?"),
    "an unknown stack": (("stacks", "show", "vlm-2025"), "unknown stack 'vlm-2025'; did you mean 'vllm-2025'?"),
    "an unknown schema": (("schema", "hardwere"), "unknown schema 'hardwere'; did you mean 'hardware'?"),
    "a change that is none": (("run", "chat.yaml", "--set", "seed"), "write KEY=VALUE"),
    "a wrong value": (
        ("run", "chat.yaml", "--set", "seed=-1"),
        "--set seed=-1:1:1: seed should be greater than or equal to 0",
    ),
    "a file for a folder": (("run", "chat.yaml", "--out", "chat.yaml"), "'chat.yaml' is a file, not a folder"),
    "a folder of somebody else": (("run", "chat.yaml", "--out", "full"), "is not empty and holds no ramwise results"),
    "a folder that cannot be made": (
        ("run", "chat.yaml", "--out", "/proc/ramwise/out"),
        "cannot write results to '/proc/ramwise/out'",
    ),
    "a model that does not fit": (("run", "chat.yaml", "--set", "model=llama-3.1-70b"), "left for KV cache"),
    "a profile that is no YAML": (("hardware", "check", "full/x.yaml"), "full/x.yaml:2:1: "),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_message_on_stderr_and_status_1(case: str, folder: Path, ramwise: Any) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "x.yaml").write_text("{")
    words, expected = MISTAKES[case]
    done = ramwise(*words, status=1)
    assert expected in done.stderr
    assert done.stderr.startswith("ramwise: ")
    assert done.stdout == ""
    assert not (folder / "ramwise-results").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused_before_the_run(folder: Path, ramwise: Any) -> None:
    (folder / "locked").mkdir(mode=0o500)
    done = ramwise("run", "chat.yaml", "--out", "locked/out", status=1)
    assert "is not writable; choose another one with --out DIR" in done.stderr


WRAPPER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore Ctrl-C
import simulator.serve.runs as runs, simulator.report.charts as charts
import simulator.samples.runs as samples, simulator.train.runs as training
def told(name, function):
    def tell(*given, **named):
        print(name, file=sys.stderr, flush=True)
        return function(*given, **named)
    return tell
runs.execute = told("a run begins", runs.execute)
samples.execute = told("a run begins", samples.execute)
training.simulate = told("a run begins", training.simulate)
charts.save_all = told("plots begin", charts.save_all)
from simulator.cli import main
main()
"""


def interrupted(folder: Path, *words: str, after: str, times: int = 1) -> tuple[int, str]:
    """Start the command, send SIGINT when it has said `after` that many times; its status and all that it said."""
    command = [sys.executable, "-c", WRAPPER, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if said.count(after) == times:
                process.send_signal(signal.SIGINT)
                break
        more, rest = process.communicate(timeout=60)
        return process.returncode, said + rest + more


ENDLESS = "traffic={request_rate: 50 /s, isl: 100, osl: 1000, requests: 100000}"


def test_ctrl_c_keeps_what_was_finished(folder: Path) -> None:
    scenario = yaml.safe_load(SCENARIO)
    chips = {"hardware": "h100-sxm-8", "tp": 1}
    scenario["machines"] = [{**chips, "name": "first"}, {**chips, "name": "second"}]
    scenario["traffic"]["requests"] = 5_000
    (folder / "chat.yaml").write_text(yaml.safe_dump(scenario))
    status, said = interrupted(folder, "run", "chat.yaml", "--out", "out", after="a run begins", times=2)
    assert "Traceback" not in said, said
    assert status == 130, said
    assert "stopped; what was finished is in" in said
    document = json.loads((folder / "out" / "summary.json").read_text())
    assert document["complete"] is False
    assert [(run["machine"], run["requests_completed"]) for run in document["runs"]] == [("first", 5_000)]


OTHER_TASKS = {
    "train": """\
task: train
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, chips: [32, 64], stack: megatron-2024, parallelism: {tp: 2, pp: 4}}]
batch: {global_batch: 64, micro_batch: 1, sequence_length: 4096}
recompute: none
steps: 100000
failures: {components: {any: {mtbf: 400 h}}}
samples: 4000
""",
    "classes": """\
task: classes
model: {kind: dlrm}
machines: [{hardware: h100-sxm-8, tp: 8, name: one}, {hardware: h100-sxm-8, tp: 8, name: two}]
traffic: {queries: 50000, samples: 512}
""",
}


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_ctrl_c_keeps_what_was_finished_of_other_tasks(task: str, folder: Path) -> None:
    (folder / "mine.yaml").write_text(OTHER_TASKS[task])
    status, said = interrupted(folder, "run", "mine.yaml", "--out", "out", after="a run begins", times=2)
    assert "Traceback" not in said, said
    assert status == 130, said
    assert [line for line in said.splitlines() if line.startswith("ramwise: stopped; what was finished is in")]
    document = json.loads((folder / "out" / "summary.json").read_text())
    assert (document["complete"], len(document["runs"])) == (False, 1)


def test_progress_shows_a_rate_and_the_time_left() -> None:
    """A terminal that is a string: a line a kind of work, gone when all of it is done."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with progress(console=console) as tell:
        for done in range(1, 5):
            time.sleep(0.01)
            tell("layouts", done, 8)
        tell("points", 2, 2)
        time.sleep(0.25)  # rich draws ten times a second
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert re.search(r"layouts .* 4/8 .*\d/s .*0:00:0", shown)
    with progress() as tell:  # standard error of a test is no terminal
        assert tell is untold


def test_ctrl_c_before_anything_is_finished_leaves_nothing(folder: Path) -> None:
    status, said = interrupted(folder, "run", "chat.yaml", "--out", "out", "--set", ENDLESS, after="a run begins")
    assert "Traceback" not in said, said
    assert status == 130, said
    assert "stopped before the first run was finished" in said
    assert not (folder / "out").exists()


def test_ctrl_c_leaves_an_earlier_result_alone(folder: Path, ramwise: Any) -> None:
    ramwise("run", "chat.yaml", "--no-plots", "--out", "out")
    before = (folder / "out" / "summary.json").read_bytes()
    status, _ = interrupted(folder, "run", "chat.yaml", "--out", "out", "--set", ENDLESS, after="a run begins")
    assert status == 130
    assert (folder / "out" / "summary.json").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"chat.yaml", "out"}


def test_ctrl_c_while_plots_are_drawn_keeps_the_figures(folder: Path) -> None:
    status, said = interrupted(folder, "run", "chat.yaml", "--out", "out", after="plots begin")
    assert "Traceback" not in said, said
    assert status == 130, said
    document = json.loads((folder / "out" / "summary.json").read_text())
    assert document["runs"][0]["requests_completed"] == 120
    assert {path.name for path in folder.iterdir()} == {"chat.yaml", "out"}


def test_the_module_runs_as_the_command(folder: Path) -> None:
    command = [sys.executable, "-m", "simulator", "run", "nothing.yaml"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ramwise: no such file: nothing.yaml; ")
    assert len(done.stderr.splitlines()) == 1
