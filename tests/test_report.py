"""Reports from eight made-up runs (four machines, two models, one of them saturated)."""

from __future__ import annotations

import gzip
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_up_runs import MODELS, eight_runs, nothing_completed, one_run

from simulator.errors import OutputError
from simulator.report import Report, RunResult, charts, folder, tables, timeline
from simulator.report.canvas import log_ticks, short, spread
from simulator.report.names import run_names
from simulator.report.numerals import percent, significant
from simulator.report.state import mean_over_bins, over_replicas


@pytest.fixture(scope="module")
def report() -> Report:
    return eight_runs()


@pytest.fixture
def written(report: Report, tmp_path: Path) -> Path:
    return folder.write(report, tmp_path / "results", plots=False)


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.0, "1,230"),
        (0.012345, "0.0123"),
        (99.96, "100"),
        (5.0, "5.00"),
        (2.5e7, "25.0M"),
        (999_999.0, "1.00M"),
        (0.0, "0"),
        (None, "-"),
        (math.nan, "-"),
        (-41.26, "-41.3"),
        (3.2e-7, "3.20e-07"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, text: str) -> None:
    assert significant(value) == text


def test_a_small_share_is_not_zero() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.714, None)] == ["0 %", "<1 %", "71 %", "-"]


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal_and_marks_saturation(report: Report, width: int) -> None:
    text = tables.plain_text(report, width)
    rows = text.splitlines()
    assert max(map(len, rows)) <= width
    assert "…" not in text  # nothing is cut
    offered = significant(report.runs[1].offered_rate)
    assert text.count("saturated: holds") == 1
    assert f"1.87 req/s of {offered}" in text
    for run in report.runs:
        assert text.count(run.summary["machine"]) >= 2
        shown = f"{significant(run.number('ttft_p50_ms'))} / "
        assert (shown in text) is not run.saturated or run.summary["model"] != MODELS[0]


def test_details_of_a_saturated_run_show_no_latency() -> None:
    steady, saturated = (tables.plain_text(one_run(saturated=flag)) for flag in (False, True))
    assert "\n ttft (ms) " in steady
    assert "mean 61.0 ± 2.10 (95 %)" in steady
    assert "ttft (ms)" not in saturated
    assert "grow with the length of the run" in saturated


def test_offered_rate_is_arrivals_over_their_span() -> None:
    run = one_run().runs[0]
    requests = replace(run.records.requests, arrival_s=np.array([2.0, 3.0, 7.0]))
    assert RunResult(run.summary, replace(run.records, requests=requests)).offered_rate == pytest.approx(2 / 5)
    requests = replace(requests, arrival_s=np.zeros(3))
    assert RunResult(run.summary, replace(run.records, requests=requests)).offered_rate is None


def test_document_is_strict_json() -> None:
    report = one_run(mfu=np.float32(0.25), mbu=math.nan, itl_p99_ms=math.inf, preemptions=np.int64(3))
    run = strict(report.summary_json())["runs"][0]
    assert (run["mfu"], run["mbu"], run["itl_p99_ms"], run["preemptions"]) == (0.25, None, None, 3)
    assert list(run) == list(report.runs[0].summary)


def test_folder_holds_every_file(report: Report, tmp_path: Path) -> None:
    place = folder.write(report, tmp_path / "new" / "results")
    assert sorted(path.name for path in place.iterdir()) == sorted(folder.OURS)
    assert [path.name for path in place.parent.iterdir()] == ["results"]
    document = strict((place / "summary.json").read_text())
    assert document["complete"] is True
    assert len(document["runs"]) == 8
    assert "saturated" in (place / "summary.txt").read_text()
    plots = {path.name for path in (place / "plots").iterdir()}
    assert plots == {f"{name}.{kind}" for name in charts.CHARTS for kind in ("svg", "png")}
    assert all(path.stat().st_size > 5000 for path in (place / "plots").iterdir())
    assert os.stat(place).st_mode & 0o055 or os.umask(0o22) == 0o77


def test_requests_table_has_one_row_a_request(report: Report, written: Path) -> None:
    frame = pq.read_table(written / "requests.parquet").to_pandas()
    assert len(frame) == sum(len(run.records.requests) for run in report.runs)
    run = report.runs[5]
    mine = frame[(frame.machine == run.summary["machine"]) & (frame.model == run.summary["model"])]
    assert np.median(mine.ttft_ms) == pytest.approx(run.summary["ttft_p50_ms"])
    requests = run.records.requests
    steps = np.maximum(requests.output_tokens - 1, 0)
    np.testing.assert_allclose(mine.ttft_ms + mine.tpot_ms.fillna(0) * steps, mine.e2el_ms, rtol=1e-9)
    assert (mine.tpot_ms.isna() == (requests.output_tokens == 1)).all()


def test_same_report_gives_same_bytes(report: Report, tmp_path: Path) -> None:
    two = replace(report, runs=report.runs[1:3])
    first, second = (folder.write(two, tmp_path / name) for name in ("first", "second"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 5 + 2 * len(charts.CHARTS)
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes(), file


def test_charts_ignore_the_users_own_matplotlib_settings(report: Report, tmp_path: Path) -> None:
    import matplotlib

    before = charts.save(charts.draw_energy(report), tmp_path / "before")[0].read_bytes()
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": None}):
        after = charts.save(charts.draw_energy(report), tmp_path / "after")[0].read_bytes()
    assert before == after


@pytest.mark.parametrize("draw", charts.CHARTS.values(), ids=charts.CHARTS)
@pytest.mark.parametrize(
    "make", [one_run, lambda: one_run(saturated=True), nothing_completed], ids=["one", "saturated", "nothing"]
)
def test_charts_of_unusual_reports(draw: Any, make: Any, tmp_path: Path) -> None:
    vector, _ = charts.save(draw(make()), tmp_path / "chart")
    assert b"NaN" not in vector.read_bytes()


def test_tables_of_a_run_without_results(tmp_path: Path) -> None:
    place = folder.write(nothing_completed(), tmp_path / "results", plots=False, complete=False)
    assert "- of 3 completed" in (place / "summary.txt").read_text()
    assert strict((place / "summary.json").read_text())["complete"] is False


def test_interrupted_before_any_run_is_readable(tmp_path: Path) -> None:
    place = folder.write(Report("none", 1, ()), tmp_path / "results", complete=False)
    assert strict((place / "summary.json").read_text())["runs"] == []
    assert pq.read_table(place / "requests.parquet").num_rows == 0


def test_timeline_has_a_process_for_each_run(report: Report, written: Path) -> None:
    loaded = strict(gzip.decompress((written / "timeline.json.gz").read_bytes()).decode())
    events = loaded["traceEvents"]
    assert loaded["otherData"]["cut"] is False
    assert len([event for event in events if event["ph"] == "M" and event["name"] == "process_name"]) == 8
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == sum(len(run.records.segments) for run in report.runs)
    assert {event["name"].split()[0] for event in slices} <= {"prefill", "decode", "idle"}
    mixed = next(event for event in slices if event["args"]["prefill_tokens"] and event["args"]["decoding"])
    assert mixed["name"] == f"prefill 512 + decode {mixed['args']['decoding']}"


def test_long_timeline_is_cut_at_one_moment_and_says_so(report: Report) -> None:
    cut = timeline.trace(report, max_events=1000)
    assert len(cut["traceEvents"]) <= 1000
    about = cut["otherData"]
    assert about["cut"] is True
    whole = timeline.trace(report)["traceEvents"]
    assert about["events_left_out"] == len(whole) - len(cut["traceEvents"])
    assert max(event.get("ts", 0) for event in cut["traceEvents"]) < about["window_s"] * 1e6
    assert {event["pid"] for event in cut["traceEvents"] if event["ph"] == "X"} == set(range(1, 9))


def test_timeline_ends_where_the_engine_stopped_keeping_segments() -> None:
    run = one_run().runs[0]
    few = replace(run.records, segments=run.records.segments[:100])
    cut = timeline.trace(Report("few", 1, (RunResult(run.summary, few),)))
    assert cut["otherData"]["window_s"] == run.records.segments[99].start_s
    assert cut["otherData"]["events_left_out"] > len(run.records.segments) - 100


def test_replicas_add_up() -> None:
    total = over_replicas(np.array([0, 1, 0, 1]), np.array([3.0, 4.0, 1.0, 0.0]))
    assert total.tolist() == [3, 7, 5, 1]


def test_mean_over_bins_is_the_time_average() -> None:
    mean = mean_over_bins(np.array([1.0, 2.0]), np.array([4.0, 10.0]), np.array([0.0, 2.0, 3.0]))
    assert mean.tolist() == [2.0, 10.0]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (8.0, 2e4, [10, 100, 1000, 10000]),
        (8.0, 300.0, [10, 20, 50, 100, 200]),
        (12.0, 45.0, [15, 20, 30, 40]),
        (0.5, 2e13, [1, 100, 1e4, 1e6, 1e8, 1e10, 1e12]),
    ],
)
def test_log_ticks_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_ticks_are_short() -> None:
    numbers = (0, 0.5, 0.001, 20, 5_000, 2e6, 1e-4, 1e-7, 1e-12)
    assert [short(number) for number in numbers] == ["0", "0.5", "0.001", "20", "5k", "2M", "100µ", "100n", "1e-12"]


def test_runs_of_one_machine_are_told_apart() -> None:
    run = one_run().runs[0]
    others = [
        RunResult(run.summary | change, run.records) for change in ({"stack": "vllm-2024"}, {"layout": "pp8"}, {})
    ]
    report = Report("twins", 1, (run, *others))
    names = run_names(report)
    assert names[:3] == ("h100-sxm-8 tp8 vllm-2026 #1", "h100-sxm-8 tp8 vllm-2024", "h100-sxm-8 pp8 vllm-2026")
    assert len(set(names)) == 4
    assert run_names(Report("two", 1, (run, others[0])), shown=("stack",)) == ("h100-sxm-8", "h100-sxm-8")


def test_spread_keeps_order_and_distance() -> None:
    assert spread([5.0, 1.0, 5.0], 1.0) == [4.5, 1.0, 5.5]
    assert spread([0.0, 0.0, 0.9], 1.0) == pytest.approx([-0.7, 0.3, 1.3])


def test_a_failure_midway_leaves_the_old_folder(report: Report, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in written.iterdir()}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timeline, "compressed", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        folder.write(one_run(), written, plots=False)
    assert {path.name: path.read_bytes() for path in written.iterdir()} == before
    assert [path.name for path in written.parent.iterdir()] == ["results"]  # nothing half written is left behind


def test_a_failing_rename_puts_the_old_folder_back(
    report: Report, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (written / "summary.json").read_bytes()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folder.write(one_run(), written, plots=False)
    assert (written / "summary.json").read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["results"]


def test_a_new_result_replaces_the_old_one_and_keeps_other_files(written: Path) -> None:
    (written / "notes.md").write_text("mine")
    (written / "plots").mkdir()
    folder.write(one_run(), written, plots=False)
    assert strict((written / "summary.json").read_text())["scenario"] == "one"
    assert (written / "notes.md").read_text() == "mine"
    assert not (written / "plots").exists()  # plots of the earlier result would belie the new one


def test_an_interrupted_run_never_replaces_a_complete_one(written: Path) -> None:
    before = (written / "summary.json").read_bytes()
    place = folder.write(one_run(), written, plots=False, complete=False)
    assert place == written.with_name("results-partial")
    assert strict((place / "summary.json").read_text())["complete"] is False
    assert (written / "summary.json").read_bytes() == before
    assert folder.write(one_run(), place, plots=False) == place  # an incomplete one gives way


def test_folder_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("text")
    with pytest.raises(OutputError, match="holds no ramwise results"):
        folder.write(one_run(), tmp_path / "thesis")
    (tmp_path / "thesis" / "summary.json").write_text("[]")
    with pytest.raises(OutputError, match="holds no ramwise results"):
        folder.check(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_unwritable_places_are_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for place, why in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "out", "is a file")):
        with pytest.raises(OutputError, match=why) as caught:
            folder.check(place)
        assert "\n" not in str(caught.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="current folder"):
        folder.check(".")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="not writable"):
        folder.check(tmp_path / "out")
