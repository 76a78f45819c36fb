"""Machines side by side: who wins a row, what a saturated machine shows, and what fits a terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from made_up_runs import MODELS, eight_runs, nothing_completed, one_run
from rich.console import Console

from simulator.report import Report, RunResult
from simulator.report.comparison import side_by_side
from simulator.report.numerals import significant


def printed(report: Report, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, emoji=False)
    console.print(side_by_side(report, width))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def bold(report: Report, width: int = 200) -> str:
    """The same with every bold stretch in <>."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard", emoji=False)
    console.print(side_by_side(report, width))
    return console.file.getvalue().replace("\x1b[1m", "<").replace("\x1b[0m", ">")  # type: ignore[attr-defined, no-any-return]


def machines(**values: list[Any]) -> Report:
    """One model on machines m0, m1, ... that differ in the given figures."""
    run = one_run().runs[0]
    count = len(next(iter(values.values())))
    figures = ({key: given[index] for key, given in values.items()} for index in range(count))
    runs = (RunResult(run.summary | {"machine": f"m{i}"} | figure, run.records) for i, figure in enumerate(figures))
    return Report("made-up", 1, tuple(runs))


def line(report: Report, name: str) -> str:
    return next(text for text in bold(report).splitlines() if text.startswith(name))


def test_ratios_are_to_the_most_throughput_and_to_the_least_latency() -> None:
    report = machines(output_throughput=[100.0, 400.0, 50.0], ttft_p50_ms=[30.0, 60.0, 20.0])
    assert line(report, "output (tok/s)").count("×1.00") == 1
    assert re.findall(r"<\s*([^<>]*?)\s*>", line(report, "output (tok/s)"))[:2] == ["400", "[×1.00]"]
    assert [part in line(report, "output (tok/s)") for part in ("[×0.250]", "[×1.00]", "[×0.125]")] == [True] * 3
    assert [part in line(report, "TTFT p50 (ms)") for part in ("[×1.50]", "[×3.00]", "[×1.00]")] == [True] * 3


def test_only_the_best_is_bold_and_so_is_what_equals_it_in_three_digits() -> None:
    row = line(machines(output_throughput=[400.0, 399.9, 300.0]), "output (tok/s)")
    assert row.count("<[×1.00]>") == 2
    assert "<[×0.750]>" not in row


def test_a_saturated_machine_wins_no_latency_and_shows_what_it_holds() -> None:
    report = machines(
        saturated=[True, False, False], sustainable_rate=[1.87, None, None], ttft_p50_ms=[1.0, 40.0, 80.0]
    )
    row = line(report, "TTFT p50 (ms)")
    assert "saturated" in row and "[×1.00]" in row and "[×2.00]" in row
    holds = line(report, "can hold (req/s)")
    assert "1.87" in holds and holds.count("keeps up") == 2
    assert "can hold" not in printed(machines(ttft_p50_ms=[1.0, 2.0]), 120)


def test_nothing_is_a_multiple_of_zero() -> None:
    assert "×" not in line(machines(request_goodput=[0.0, 0.0]), "goodput (req/s)")
    row = line(machines(energy_per_output_token_j=[0.0, 2.0]), "energy (J per output token)")
    assert "×" not in row and "2.00" in row


def test_goodput_only_under_an_slo() -> None:
    assert "goodput" in printed(machines(machine=["a", "b"]), 120)
    assert "goodput" not in printed(machines(slo=[None, None]), 120)


def test_a_machine_alone_is_compared_with_nobody() -> None:
    assert "×" not in printed(one_run(), 80)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("count", [2, 4, 6, 9])
def test_every_figure_is_there_and_fits(width: int, count: int) -> None:
    made = eight_runs().runs
    runs = tuple(
        RunResult(made[i % 8].summary | {"model": "m", "machine": f"machine-number-{i}"}, made[i % 8].records)
        for i in range(count)
    )
    text = printed(Report("many", 1, runs), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for run in runs:
        for key in ("request_throughput", "output_throughput", "energy_per_output_token_j"):
            assert significant(run.number(key)) in text
    assert text.count("×1.00") >= 8  # the best of each row, ratios over all blocks
    blocks = text.count("preemptions")
    assert blocks == {(80, 9): 2}.get((width, count), 1)


def test_models_stand_apart_and_warnings_below() -> None:
    text = printed(eight_runs(), 120)
    assert text.index(MODELS[0]) < text.index(MODELS[1])
    assert text.count("warning: ") == 1 and "fitted on fp8" in text


def test_a_run_without_results_shows_dashes() -> None:
    text = printed(nothing_completed(), 80)
    assert "saturated" not in text and "-" in text
    assert printed(Report("none", 1, ()), 80).strip() == ""


def test_a_very_narrow_terminal_is_no_error() -> None:
    assert printed(eight_runs(), 10)
