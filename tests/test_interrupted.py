"""Ctrl-C in the long commands: what was finished stays on disk, one line says so, status 130, no traceback.

A terminal sends it to every process of the command, so it is sent to the whole group here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.study.store import STORE
from simulator.validation.rows import FOLDER

CHECKOUT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "COLUMNS": "120"}
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore Ctrl-C
from simulator.cli import main
import simulator.validation.training.kind as training
def told(function):
    def tell(*given):
        print("row", file=sys.stderr, flush=True)
        return function(*given)
    return tell
training.simulate = told(training.simulate)
if __name__ == "__main__":
    main()
"""
SCENARIO = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}]
traffic: {request_rate: 20 /s, isl: 400, osl: 100, requests: 4000}
slo: {ttft: 400 ms, tpot: 25 ms, percentile: 95}
money: {basis: rental}
"""
STUDIES = {
    "sweep": "study: sweep\nscenario: chat.yaml\naxes: {traffic.request_rate: {range: [1 /s, 60 /s], step: 1}}\n"
    "metrics: [ttft_p50_ms]\n",
    "plan": "study: plan\nscenario: chat.yaml\nmachines: [h100-sxm-8, l40s, a100-sxm-80g-8]\ntp: [1, 2]\nverify: 4\n",
}


def interrupted(folder: Path, *words: str, when: Callable[[], bool]) -> tuple[int, list[str]]:
    """Start the command, send SIGINT to all of its processes when it is time; its status and the lines on stderr."""
    program = folder / "ramwise.py"
    program.write_text(PROGRAM)
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, str(program), *words],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not when() and process.poll() is None:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        status = process.wait(timeout=60)
    with pytest.raises(ProcessLookupError):
        for _ in range(500):  # its workers need an instant to go
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    return status, [line for line in (folder / "said").read_text().splitlines() if line != "row"]


@pytest.mark.parametrize("command", STUDIES)
def test_a_stopped_study_keeps_its_points(command: str, tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "study.yaml").write_text(STUDIES[command])
    store = tmp_path / "out" / STORE

    def begun() -> bool:
        return store.is_file() and store.read_bytes().count(b"\n") >= 2

    status, said = interrupted(tmp_path, command, "study.yaml", "--out", "out", "--workers", "2", when=begun)
    assert said == ["ramwise: stopped; what was finished is in out, the same command goes on"]
    assert status == 130
    keys = [json.loads(line)["key"] for line in store.read_text().splitlines()]
    assert len(set(keys)) == len(keys) >= 2


def test_a_study_stopped_at_once_says_that_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(SCENARIO.replace("requests: 4000", "requests: 900000"))
    (tmp_path / "study.yaml").write_text(STUDIES["sweep"])
    store = tmp_path / "out" / STORE
    status, said = interrupted(tmp_path, "sweep", "study.yaml", "--out", "out", "--workers", "1", when=store.is_file)
    assert (status, said) == (130, ["ramwise: stopped before the first point was finished"])


def test_a_stopped_validation_keeps_its_rows(tmp_path: Path) -> None:
    rows = FOLDER / "training.csv.gz"

    def begun() -> bool:
        return (tmp_path / "said").read_text().count("row") >= 20

    words = ("validate", str(rows), "--out", "out")
    status, said = interrupted(tmp_path, *words, when=begun)
    assert status == 130
    assert len(said) == 1
    assert said[0].startswith("ramwise: stopped; what was finished is in out (rows: ")
    document = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert document["complete"] is False
    assert 19 <= document["overall"]["simulated"] < 551
    status, said = interrupted(tmp_path, "validate", str(rows), when=begun)
    assert status == 130
    assert said[0].startswith("ramwise: stopped; nothing is kept without --out DIR")
