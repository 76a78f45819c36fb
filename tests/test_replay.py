"""Replays: recorded runs through the event engine, what a slower step does in a queue, and a fit on half of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simulator.cli import app
from simulator.errors import InputError
from simulator.validation.replay import METRICS, Latencies, Replay, read_replay, shipped_replays, simulate
from simulator.validation.replay_fit import fit_half, numbers_of
from simulator.validation.replay_report import write_replays
from simulator.validation.replay_study import study
from simulator.validation.rows import MeasurementError
from simulator.validation.stack_numbers import exchanged, number

HEADER = "arrival_s,input_tokens,output_tokens,queued_ms,ttft_ms,e2el_ms"
NAME = "h100-sxm-8_llama-3.1-8b_tp1.csv"
REQUESTS = [(0.05 * i, 200 + 37 * i % 900, 50 + 13 * i % 200) for i in range(60)]


def recorded(folder: Path, latencies: Latencies | None = None, name: str = NAME) -> Path:
    """A file of REQUESTS with these latencies; without any, all took 1, 2 and 3 s."""
    lines = [HEADER]
    for i, request in enumerate(REQUESTS):
        times = (1.0, 2.0, 3.0) if latencies is None else [latencies[m][i] for m in ("queue", "ttft", "e2el")]
        lines.append(",".join(map(repr, (*request, *(1e3 * float(seconds) for seconds in times)))))
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    return read_replay(recorded(tmp_path))


def test_what_the_engine_did_is_replayed_without_an_error(tmp_path: Path, replay: Replay) -> None:
    again = read_replay(recorded(tmp_path, simulate(replay)))
    (outcome,) = study([again])
    errors = [error for row in outcome.errors.values() for error in row.values()]
    assert np.nanmax(np.abs(errors)) < 1e-9
    assert {path: number(again.stack, path) for path in outcome.numbers} == pytest.approx(outcome.numbers, rel=1e-6)


def test_numbers_of_another_stack_come_back_from_half_of_its_requests(tmp_path: Path, replay: Replay) -> None:
    truth = exchanged(replay.stack, {"streaming.bf16": 0.7, "sequence_overhead": 60e-6})
    other = read_replay(recorded(tmp_path, simulate(replay, truth)))
    (outcome,) = study([other])
    before, after = (abs(table["e2el"]["mean"]) for table in (outcome.errors, outcome.tested_half))
    assert after < 0.01 < before
    assert outcome.numbers["streaming.bf16"] == pytest.approx(0.7, rel=0.1)


def test_a_request_alone_takes_longer_as_its_steps_do_and_a_queue_more_than_that(tmp_path: Path) -> None:
    alone = tmp_path / NAME
    alone.write_text(f"{HEADER}\n0,500,100,0,50,900\n")
    (outcome,) = study([read_replay(alone)])
    assert {m: outcome.amplification[m] for m in ("ttft", "tpot", "e2el")} == pytest.approx(
        {"ttft": 1.0, "tpot": 1.0, "e2el": 1.0}
    )
    seats = ("limits.max_num_seqs=4",)
    (crowded,) = study([read_replay(recorded(tmp_path), seats)])
    assert crowded.amplification["queue"] > 1.2


def test_replays_of_one_stack_and_chip_share_their_numbers(tmp_path: Path) -> None:
    replays = [
        read_replay(recorded(tmp_path, name=f"h100-sxm-8_{m}.csv")) for m in ("llama-3.1-8b_tp1", "qwen3-8b_tp2")
    ]
    assert "collectives.bandwidth" in numbers_of(replays)
    assert "collectives.bandwidth" not in numbers_of(replays[:1])
    first, second = study(replays)
    assert first.numbers == second.numbers == fit_half(replays)


def test_conditions_come_from_the_name_and_from_set(tmp_path: Path) -> None:
    path = recorded(tmp_path, name="h100-sxm-8_llama-3.1-70b_tp4.csv")
    found = read_replay(path, ("limits.max_num_seqs=16", "precision.weights=fp8"), stack="vllm-2024")
    assert str(found.case.machine.parallelism) == "tp4"
    assert found.case.precision.weights == "fp8"
    assert (found.scenario.limits.max_num_seqs, found.stack.name) == (16, "vllm-2024")
    anonymous = recorded(tmp_path, name="monday.csv")
    with pytest.raises(MeasurementError, match=r"does not say what ran.*HARDWARE_MODEL_tpN.csv, or add --set model="):
        read_replay(anonymous)
    named = read_replay(anonymous, ("model=llama-3.1-8b", "machines[0].hardware=h100-sxm-8", "machines[0].tp=1"))
    assert named.case.architecture.name == "llama-3.1-8b"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("0,10,10,5,4,9", ":2: these cannot be times of one request: queued_ms 5"),
        ("0,10,10,1,nan,9", ":2: these cannot be times"),
        ("0,10,10,1,x,9", ":2: these cannot be times"),
        ("0,10,0,1,2,9", ":2:6: 0 output tokens"),
        ("0,10", "cut short"),
    ],
)
def test_impossible_lines_are_refused_with_their_place(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / NAME
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(InputError, match=told):
        read_replay(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    path.write_text(path.read_text().replace("e2el_ms", "e2e_ms"))
    with pytest.raises(MeasurementError, match=":1: no column 'e2el_ms'; is 'e2e_ms' meant"):
        read_replay(path)
    with pytest.raises(MeasurementError, match=r"no such file|No such file"):
        read_replay(tmp_path / "h100-sxm-8_llama-3.1-8b_tp2.csv")


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    path = shutil.copy(shipped_replays()[0], tmp_path)
    run = CliRunner().invoke(app, ["validate", "--replay", str(path), "--json", "--out", str(tmp_path / "out")])
    assert run.exit_code == 0
    (found,) = json.loads(run.stdout)["replays"]
    assert set(found["metrics"]) == set(METRICS)
    assert found["metrics"]["e2el"]["mean"]["measured_ms"] == pytest.approx(28200.7, abs=0.1)
    assert json.loads((tmp_path / "out" / "replay.json").read_text()) == {"replays": [found]}
    written = {each.name for each in (tmp_path / "out").iterdir()}
    assert written == {"replay.json", "replay.txt", "replay.svg", "replay.png"}
    refused = CliRunner().invoke(app, ["validate", "--replay", "--metric", "ttft"])
    assert "--metric means nothing beside --replay" in str(refused.exception)


def test_recorded_runs_come_out_as_the_readme_says() -> None:
    for outcome in study([read_replay(path) for path in shipped_replays()]):
        means = {metric: abs(row["mean"]) for metric, row in outcome.errors.items()}
        assert means["tpot"] < 0.08
        assert means["e2el"] < 0.08
        assert means["ttft"] < 0.20
        assert max(abs(outcome.tested_half[metric]["mean"]) for metric in ("ttft", "tpot", "e2el")) < 0.05
        assert outcome.amplification["tpot"] == pytest.approx(1.0, abs=0.05)
        assert 1.2 < outcome.amplification["queue"] < 4.0


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, replay: Replay) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(Exception, match="choose another folder with --out DIR"):
        write_replays(study([replay]), tmp_path / "taken")
