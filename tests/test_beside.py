"""Studies beside which another stands, and numbers of formulas alone: a model's training and its service together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simulator.errors import ScenarioError
from simulator.study.folder import check, write
from simulator.study.sweep import Sweep, sweep

SERVING = """
model: [llama-3.1-8b, qwen3-8b]
machines: [{hardware: h100-sxm-8, name: H100, tp: 1}]
traffic: {concurrency: 8, isl: 64, osl: 64, requests: 8}
"""
TRAINING = """
task: train
model: [llama-3.1-8b, qwen3-8b]
machines: [{hardware: h100-sxm-8, chips: 64, parallelism: {tp: 1, zero: 3}}]
batch: {global_batch: 256, micro_batch: 1, sequence_length: 4096}
recompute: full
tokens: 1e11
"""
BILL = "scenario: training.yaml\nmetrics: [energy_facility_mwh]\n"
LIFETIME: dict[str, Any] = {
    "scenario": "serving.yaml",
    "evaluate": "steady",
    "beside": {"run": "bill.yaml"},
    "given": {"tokens_per_day": [0, 1e9, 1e12]},
    "derived": {
        "lifetime_j": "run_energy_facility_mwh * 3.6e9 + 1095 * tokens_per_day * energy_per_output_token_j",
        "share_in_training": "run_energy_facility_mwh * 3.6e9 / lifetime_j",
    },
    "metrics": ["lifetime_j", "share_in_training"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (("serving", SERVING), ("training", TRAINING), ("bill", BILL)):
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lifetime(folder: Path, **changes: Any) -> Sweep:
    return sweep({**LIFETIME, **changes}, folder / "out")


def test_training_and_years_of_serving_add_up(folder: Path) -> None:
    found = lifetime(folder)
    table, bill = found.table, sweep(folder / "bill.yaml", folder / "alone").table.set_index("model")
    assert len(table) == 2 * 3
    for row in table.to_dict("records"):
        trained = bill.loc[row["model"], "energy_facility_mwh"] * 3.6e9
        served = 1095 * row["tokens_per_day"] * row["energy_per_output_token_j"]
        assert row["lifetime_j"] == pytest.approx(trained + served)
        assert row["share_in_training"] == pytest.approx(trained / (trained + served))
        assert row["run_days"] == bill.loc[row["model"], "days"]
    none = table[table["tokens_per_day"] == 0]
    assert (none["share_in_training"] == 1).all()
    assert found.computed == 4
    again = lifetime(folder)
    assert (again.computed, again.reused) == (2, 2)  # the runs are kept, steady states are not


def test_what_was_given_is_an_axis_of_the_pictures(folder: Path) -> None:
    study = folder / "life.yaml"
    study.write_text(
        "scenario: serving.yaml\nevaluate: steady\nbeside: {run: bill.yaml}\n"
        "given: {tokens_per_day: {log: [1.0e+6, 1.0e+12], points: 4}}\n"
        "derived: {share_in_training: run_energy_facility_mwh / (run_energy_facility_mwh + tokens_per_day)}\n"
        "metrics: [share_in_training]\n"
    )
    found = sweep(study, check(folder / "out"))
    assert found.keys == ["tokens_per_day"]
    write(found, study, folder / "out")
    assert "Tokens served a day" in (folder / "out" / "report.html").read_text(encoding="utf-8")
    figure = found.charts()["metrics"]()
    assert figure is not None
    assert figure.axes[0].get_ylim() == (0, 1)
    assert len(figure.axes[0].lines) == 2


def test_what_goes_together_with_each_model_is_no_axis(folder: Path) -> None:
    def keys(models: list[str], tokens: list[float]) -> list[str]:
        return lifetime(folder, together=[{"model": models, "training_tokens": tokens}]).keys

    assert keys(["llama-3.1-8b", "qwen3-8b"], [1e12, 2e12]) == ["tokens_per_day"]
    assert keys(["llama-3.1-8b", "llama-3.1-8b"], [1e12, 2e12]) == ["tokens_per_day", "training_tokens"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beside": {"run": "bil.yaml"}}, r"sweep:\d+:\d+: no study 'bil.yaml'"),
        (
            {"beside": {"training": "bill.yaml"}, "axes": {"training_tokens": [1e12]}},
            "beside.training: there is a column 'training_tokens'",
        ),
        ({"given": {"tokens_per_day": ["many"]}}, "given.tokens_per_day is text"),
        (
            {"given": {"tokens_per_day": {"log": [1e6, 1e12], "points": 60_000}}},
            r"60,000 given numbers make \d+,000 rows of \d+, more than 100,000; give fewer",
        ),
        (
            {"given": {"tokens_per_day": [float("nan")]}},
            "given.tokens_per_day holds (nan|None), which is no finite number",
        ),
        (
            {"given": {"tokens_per_day": [float("inf")]}},
            "given.tokens_per_day holds (inf|None), which is no finite number",
        ),
        ({"given": {"tokens_per_day": [10**400]}}, "given.tokens_per_day holds 10"),
        ({"given": {"tokens_per_day": [[1, 2]]}}, "given.tokens_per_day holds"),
        ({"keep": "tpot_mean_ms"}, r"sweep:\d+:7: keep: 'tpot_mean_ms' is no condition; write tpot_mean_ms <= 50"),
        ({"given": {"machine": [1]}}, "given.machine: there is a column 'machine'"),
        ({"given": {"traffic.concurrency": [1]}, "axes": {"traffic.concurrency": [2]}}, "varies twice"),
        ({"derived": {"x": "run_enrgy * 2"}}, "derived.x"),
    ],
)
def test_what_cannot_stand_together_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        lifetime(folder, **changes)


def test_each_model_has_one_row_beside(folder: Path) -> None:
    (folder / "training.yaml").write_text(TRAINING.replace(", qwen3-8b", ""))
    with pytest.raises(ScenarioError, match=r"unknown model in beside.run 'qwen3-8b'"):
        lifetime(folder)
    (folder / "training.yaml").write_text(TRAINING)
    (folder / "bill.yaml").write_text(BILL + "axes: {tokens: [1e10, 1e11]}\n")
    with pytest.raises(ScenarioError, match=r"beside.run has 2 rows of the model 'llama-3.1-8b'"):
        lifetime(folder)


def test_no_study_stands_beside_itself(folder: Path) -> None:
    (folder / "bill.yaml").write_text(BILL + "beside: {again: bill.yaml}\n")
    with pytest.raises(ScenarioError, match=r"'bill\.yaml' stands beside itself"):
        lifetime(folder)
