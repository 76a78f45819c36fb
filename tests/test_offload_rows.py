"""Weights in a host's memory (FlexGen, ZeRO-Inference, MoE-Infinity's table): every row that can be simulated."""

from __future__ import annotations

from statistics import median

import pytest

from simulator.validation.fit import main
from simulator.validation.inference import Inference
from simulator.validation.rows import FOLDER, SHIPPED, measurements

UNSAID = {"no model Switch-large-128": 3, "no stack petals": 2, "computes on a host that the row does not name": 2}


def test_rows_of_offloading() -> None:
    rows = [row for row in measurements([FOLDER / name for name in SHIPPED]) if row.id.startswith("OFFL-")]
    points = list(Inference().points(rows))
    errors = [abs(point.simulated / point.row.value - 1) for point in points if point.simulated is not None]
    reasons = [point.reason for point in points if point.simulated is None]
    assert len(errors) == 24
    assert median(errors) < 0.03
    assert max(errors) < 0.30
    assert {text: reasons.count(text) for text in UNSAID} == UNSAID


def test_a_stack_of_offloading_is_what_its_fit_gives(capsys: pytest.CaptureFixture[str]) -> None:
    """The command in the stack's notes."""
    main(["mixtral-offloading-2024", "rtx-a5000-24g (GDDR6) + host DRAM", "far_streaming.default"])
    assert "far_streaming: {default: 0.316}" in capsys.readouterr().out
