"""The page of a run: one file, nothing fetched, every row and picture in it, and safe against what names hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_runs import eight_runs
from pandas import DataFrame

from simulator.cli.tasks import task_for
from simulator.report import folder
from simulator.report.charts import CHARTS
from simulator.report.page import Page, Section, picture, table_of
from simulator.report.study_page import study_page
from simulator.scenario import read_any


class Reader(HTMLParser):
    """Tags that were opened and not closed, and attributes that name something elsewhere."""

    VOID = ("meta", "link", "br", "img", "path", "use", "rect", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def test_a_run_s_page_is_whole(tmp_path: Path) -> None:
    report = eight_runs()
    text = (folder.write(report, tmp_path / "out") / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert read.open == []
    assert read.links == []
    assert len(read.ids) == len(set(read.ids))
    assert not re.search(r"@import|url\((?!#)", text)
    assert text.count("<figure") == len(CHARTS)
    for run in report.runs:
        assert str(run.summary["machine"]) in text
    for heading in report.frame().columns:
        assert f"<button>{heading}</button>" in text


TRAINING = """\
task: train
description: two sizes of one run
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, chips: [32, 64], stack: megatron-2024, parallelism: {tp: 2, pp: 4}}]
batch: {global_batch: 64, micro_batch: 1, sequence_length: 4096}
recompute: none
tokens: 1e9
"""
SAMPLES = """\
task: classes
description: two of three classes
model: [{kind: jacobi, grid: [64, 64, 64], iterations: 50}, {kind: decode, base: llama-3.1-8b, batch: [8, 64]}]
machines: [{hardware: h100-sxm-8, tp: 1}]
"""


@pytest.mark.parametrize(
    ("text", "pictures", "said"),
    [
        (TRAINING, 3, ("h100-sxm-8, 64 chips", "tp2 pp4 dp8 sp zero1", "<td>optimizer</td>", "exposed communication")),
        (SAMPLES, 2, ("jacobi", "counted in", "step (ms)", "llama-3.1-8b")),
    ],
)
def test_other_tasks_have_a_page_that_is_whole(text: str, pictures: int, said: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    scenario, source = read_any(file)
    task = task_for(scenario)
    report = task.run(scenario, source)
    page = (task.write(report, tmp_path / "out") / "report.html").read_text(encoding="utf-8")
    read = Reader(page)
    assert read.open == []
    assert read.links == []
    assert len(read.ids) == len(set(read.ids))
    assert page.count("<figure") == pictures
    for words in (*said, report.description, "How to get it again", "ramwise run mine.yaml --seed 0", "weakest"):
        assert words in page
    assert report.text.splitlines()[0] in page


def test_a_study_s_table_says_spreads_in_cells_and_what_is_alike_once() -> None:
    table = DataFrame(
        {
            "traffic.request_rate": [1.0, 2.0],
            "model": ["m", "m"],
            "machine": ["<a>", "b"],
            "ttft_p99_ms": [100.0, 210.0],
            "ttft_p99_ms_ci95": [5.0, float("nan")],
            "ttft_p99_ms_low": [90.0, 200.0],
            "ttft_p99_ms_high": [120.0, 230.0],
            "chips": [8, 16],
        }
    )
    text = study_page("s", "", [], [], table, "study: sweep", "ramwise sweep s.yaml")
    assert Reader(text).open == []
    headings = re.findall(r"<button>([^<]*)</button>", text)
    assert headings == ["Requests per second", "machine", "TTFT p99 (ms)", "chips"]
    assert "100 ± 5.0\n(90.0 to 120)" in text
    assert "210\n(200 to 230)" in text
    assert ">16</td>" in text
    assert "&lt;a&gt;" in text
    assert "In every row: model m. ±: half of the 95 % interval over seeds." in text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    one, two = (folder.write(eight_runs(), tmp_path / name) / "report.html" for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_names_cannot_break_the_page() -> None:
    table = table_of(["<b>"], [["<script>alert(1)</script>"], [None], [1234.5]])
    text = Page("a & b", "<i>", (Section("x", table=table),)).html()
    assert "<script>alert" not in text
    assert "a &amp; b" in text
    assert '<td class="number" data-value="1234.5">1,230</td>' in text


def test_pictures_keep_their_names_apart(tmp_path: Path) -> None:
    drawing = '<?xml version="1.0"?><svg><defs><path id="a"/></defs><use xlink:href="#a" clip-path="url(#a)"/></svg>'
    for name in ("one", "two"):
        (tmp_path / f"{name}.svg").write_text(drawing)
    first, second = (picture(tmp_path / f"{name}.svg", name).svg for name in ("one", "two"))
    assert first == '<svg><defs><path id="one-a"/></defs><use xlink:href="#one-a" clip-path="url(#one-a)"/></svg>'
    assert second == first.replace("one-", "two-")
