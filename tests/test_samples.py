"""Recommenders and solvers: sizes and costs of the reference, queries in a queue, and what is written wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.api import load, run
from simulator.errors import CapacityError, InputError
from simulator.model.operation import Collective, Gather, Matmul, Vector
from simulator.model.parallelism import ONE_CHIP, Parallelism
from simulator.model.recommender import Recommender, tables_of
from simulator.model.solver import Jacobi, Pinn

DLRM = Recommender(kind="dlrm")
GRID = Jacobi(kind="jacobi", grid=(512, 512, 512))


def summaries(path: Path, text: str) -> list[dict[str, Any]]:
    path.write_text(text)
    return [result.summary for result in run(load(path)).runs]


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_the_recommender_has_the_published_size() -> None:
    """sparse-ffn.md section 5: 204,184,588 rows, 97.36 GiB in fp32, 214 look-ups, 16.0 M dense parameters."""
    tables = tables_of("dlrm-dcnv2")
    assert sum(table.rows for table in tables) == 204_184_588
    assert DLRM.parameters(ONE_CHIP)["table"] * 4 / 2**30 == pytest.approx(97.36, abs=0.02)
    assert sum(table.lookups for table in tables) == 214
    assert DLRM.parameters(ONE_CHIP)["ffn"] == pytest.approx(16.0e6, rel=5e-3)
    assert DLRM.joined == 3456


def test_a_sample_reads_and_computes_what_the_reference_says() -> None:
    """109.6 KB of random rows of 512 B and 32.1 MFLOP a sample."""
    operations = DLRM.operations(1.0, ONE_CHIP, DLRM.precision)
    rows = [o for o in operations if isinstance(o, Gather)]
    assert {o.row_bytes for o in rows} == {512}
    assert sum(o.rows * o.row_bytes for o in rows) == 214 * 512 == pytest.approx(109.6e3, rel=1e-3)
    assert sum(2 * o.m * o.n * o.k for o in operations if isinstance(o, Matmul)) == pytest.approx(32.1e6, rel=5e-3)


def test_chips_share_the_tables_and_the_samples() -> None:
    layout = Parallelism(dp=8)
    assert DLRM.parameters(layout)["table"] * 8 == DLRM.parameters(ONE_CHIP)["table"]
    operations = DLRM.operations(4096.0, layout, DLRM.precision)
    assert {float(o.m) for o in operations if isinstance(o, Matmul)} == {512.0}
    exchange = next(o for o in operations if isinstance(o, Collective))
    assert (exchange.pattern, exchange.bytes, exchange.group) == ("all_to_all", 512 * 26 * 128 * 2, 8)


def test_a_sweep_moves_24_bytes_and_does_8_flops_a_point() -> None:
    sweep = next(o for o in GRID.operations(1e6, ONE_CHIP, GRID.precision) if isinstance(o, Vector))
    assert (sweep.flops, sweep.bytes) == (8e6, 24e6)
    halo = next(o for o in GRID.operations(8e6, Parallelism(dp=8), GRID.precision) if isinstance(o, Collective))
    assert halo.bytes == pytest.approx(6 * 100**2 * 8)


def test_a_pinn_step_costs_its_factor_times_a_pass() -> None:
    """N_pts * 2P * c."""
    net = Pinn(kind="pinn")
    weights = sum(into * out for into, out in net.widths())
    flops = sum(2 * o.m * o.n * o.k for o in net.operations(20_000.0, ONE_CHIP, net.precision) if isinstance(o, Matmul))
    assert flops == pytest.approx(20_000 * 2 * weights * 27)


# --- runs -------------------------------------------------------------------------------------------------------------

RECOMMEND = """\
task: recommend
model: {kind: dlrm}
machines:
  - {hardware: h100-sxm-8, tp: 8}
  - {hardware: h100-sxm-8, name: one chip, tp: 1, placement: {table: ddr}}
traffic: {queries: 200, samples: 256}
max_batch: 2048
"""


def test_a_recommender_runs_on_near_and_far_tables(tmp_path: Path) -> None:
    near, far = summaries(tmp_path / "a.yaml", RECOMMEND)
    assert near["samples"] == far["samples"] == 200 * 256
    assert near["samples_per_s"] > far["samples_per_s"]
    assert max(far["bound_by"], key=far["bound_by"].get) == "ddr"
    assert near["energy_per_sample_j"] * near["samples"] == pytest.approx(near["energy_j"])
    assert sum(near["bound_by"].values()) == pytest.approx(1.0)


def test_queries_wait_and_a_loaded_machine_answers_later(tmp_path: Path) -> None:
    calm, busy = (
        summaries(
            tmp_path / f"{rate}.yaml", RECOMMEND.replace("queries: 200", f"queries: 400, request_rate: {rate} /s")
        )
        for rate in (10, 1800)
    )
    assert calm[1]["query_p50_ms"] < busy[1]["query_p50_ms"]
    assert calm[0]["samples_per_s"] == pytest.approx(10 * 256, rel=0.15)


def test_bandwidth_bound_sweeps_scale_with_bandwidth(tmp_path: Path) -> None:
    text = "task: solve\nmodel: {kind: jacobi, grid: [1024, 1024, 512]}\nmachines: [{hardware: HW, tp: 1}]\n"
    (h100,), (h200,) = (
        summaries(tmp_path / f"on-{name}.yaml", text.replace("HW", name)) for name in ("h100-sxm-8", "h200-sxm-8")
    )
    assert h100["bound_by"]["hbm"] > 0.9
    assert h200["samples_per_s"] / h100["samples_per_s"] == pytest.approx(4.8 / 3.35, rel=0.1)
    assert h100["samples_per_s"] < 3.35e12 / 24
    assert h100["samples"] == 1000 * 1024 * 1024 * 512


def test_three_classes_on_one_machine(tmp_path: Path) -> None:
    text = (
        "task: classes\n"
        "model:\n  - {kind: dlrm}\n  - {kind: jacobi, grid: [256, 256, 256]}\n  - {kind: pinn, iterations: 10}\n"
        "  - {kind: decode, base: llama-3.1-8b, batch: 8, context: 512}\n"
        "machines: [{hardware: xeon-6980p-2s, tp: 2}]\ntraffic: {queries: 20, samples: 64, concurrency: 2}\n"
    )
    found = summaries(tmp_path / "a.yaml", text)
    assert [s["unit"] for s in found] == ["sample", "point", "point", "token"]
    assert all(np.isfinite(s["samples_per_s"]) and s["samples_per_s"] > 0 for s in found)
    assert found[3]["samples"] == 8 * 1000


def test_a_decoding_model_costs_what_serving_charges(tmp_path: Path) -> None:
    """One step of `decode` is a step of `task: serve` at that batch and context."""
    machine = "machines: [{hardware: h100-sxm-8, tp: 1}]\n"
    text = "task: classes\nmodel: {kind: decode, base: llama-3.1-8b, batch: 16, context: 600}\n" + machine
    (decode,) = summaries(tmp_path / "a.yaml", text)
    traffic = "traffic: {concurrency: 16, isl: 500, osl: 200, requests: 16}\n"
    (serve,) = summaries(tmp_path / "b.yaml", "model: llama-3.1-8b\n" + machine + traffic)
    assert decode["step_ms"] == pytest.approx(serve["tpot_p50_ms"], rel=0.03)


def test_tables_that_do_not_fit_are_refused_with_their_size(tmp_path: Path) -> None:
    with pytest.raises(CapacityError, match=r"a\.yaml:\d+:\d+: dlrm-dcnv2 does not fit hbm(.*)place its tables"):
        summaries(tmp_path / "a.yaml", RECOMMEND.replace("placement: {table: ddr}", "dp: 1"))


WRONG = {
    "task": ("task: recommend", "task: recomend", r"did you mean|recommend"),
    "kind": ("kind: dlrm", "kind: jacobi, grid: [8, 8, 8]", r"task recommend has no kind jacobi; write task: classes"),
    "samples": ("samples: 256", "samples: 0", r"samples"),
    "both": ("queries: 200", "request_rate: 5 /s, concurrency: 2", r"request_rate and concurrency; write one"),
    "machine": ("h100-sxm-8, tp: 8", "h100-sxm-9, tp: 8", r"did you mean 'h100-sxm-8'"),
    "field": ("kind: dlrm", "kind: dlrm, ranks: 4", r"unknown key 'ranks'; did you mean 'rank'"),
}


@pytest.mark.parametrize(("old", "new", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        summaries(tmp_path / "a.yaml", RECOMMEND.replace(old, new))
