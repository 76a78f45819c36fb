"""Sweeps and crossovers over scenarios whose task is training, or samples of other classes of AI."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator import load, run
from simulator.errors import ScenarioError
from simulator.study.crossover import crossover
from simulator.study.folder import write
from simulator.study.sweep import sweep

TRAINING = """
task: train
model: [llama-3.1-8b]
machines:
  - {hardware: h100-sxm-8, chips: 64, parallelism: {tp: 1, zero: 3}, name: H100}
  - {hardware: tpu-v5p-64, chips: 64, parallelism: {tp: 1, zero: 3}, name: TPU}
batch: {global_batch: 256, micro_batch: 1, sequence_length: 4096}
recompute: full
tokens: 1e11
"""
CLASSES = """
task: classes
model:
  - {kind: jacobi, grid: [256, 256, 256], iterations: 10}
  - {kind: decode, base: llama-3.1-8b, batch: 4, iterations: 10}
machines: [{hardware: h100-sxm-8, tp: 1, name: GPU}, {hardware: xeon-6980p-2s, tp: 2, name: CPU}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "training.yaml").write_text(TRAINING)
    (tmp_path / "classes.yaml").write_text(CLASSES)
    return tmp_path


def test_a_sweep_of_training_is_the_runs_of_its_scenario(folder: Path) -> None:
    study = {"scenario": str(folder / "training.yaml"), "axes": {"machines[*].chips": [64, 128]}}
    found = sweep(study, folder / "out")
    assert list(found.table["machine"]) == ["H100", "TPU", "H100", "TPU"]
    alone = run(load(folder / "training.yaml", "machines[*].chips=128"))
    assert list(found.table["step_s"][2:]) == [one.summary["step_s"] for one in alone.runs]
    assert list(found.table["cost_usd"][2:].dropna()) == [s for one in alone.runs if (s := one.summary["cost_usd"])]
    assert "Duration (days)" in found.frame().columns
    assert sweep(study, folder / "out").computed == 0  # kept by their content


def test_the_folder_of_a_training_study_has_a_page(folder: Path) -> None:
    (folder / "s.yaml").write_text("scenario: training.yaml\naxes:\n  machines[*].chips: [64, 128]\n")
    found = sweep(folder / "s.yaml", folder / "out")
    write(found, folder / "s.yaml", folder / "out")
    assert "Tokens per second" in (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert (folder / "out" / "plots" / "metrics.svg").is_file()


def test_a_crossover_of_training_maps_the_shorter_run(folder: Path) -> None:
    axes = {"batch.sequence_length": {"log": [2048, 8192]}, "tokens": {"log": [1e11, 1e12]}}
    study = {"scenario": str(folder / "training.yaml"), "metric": "days", "axes": axes, "grid": 2, "refine": 0}
    found = crossover(study, folder / "out")
    assert len(found.winners) == 4
    corner = run(load(folder / "training.yaml", "batch.sequence_length=8192", "tokens=1e12"))
    first = min(corner.runs, key=lambda one: one.summary["days"])
    last = found.winners.iloc[-1]
    assert last["winner"] == first.summary["machine"]
    days = sorted(one.summary["days"] for one in corner.runs)
    assert last["factor"] == pytest.approx(days[1] / days[0])


def test_classes_are_ranked_each_in_its_own_unit(folder: Path) -> None:
    study = {"scenario": str(folder / "classes.yaml"), "axes": {"machines[*].replicas": [1]}}
    found = sweep(study, folder / "out")
    assert set(found.table["unit"]) == {"point", "token"}
    ahead = found.rankings()["samples_per_s"]
    assert len(ahead) == 2
    assert set(ahead["machine"]) == {"GPU"}
    with pytest.raises(ScenarioError, match="count in one unit, not in points, tokens"):
        crossover(
            {
                "scenario": str(folder / "classes.yaml"),
                "axes": {"seed": {"range": [1, 2]}, "machines[*].replicas": {"range": [1, 2]}},
                "grid": 2,
            },
            folder / "map",
        )


def test_a_crossover_of_samples_asks_for_samples_a_joule(folder: Path) -> None:
    jacobi = next(line for line in CLASSES.splitlines() if "jacobi" in line)
    (folder / "classes.yaml").write_text(CLASSES.replace(jacobi, ""))
    axes = {"model[0].batch": {"log": [1, 64]}, "model[0].context": {"log": [256, 4096]}}
    study = {"scenario": str(folder / "classes.yaml"), "grid": 2, "refine": 0, "axes": axes}
    found = crossover(study, folder / "out")
    assert found.study.metric == "samples_per_joule"
    assert set(found.winners["winner"]) == {"GPU"}


@pytest.mark.parametrize(
    ("scenario", "study", "said"),
    [
        ("training.yaml", {"samples": 4}, "samples change a machine's numbers, and training has no"),
        ("training.yaml", {"at_equal_loss": {"vary": {"a": {"key": "b"}}}}, "resizes models that are served"),
        ("training.yaml", {"metrics": ["ttft_p99_ms"]}, "unknown metric 'ttft_p99_ms'"),
        ("lists.yaml", {}, r"machines\[\*\].chips of the scenario is a list"),
        ("batches.yaml", {}, r"model\[\*\].batch of the scenario is a list"),
    ],
)
def test_what_other_tasks_lack_is_refused(folder: Path, scenario: str, study: dict[str, object], said: str) -> None:
    (folder / "lists.yaml").write_text(TRAINING.replace("chips: 64", "chips: [64, 128]"))
    (folder / "batches.yaml").write_text(CLASSES.replace("batch: 4", "batch: [1, 4]"))
    with pytest.raises(ScenarioError, match=said):
        sweep({"scenario": str(folder / scenario), "axes": {"seed": [1]}, **study}, folder / "out")
