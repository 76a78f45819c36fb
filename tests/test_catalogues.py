"""Lists of hardware, models and stacks: right figures, whole words on a terminal, aligned lines in a pipe, JSON."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from rich.console import Console

from simulator.hardware.catalogue import Catalogue
from simulator.model.zoo import load_model, model_names, published
from simulator.provenance import Fact
from simulator.quantity import Known
from simulator.report.catalogues import (
    Column,
    Rows,
    aligned,
    facts_table,
    hardware_table,
    model_table,
    models_table,
    print_rows,
    stacks_table,
    tables,
)
from simulator.stack.stack import Stacks


def every_list() -> list[Rows]:
    catalogue, stacks = Catalogue(), Stacks()
    return [
        hardware_table([catalogue.load(name) for name in catalogue.names()]),
        models_table([load_model(name) for name in model_names()]),
        stacks_table([stacks.load(name) for name in stacks.paths()]),
        facts_table(catalogue.load("h100-sxm-8").provenance()),
        facts_table(stacks.load("vllm-2025").provenance()),
        model_table(load_model("gpt-oss-120b"), published("gpt-oss-120b")),
    ]


def printed(rows: Rows, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, emoji=False)
    for table in tables(rows, width):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def by(rows: Rows, key: str, name: str) -> dict[str, object]:
    return next(found for found in rows.objects() if found[key] == name)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal_and_lose_no_letter(width: int) -> None:
    for rows in every_list():
        text = printed(rows, width)
        assert max(map(len, text.splitlines())) <= width, rows.title
        letters = "".join(text.split())
        for line in rows.text()[1]:
            assert line[0].strip() in text
        assert letters.count("…") == 0
        wanted = sum(len("".join(cell.split())) for line in rows.text()[1] for cell in line)
        assert len(letters) >= wanted


def test_hardware_figures_of_an_h100_node() -> None:
    row = by(hardware_table([Catalogue().load("h100-sxm-8")]), "name", "h100-sxm-8")
    assert row["chips"] == 8
    assert row["bf16_flop_per_s"] == pytest.approx(989.4e12)
    assert (row["memory"], row["memory_capacity_b"]) == ("hbm", 80 * 2**30)
    assert row["node_memory_b"] == 8 * 80 * 2**30 + 2 * 2**40  # HBM of every chip and the host's DDR once
    assert "80 GiB" in printed(hardware_table([Catalogue().load("h100-sxm-8")]), 120)


def test_model_figures() -> None:
    rows = models_table([load_model(name) for name in ("llama-2-70b", "deepseek-v3", "palm-540b", "gpt-oss-120b")])
    llama, deepseek, palm, oss = rows.objects()
    assert llama["kv_bytes_per_token"] == 2 * 80 * 8 * 128 * 2
    assert llama["experts"] is None
    assert [found["attention"] for found in (llama, deepseek, palm)] == ["GQA", "MLA", "MQA"]
    assert deepseek["experts"] == "256, top 8 + shared"
    assert oss["attention"] == "18 GQA window 128, 18 GQA"
    assert oss["precision"] == "bf16, expert mxfp4"


def test_a_model_stands_beside_its_published_totals() -> None:
    rows = model_table(load_model("deepseek-v3"), published("deepseek-v3"))
    total = by(rows, "property", "parameters")
    assert total["published"] == 671e9
    assert total["difference_percent"] == pytest.approx(0, abs=0.5)
    assert "671,026,419,200" in aligned(rows)
    alone = model_table(load_model("deepseek-v3"), None)
    assert "published" not in aligned(alone)  # a column without any value is left out


def test_a_number_carries_its_unit_and_its_range() -> None:
    facts = [
        Fact("chip.memory[0].capacity", Known(80 * 2.0**30, unit="B"), "datasheet", "the datasheet"),
        Fact("chip.memory[0].bandwidth", Known(3.35e12, range=(3e12, 3.4e12), unit="B/s"), "measured", "a benchmark"),
        Fact("node.chips", 8.0, "datasheet", "the datasheet"),
    ]
    rows = facts_table(facts)
    _, bandwidth, chips = rows.objects()
    assert (bandwidth["value"], bandwidth["unit"], bandwidth["range"]) == (3.35e12, "B/s", [3e12, 3.4e12])
    assert (chips["value"], chips["unit"], chips["range"]) == (8.0, None, None)
    lines = aligned(rows).splitlines()
    assert "80 GiB" in lines[1]
    assert "3.35 TB/s  3 TB/s to 3.4 TB/s  measured" in lines[2]
    assert lines[1].index("the datasheet") == lines[2].index("a benchmark") == lines[3].index("the datasheet")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (192e9, "192 GB"),
        (80 * 2.0**30, "80 GiB"),
        (1344 * 2.0**30, "1.3125 TiB"),
        (64.0, "64 B"),
        (50e6 / 3, "16.67 MB"),
    ],
)
def test_bytes_are_written_as_they_were_meant(size: float, text: str) -> None:
    (row,) = facts_table([Fact("x", Known(size, unit="B"), "measured", "y")]).text()[1]
    assert row[1] == text


def test_a_pipe_gets_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    for rows in every_list():
        print_rows(rows, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + len(rows.rows)
        assert not any(line.endswith(" ") for line in lines)


def test_json_is_a_list_of_objects(capsys: pytest.CaptureFixture[str]) -> None:
    for rows in every_list():
        print_rows(rows, as_json=True)
        found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert len(found) == len(rows.rows)
        assert all(list(entry) == [column.key for column in rows.columns] for entry in found)


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_rows(every_list()[0], as_json=False)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert any("───" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_brackets_in_a_cell_are_no_markup() -> None:
    rows = Rows("x", (Column("path", "path"), Column("note", "note")), (("memory[0]", "[bold]kept[/bold]"),))
    assert "[bold]kept[/bold]" in printed(rows, 80)


def test_an_empty_list_has_only_its_head() -> None:
    rows = hardware_table([])
    assert aligned(rows) == "name\n"
    assert "name" in printed(rows, 80)
