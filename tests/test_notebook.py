"""Results in a notebook: tables with units, charts that show themselves, studies without files."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
from made_up_runs import eight_runs
from nbclient import NotebookClient

from simulator import crossover, load, plan, run, sweep
from simulator.errors import InputError, OutputError, ScenarioError
from simulator.report import Report
from simulator.report.columns import label
from simulator.report.notebook import Shown, html

CHECKOUT = Path(__file__).parent.parent
PNG = b"\x89PNG"
CHAT = """
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}, {hardware: xeon-6980p-2s, tp: 2}]
traffic: {request_rate: 0.5 /s, isl: 256, osl: 32, requests: 20}
slo: {ttft: 5 s, tpot: 200 ms, percentile: 90}
"""


@pytest.fixture(scope="module")
def report() -> Report:
    return eight_runs()


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a scenario, in which the program runs."""
    (tmp_path / "chat.yaml").write_text(CHAT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tables_hold_every_number_under_its_key(report: Report) -> None:
    table = report.table
    assert list(table["ttft_p99_ms"]) == [one.summary["ttft_p99_ms"] for one in report.runs]
    assert table["slo.tpot_ms"].eq(100.0).all()
    assert len(table) == 8


def test_shown_columns_carry_units(report: Report) -> None:
    frame = report.frame()
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    assert len(numbers) == 9  # made-up runs have no prices
    assert all("(" in name and name.endswith(")") for name in numbers)
    saturated = frame[frame[""] == "saturated"]
    assert len(saturated) == 1
    assert saturated["TTFT p99 (ms)"].isna().all()
    assert saturated["Output throughput (tokens/s)"].notna().all()


def test_requests_are_rows(report: Report) -> None:
    requests = report.requests
    assert len(requests) == sum(len(one.records.requests) for one in report.runs)
    mine = report.runs[2].requests
    assert np.median(mine["ttft_ms"]) == pytest.approx(report.runs[2].summary["ttft_p50_ms"])
    assert {"arrival_s", "scheduled_s", "ttft_ms", "tpot_ms", "e2el_ms"} <= set(requests.columns)


def test_machines_stand_side_by_side(report: Report) -> None:
    beside = report.side_by_side()
    assert list(beside.columns.names) == ["model", "machine"]
    column = beside[("llama-3.1-70b", "h100-sxm-8")]
    assert column["TTFT p99 (ms)"] == report.runs[0].summary["ttft_p99_ms"]
    assert column["average power (kW)"] == pytest.approx(5.9)


def test_every_chart_shows_itself(report: Report) -> None:
    for name in report.charts():
        assert report.plot(name)._repr_png_().startswith(PNG)  # type: ignore[attr-defined]


def test_an_unknown_chart_is_told_with_the_nearest(report: Report) -> None:
    with pytest.raises(InputError, match="energy"):
        report.plot("enrgy")


def test_what_is_named_by_strangers_is_escaped(report: Report) -> None:
    text = html(report.frame().assign(model="<script>alert(1)</script>"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_run_tells_all_that_is_known(report: Report) -> None:
    text = report.runs[0]._repr_html_()
    assert "llama-3.1-70b on h100-sxm-8" in text
    assert "preemptions" in text


DECODE = """
task: classes
model: {kind: decode, base: llama-3.1-8b, batch: [1, 4], iterations: 10}
machines: [{hardware: h100-sxm-8, tp: 1}]
"""


@pytest.mark.parametrize("name", ["decode.yaml", "essay-gpt3"])
def test_other_tasks_are_shown_alike(chat: Path, name: str) -> None:
    (chat / "decode.yaml").write_text(DECODE)
    found = run(load(name))
    assert isinstance(found, Shown)
    assert len(found.frame()) == len(found.runs) == len(found.table)
    assert "<table" in found._repr_html_()
    assert found.plot()._repr_png_().startswith(PNG)  # type: ignore[attr-defined]


def test_studies_are_asked_without_a_file(chat: Path) -> None:
    found = sweep({"scenario": "chat.yaml", "axes": {"traffic.request_rate": ["0.2 /s", "0.4 /s"]}}, workers=1)
    assert len(found.frame()) == 4
    assert "TTFT p99 (ms)" in found.frame().columns
    assert (chat / "ramwise-results" / "sweep" / "points.jsonl").is_file()
    again = sweep({"scenario": "chat.yaml", "axes": {"traffic.request_rate": ["0.2 /s", "0.4 /s"]}}, workers=1)
    assert again.computed == 0
    assert found.plot()._repr_png_().startswith(PNG)  # type: ignore[attr-defined]


def test_a_map_and_a_plan_are_asked_without_a_file(chat: Path) -> None:
    axes = {"traffic.request_rate": {"log": ["0.01 /s", "1 /s"]}, "traffic.isl": {"log": [64, 1024]}}
    found = crossover({"scenario": "chat.yaml", "axes": axes, "grid": 3, "refine": 1})
    assert sum(found.areas().values()) == pytest.approx(1.0)
    assert "Lead over the next (factor)" in found.frame().columns
    fleet = plan({"scenario": "chat.yaml", "machines": ["h100-sxm-8"], "tp": [1], "max_num_seqs": [16]})
    assert fleet.fleets
    assert "<table" in fleet._repr_html_()


def test_a_study_of_another_kind_or_place_is_refused(chat: Path) -> None:
    with pytest.raises(ScenarioError, match="this is a plan"):
        sweep({"study": "plan", "scenario": "chat.yaml"})
    with pytest.raises(ScenarioError, match="no study 'nowhere'"):
        sweep("nowhere")
    (chat / "mine").mkdir()
    (chat / "mine" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        sweep({"scenario": "chat.yaml", "axes": {"seed": [1]}}, "mine")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("tpot_p50_ms", "TPOT p50 (ms)"),
        ("ttft_p99_ms_ci95", "TTFT p99 (ms), ± 95 %"),
        ("cost_per_mtok_usd_low", "Cost per million output tokens (USD), 10 %"),
        ("energy_facility_mwh", "energy facility (MWh)"),
        ("traffic.isl", "Input tokens of a request"),
        ("chips", "chips"),
    ],
)
def test_columns_in_words(key: str, words: str) -> None:
    assert label(key) == words


def test_the_tour_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell of the example notebook, in a fresh kernel; the checkout holds it without outputs."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    tour = nbformat.read(CHECKOUT / "notebooks" / "tour.ipynb", as_version=4)
    nbformat.validate(tour)
    cells = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    NotebookClient(tour, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [set().union(*(output.get("data", {}) for output in cell.outputs)) for cell in cells]
    for cell, kinds in zip(cells, shown, strict=True):
        assert ("image/png" in kinds) == (".plot(" in cell.source), cell.source
    tables = [cell.source for cell, kinds in zip(cells, shown, strict=True) if "text/html" in kinds]
    assert {"report.side_by_side().round(2)", "report.runs[0]"} <= set(tables)
    assert len(tables) == 6  # and the run, the requests, the sweep, the plan
