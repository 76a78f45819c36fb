"""Sweeps: what varies, each point computed once, nothing lost, the same rows wherever they are computed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from simulator.errors import InputError, OutputError, RamwiseError
from simulator.executor import computed
from simulator.study import sweep as module
from simulator.study.axes import Span, points, values
from simulator.study.folder import check, write
from simulator.study.store import STORE, Store
from simulator.study.sweep import Sweep, sweep

CHECKOUT = Path(__file__).parent.parent
SCENARIO = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}, {hardware: xeon-6980p-2s, tp: 2}]
traffic: {request_rate: 2 /s, isl: 300, osl: 20, requests: 30}
seed: 4
"""
STUDY = """\
study: sweep
scenario: chat.yaml
axes:
  traffic.request_rate: [1 /s, 4 /s]
  machines[*].replicas: [1, 2]
replications: 2
derived: {tokens_per_joule: output_throughput / average_power_w}
metrics: [output_throughput, ttft_p50_ms, tokens_per_joule]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A file of a study of 2 x 2 points on two machines with two seeds: 16 runs."""
    (tmp_path / "chat.yaml").write_text(SCENARIO)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path / "study.yaml"


def changed(study: Path, old: str, new: str) -> Path:
    study.write_text(study.read_text().replace(old, new))
    return study


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"range": (1, 4), "step": 1}, [1, 2, 3, 4]),
        ({"range": (0.5, 2), "points": 4}, [0.5, 1.0, 1.5, 2.0]),
        ({"log": (1, 64), "points": 4}, [1, 4, 16, 64]),
        ({"log": ("1 /s", "100 /s"), "points": 3}, ["1 /s", "10 /s", "100 /s"]),
        ({"range": ("100 ms", "300 ms"), "step": 100}, ["100 ms", "200 ms", "300 ms"]),
        ({"log": (1, 3), "points": 9}, [1, 2, 3]),
    ],
)
def test_a_span_holds_both_ends(given: dict[str, Any], expected: list[Any]) -> None:
    assert values(Span(**given)) == expected


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"range": (1, 2)},
        {"log": (0, 2), "points": 3},
        {"range": (2, 1), "step": 1},
        {"log": ("1 s", "2 ms"), "points": 2},
        {"range": (1, 2), "log": (1, 2), "points": 2},
        {"range": (0, 1), "step": 1e-9},
    ],
)
def test_a_span_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"span|range|ends|values|begins"):
        Span(**given)


def test_axes_cross_and_columns_go_together() -> None:
    found = list(points({"a": (1, 2)}, ({"b": (3, 4), "c": (5, 6)},)))
    assert found == [{"a": a, "b": b, "c": c} for a in (1, 2) for b, c in ((3, 5), (4, 6))]


def test_a_study_runs_every_point_on_every_machine_with_the_same_seeds(study: Path, tmp_path: Path) -> None:
    found = sweep(study, tmp_path / "out")
    table = found.table
    assert len(table) == found.computed == 16
    assert list(table["traffic.request_rate"].unique()) == [1.0, 4.0]
    assert table["error"].isna().all()
    assert (table["tokens_per_joule"] == table["output_throughput"] / table["average_power_w"]).all()
    # Twice as many replicas under light load: the very same requests, so the same tokens.
    assert table.groupby("replication")["requests_completed"].nunique().eq(1).all()
    means = found.means()
    assert len(means) == 8
    assert means["ttft_p50_ms_ci95"].ge(0).all()
    assert means["ttft_p50_ms_ci95"].max() > 0


def test_the_same_study_again_computes_nothing_and_a_wider_one_only_what_is_new(study: Path, tmp_path: Path) -> None:
    first = sweep(study, tmp_path / "out")
    again = sweep(study, tmp_path / "out")
    assert (again.computed, again.reused) == (0, 16)
    assert_frame_equal(first.table, again.table)
    wider = sweep(changed(study, "[1 /s, 4 /s]", "[1 /s, 4 /s, 8 /s]"), tmp_path / "out")
    assert wider.computed == 8


def test_two_identical_points_are_computed_once(study: Path, tmp_path: Path) -> None:
    found = sweep(changed(study, "[1 /s, 4 /s]", "[4 /s, 4 req/s, 240 /min]"), tmp_path / "out")
    assert len(found.table) == 3 * found.computed


def test_a_changed_profile_makes_its_results_new(study: Path, tmp_path: Path) -> None:
    sweep(study, tmp_path / "out")
    text = "extends: h100-sxm-8.yaml\nname: h100-sxm-8\nnode: {power: {pue: 1.3}}\n"
    (tmp_path / "h100-sxm-8.yaml").write_text(
        text.replace("h100-sxm-8.yaml", str(CHECKOUT / "hardware_profiles/h100-sxm-8.yaml"))
    )
    assert sweep(study, tmp_path / "out").computed == 8


def test_changed_code_makes_all_results_new(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(study, tmp_path / "out")
    monkeypatch.setattr("simulator.study.content.code", lambda: "another formula")
    assert sweep(study, tmp_path / "out").computed == 16


def test_a_point_that_cannot_run_is_a_row_with_its_error(study: Path, tmp_path: Path) -> None:
    found = sweep(changed(study, "machines[*].replicas: [1, 2]", "machines[0].tp: [1, 3]"), tmp_path / "out")
    assert set(found.failed["machines[0].tp"]) == {3}
    assert "tp 3 does not divide" in found.failed["error"].iloc[0]
    # The short table keeps the place of what did not run, and says why.
    means = found.means()
    failed = means["error"].notna()
    assert set(means.loc[failed, "machines[0].tp"]) == {3}
    assert means.loc[failed, "output_throughput"].isna().all()
    assert means.loc[~failed, "output_throughput"].notna().all()
    assert set(found.frame()["error"].dropna()) == set(found.failed["error"])
    text = study.read_text()
    study.write_text(f"{text}keep: tpot_mean_ms < 0\n")
    assert len(sweep(study, tmp_path / "out").table) == len(found.failed)  # no condition hides them
    study.write_text(text)
    assert found.table["error"].isna().sum() == 12
    assert sweep(study, tmp_path / "out").computed == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("traffic.request_rate", "traffic.reqest_rate", "unknown key 'reqest_rate'"),
        ("ttft_p50_ms", "ttft_p50", "ttft_p50_ms"),
        ("output_throughput /", "output_thrughput /", "derived.tokens_per_joule"),
        ("chat.yaml", "chap.yaml", "no such file: chap.yaml"),
        ("[1 /s, 4 /s]", "{log: [1 /s, 4 /s]}", "a log range needs points"),
        ("machines[*].replicas: [1, 2]", "traffic.request_rate: [3 /s]", "twice"),
        ("replications: 2", "replications: 0", "replications"),
    ],
)
def test_a_study_that_is_wrong_says_so(study: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(RamwiseError) as failure:
        sweep(changed(study, old, new), tmp_path / "out")
    assert said in str(failure.value)


def test_two_processes_give_the_rows_of_one(study: Path, tmp_path: Path) -> None:
    one, two = sweep(study, tmp_path / "one"), sweep(study, tmp_path / "two", workers=2)
    assert_frame_equal(one.table, two.table)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_gives_the_rows_of_one_process(study: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        far = sweep(study, tmp_path / "far", cluster=cluster.scheduler_address)
    assert_frame_equal(sweep(study, tmp_path / "near").table, far.table)


def test_a_cluster_that_is_not_there_is_said(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Dask scheduler answers at nonsense"):
        sweep(study, tmp_path / "out", cluster="nonsense")


def _dies_at_three(task: int) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 5:
        raise ValueError("five")
    return task * task


def test_a_process_that_dies_takes_one_task_with_it() -> None:
    answers = dict(computed(_dies_at_three, range(8), workers=2))
    assert "died" in str(answers.pop(3))
    assert str(answers.pop(5)) == "five"
    assert answers == {task: task * task for task in (0, 1, 2, 4, 6, 7)}


def test_killed_in_the_middle_it_goes_on_where_it_was(study: Path, tmp_path: Path) -> None:
    changed(study, "[1 /s, 4 /s]", "{range: [1 /s, 12 /s], step: 1}")
    changed(tmp_path / "chat.yaml", "requests: 30", "requests: 3000")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "simulator", "sweep", str(study), "--out", str(out), "--workers", "1"]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, start_new_session=True)
    store, deadline = out / STORE, time.monotonic() + 60
    while time.monotonic() < deadline and (not store.is_file() or store.read_bytes().count(b"\n") < 3):
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    kept = [json.loads(line)["key"] for line in store.read_text().splitlines() if line.endswith("}")]
    assert 3 <= len(kept) < 96
    changed(study, "step: 1}", "step: 11}")  # the ends alone: what was finished of them is not computed again
    found = sweep(study, out)
    lines = [json.loads(line)["key"] for line in store.read_text().splitlines() if line.endswith("}")]
    assert len(lines) == len(set(lines))
    assert found.computed == len(lines) - len(kept)
    assert found.reused > 0


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / STORE
    Store(path).add("a", {"summary": {"x": 1.5}})
    with path.open("ab") as file:
        file.write(b'{"key": "b", "summ')
    again = Store(path)
    assert "a" in again
    assert "b" not in again
    again.add("c", {"error": "no"})
    assert Store(path)["c"] == {"error": "no"}
    assert Store(path)["a"] == {"summary": {"x": 1.5}}


def test_the_folder_holds_tables_and_a_picture(study: Path, tmp_path: Path) -> None:
    found: Sweep = sweep(study, tmp_path / "out")
    write(found, study, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {
        STORE,
        "study.json",
        "report.html",
        "study.yaml",
        "table.csv",
        "table.parquet",
        "metrics.png",
        "metrics.svg",
        "front.png",
        "front.svg",
        "capacity.png",
        "capacity.svg",
    }
    import pandas

    assert_frame_equal(pandas.read_parquet(tmp_path / "out" / "table.parquet"), found.table)
    assert "<table" in found._repr_html_()


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds no study"):
        check(tmp_path)


def test_progress_counts_what_is_computed(study: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    module.sweep(study, tmp_path / "out", progress=lambda done, of: seen.append((done, of)))
    assert seen == [(count, 16) for count in range(1, 17)]


def test_fronts_and_capacity_are_drawn_of_what_holds_its_load(tmp_path: Path) -> None:
    """The front of each panel is a line of points that no other beats on both; saturated points are on none."""
    (tmp_path / "chat.yaml").write_text(
        "model: llama-3.1-8b\nmachines: [{hardware: h100-sxm-8, tp: 1}, {hardware: xeon-6980p-2s, tp: 2}]\n"
        "traffic: {request_rate: 1 /s, isl: 512, osl: 128, requests: 10}\nslo: {ttft: 2 s, tpot: 100 ms}\n"
    )
    study = {
        "scenario": str(tmp_path / "chat.yaml"),
        "evaluate": "steady",
        "axes": {"traffic.request_rate": {"log": ["0.1 /s", "40 /s"], "points": 9}},
    }
    found = sweep(study, tmp_path / "out")
    assert found.table["saturated"].any()
    fronts = found.plot("front")
    for ax, signs in zip(fronts.axes, ((1, 1), (-1, -1)), strict=True):
        *machines, front = ax.lines
        points = np.concatenate([line.get_xydata() for line in machines]) * signs
        assert sum(len(line.get_xdata()) for line in machines) == (~found.table["saturated"].astype(bool)).sum()
        best = [p for p in points if not ((points >= p).all(axis=1) & (points > p).any(axis=1)).any()]
        assert sorted(map(tuple, best)) == sorted(map(tuple, front.get_xydata() * signs))
    capacity = found.plot("capacity")
    assert [ax.get_title(loc="left") for ax in capacity.axes] == ["TTFT mean (ms)", "TPOT mean (ms)"]
    names = {text.get_text() for ax in capacity.axes for text in ax.texts}
    assert {"h100-sxm-8", "xeon-6980p-2s"} <= names


def test_a_sweep_without_a_load_has_no_capacity_curve(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(
        "model: llama-3.1-8b\nmachines: [{hardware: h100-sxm-8, tp: 1}]\n"
        "traffic: {concurrency: 4, isl: 64, osl: 8, requests: 9}\n"
    )
    study = {"scenario": str(tmp_path / "chat.yaml"), "evaluate": "steady", "axes": {"traffic.isl": [64, 128]}}
    found = sweep(study, tmp_path / "out")
    with pytest.raises(InputError, match="nothing to draw"):
        found.plot("capacity")


STEADY: dict[str, Any] = {"scenario": "chat.yaml", "evaluate": "steady", "metrics": ["output_throughput"]}
TWO_LAYOUTS = [{"hardware": "h100-sxm-8", "tp": 1}, {"hardware": "h100-sxm-8", "tp": 4}]
SKEWED = [{"base": "qwen3-30b-a3b", "popularity": {"zipf": zipf}} for zipf in (0.5, 1.0)]


def test_models_are_an_axis_like_any_other(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    found = sweep({**STEADY, "axes": {"model": ["llama-3.1-8b", "qwen3-8b"]}}, study.parent / "out")
    assert found.keys == []
    assert list(found.means()["model"]) == ["llama-3.1-8b"] * 2 + ["qwen3-8b"] * 2
    assert all(len(table) == 1 for table in found.rankings().values())


@pytest.mark.parametrize(
    "varied",
    [
        {"axes": {"machines": [TWO_LAYOUTS]}},
        {"together": [{"machines": [[one] for one in TWO_LAYOUTS]}]},
        {"together": [{"model": SKEWED}], "axes": {"machines": [TWO_LAYOUTS[:1]]}},
    ],
)
def test_points_of_one_name_are_not_averaged(
    study: Path, monkeypatch: pytest.MonkeyPatch, varied: dict[str, Any]
) -> None:
    monkeypatch.chdir(study.parent)
    with pytest.raises(InputError, match="is there twice, with other settings; give models and machines a `name` each"):
        sweep({**STEADY, **varied}, study.parent / "out")


def test_what_varies_or_has_a_name_tells_points_apart(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    named = [[{**one, "name": f"H100 x {one['tp']}"}] for one in TWO_LAYOUTS]
    for varied in ({"together": [{"machines": named}]}, {"axes": {"machines": [[one] for one in TWO_LAYOUTS]}}):
        assert len(sweep({**STEADY, **varied}, study.parent / "out").means()) == 2
