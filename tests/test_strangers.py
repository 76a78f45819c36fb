"""What strangers write: slips of the pen, impossible numbers, files of others. One line a problem, and no number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.api import load, run
from simulator.errors import RamwiseError
from simulator.report.samples import plain_text
from simulator.report.state import over_replicas

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
