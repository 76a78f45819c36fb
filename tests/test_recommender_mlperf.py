"""Recommenders against MLPerf Inference v4.1 (mlcommons/inference_results_v4.1, mlperf_log_summary.txt, DLRM-DCNv2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.api import load, run
from simulator.model.parallelism import ONE_CHIP
from simulator.model.recommender import GRID, Recommender

PAIRS = 270.0
"""User-item pairs, which are samples here, in a sample of MLPerf's: 100 to 700 as in tools/dist_quantile.txt; the mean
is recalled (89,137,319 pairs of the validation set in 330,067 samples)."""

GPU = "{kind: dlrm, dtype: int8, mlp_dtype: int8, cross_dtype: CROSS}"

OFFLINE = {
    # hardware, cross layers, chips, MLPerf's samples a second offline, pairs in a step, error allowed
    "h100": ("h100-sxm-8", "int8", 8, 595_658, 51_200, 0.02),  # fitted
    "h100 99.9": ("h100-sxm-8", "fp16", 8, 361_613, 51_200, 0.02),  # fitted
    "h200": ("h200-sxm-8", "int8", 8, 637_342, 51_200, 0.10),
    "h200 99.9": ("h200-sxm-8", "fp16", 8, 390_953, 51_200, 0.10),
    "h100 pcie": ("h100-pcie-8", "int8", 8, 368_654, 51_200, 0.20),
    "h100 pcie 99.9": ("h100-pcie-8", "fp16", 8, 211_128, 51_200, 0.25),
    "xeon 6980p": ("xeon-6980p-2s", "int8", 2, 18_326.6, 8_192, 0.10),
    "xeon 8592+": ("xeon-8592-2s", "int8", 2, 9_962.84, 8_192, 0.10),
}


def test_grid_of_counts_says_what_each_count_says() -> None:
    model = Recommender(kind="dlrm")
    counts = np.concatenate([np.arange(300.0), np.arange(5_000.0, 5_300.0)])
    many = model.operations(counts, ONE_CHIP, model.precision)[0]
    for place in (0, 1, 7, 299, 300, 555):
        one = model.operations(float(counts[place]), ONE_CHIP, model.precision)[0]
        assert many.unique_rows[place] == pytest.approx(one.unique_rows, rel=2e-4)
        assert many.rows[place] == pytest.approx(one.rows)
    assert len(GRID) < len(counts)


@pytest.mark.parametrize("name", OFFLINE)
def test_samples_a_second_of_mlperf(name: str, tmp_path: Path) -> None:
    """Every chip holds all tables in int8, as the submissions do; a sample of MLPerf is 270 of ours."""
    hardware, cross, chips, published, batch, allowed = OFFLINE[name]
    (tmp_path / "a.yaml").write_text(
        f"task: recommend\nmodel: {GPU.replace('CROSS', cross)}\nmachines: [{{hardware: {hardware}, tp: 1}}]\n"
        f"traffic: {{queries: 20, samples: {batch}}}\nmax_batch: {batch}\n"
    )
    (found,) = run(load(tmp_path / "a.yaml")).runs
    assert found.summary["samples_per_s"] * chips / PAIRS == pytest.approx(published, rel=allowed)
    assert not found.summary["warnings"]
