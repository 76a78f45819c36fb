"""Activations and optimiser in the host's memory: closed forms against a twin that goes layer by layer, and runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simulator.api import load, run
from simulator.cost.training.offload import left_after, streamed
from simulator.errors import CapacityError
from simulator.report.training.result import TrainingReport, TrainingRun

SCENARIO = """\
task: train
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, chips: 32, stack: megatron-2024, parallelism: {tp: 8}}]
batch: {global_batch: 64, micro_batch: 1, sequence_length: 4096}
recompute: none
steps: 100
"""


def trained(folder: Path, *changes: str) -> TrainingRun:
    (folder / "run.yaml").write_text(SCENARIO)
    report = run(load(folder / "run.yaml", *changes))
    assert isinstance(report, TrainingReport)
    return report.runs[0]


# --- layer by layer ---------------------------------------------------------------------------------------------------


def forward_twin(layers: int, compute: float, moved: float) -> float:
    """The end of a forward pass: a layer computes when all but the one before it has left; the last two stay."""
    end, gone = 0.0, [0.0] * (layers + 2)
    for layer in range(layers):
        end = max(end, gone[layer - 2] if layer >= 2 else 0.0) + compute / layers
        if layer < layers - 2:
            gone[layer] = max(end, gone[layer - 1] if layer else 0.0) + moved / (layers - 2)
    return end


@pytest.mark.parametrize("moved", [0.0, 0.5, 0.99, 1.5, 4.0])
def test_a_pass_that_moves_its_layers_takes_the_longer_of_both(moved: float) -> None:
    assert forward_twin(400, 1.0, moved) == pytest.approx(streamed(1.0, moved), rel=0.01)


@pytest.mark.parametrize("moved", [0.1, 0.9, 1.0, 1.7, 6.0])
@pytest.mark.parametrize("layers", [1, 4, 32])
def test_what_is_left_of_the_gradients_way_down(moved: float, layers: int) -> None:
    """Each layer gives its gradients up when its backward pass is over; they go one after the other."""
    end = 0.0
    for layer in range(1, layers + 1):
        end = max(end, layer / layers) + moved / layers
    assert left_after(moved, 1.0, layers) == pytest.approx(end - 1.0)


# --- runs -------------------------------------------------------------------------------------------------------------


def away(folder: Path, what: str, link: str = "64 GB/s", *more: str) -> TrainingRun:
    """The run with `what` in the host's memory, behind such a link."""
    (folder / "node.yaml").write_text(
        (Path(__file__).parent.parent / "hardware_profiles" / "h100-sxm-8.yaml")
        .read_text()
        .replace("name: h100-sxm-8", "name: node")
        .replace("link: {value: 64 GB/s,", f"link: {{value: {link},")
        .replace("      link: 64 GB/s", f"      link: {link}")
    )
    change = ("machines[0].hardware=node.yaml", f"machines[0].offload=[{what}]")
    return trained(folder, *change, *more)


def parts(found: TrainingRun) -> dict[str, Any]:
    return dict(found.summary["step_by_part_s"])


def test_activations_leave_two_layers_on_the_chip(tmp_path: Path) -> None:
    here, there = trained(tmp_path), away(tmp_path, "activations")
    both = there.sheet.held["activations"] + there.sheet.host["activations"]
    assert both == pytest.approx(here.sheet.held["activations"])
    assert there.sheet.held["activations"] == pytest.approx(2 / 32 * both)


def test_a_fast_link_hides_activations_and_a_slow_one_sets_the_pace(tmp_path: Path) -> None:
    """A pass of full recomputation keeps little, and 64 GB/s are enough; all activations at 4 GB/s are not."""
    little = "recompute=full"
    fast = away(tmp_path, "activations", "64 GB/s", little)
    assert fast.summary["step_s"] == pytest.approx(trained(tmp_path, little).summary["step_s"], rel=1e-9)
    slow = away(tmp_path, "activations", "4 GB/s")
    (stage,) = slow.step.stages
    assert stage.forward == pytest.approx(slow.sheet.host["activations"] / 4e9)
    assert stage.backward == pytest.approx(slow.sheet.host["activations"] / 4e9)
    assert parts(slow)["offload"] > 0.0
    steps = [away(tmp_path, "activations", f"{rate} GB/s").summary["step_s"] for rate in (4, 16, 64, 450)]
    assert all(slower >= faster for slower, faster in pairwise(steps))


def test_an_optimizer_on_the_host_takes_its_traffic_and_the_host_s_memory(tmp_path: Path) -> None:
    """Down 4 B, up 2 B, 34 B read and written by the host for its eight chips; the way down hides behind a pass."""
    here, there = trained(tmp_path), away(tmp_path, "optimizer")
    assert there.sheet.host["optimizer"] == pytest.approx(here.sheet.held["optimizer"])
    assert "optimizer" not in there.sheet.held
    own = here.step.optimizer * 3.35e12 * 0.85 / 34.0  # parameters of a chip's shard
    host = own * 34.0 * 8 / 614.4e9
    up, down = own * 2.0 / 64e9, own * 4.0 / 64e9
    stage = there.step.stages[0]
    assert down < stage.backward
    assert there.step.optimizer == pytest.approx(host + up + down / stage.stage.layers, rel=1e-6)


def test_a_host_that_is_too_small_is_said_with_the_sheet(tmp_path: Path) -> None:
    changes = ("machines[0].offload=[activations]", "batch.global_batch=65536", "schedule=gpipe")
    with pytest.raises(CapacityError, match=r"host: activations(.|\n)*host: share of a chip"):
        trained(tmp_path, *changes)
