"""Fitting a stack to measurements: what is known comes back, wild rows do not lead it astray, bad input is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from simulator.errors import InputError
from simulator.validation.fit import Fit, as_yaml, fit, main, questions
from simulator.validation.predict import predict
from simulator.validation.question import UNITS, Question

PATHS = ("streaming.bf16", "layer_overhead", "collectives.launch")


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions("gpt-fast-2023", "a100-sxm-80g")


def measured_as(asked: list[Question], simulated: dict[str, float]) -> list[Question]:
    """The same rows, had they been measured like that."""
    return [replace(q, row=replace(q.row, value=simulated[q.row.id] / UNITS[q.row.unit][0])) for q in asked]


def test_numbers_that_made_the_rows_come_back(asked: list[Question]) -> None:
    stack = asked[0].machine.stack
    truth = stack.model_copy(update={"layer_overhead": type(stack.layer_overhead)(70e-6)})
    made = predict([replace(q, machine=replace(q.machine, stack=truth)) for q in asked])
    found = fit(measured_as(asked, made), PATHS, spread=10.0)  # type: ignore[arg-type]
    assert found.numbers["layer_overhead"] == pytest.approx(70e-6, rel=1e-2)
    assert found.numbers["streaming.bf16"] == pytest.approx(float(stack.streaming["bf16"]), rel=1e-2)
    assert np.abs(found.after).max() < 5e-3 < np.abs(found.before).max()


def test_a_wild_row_pulls_with_a_bounded_force(asked: list[Question]) -> None:
    made = dict(predict(asked))
    made[asked[3].row.id] = 50.0 * float(made[asked[3].row.id])  # type: ignore[arg-type]
    found = fit(measured_as(asked, made), ("layer_overhead",))  # type: ignore[arg-type]
    assert found.numbers["layer_overhead"] == pytest.approx(float(asked[0].machine.stack.layer_overhead), rel=0.1)


def test_shipped_numbers_are_the_fit_of_shipped_rows() -> None:
    rows = questions("vllm-2024", "a100-sxm-40g")
    found, stack = fit(rows, ("layer_overhead", "kv_streaming")), rows[0].machine.stack
    assert found.numbers["layer_overhead"] == pytest.approx(float(stack.layer_overhead), rel=0.05)
    assert np.median(np.abs(found.after)) < 0.04


def test_the_yaml_says_how_many_rows_how_well_and_when(asked: list[Question]) -> None:
    found = Fit({"streaming.bf16": 0.8, "layer_overhead": 5e-5}, np.zeros(1), np.array([0.01, -0.03]))
    text = as_yaml(found, asked, date(2026, 11, 24))
    assert f"fit of 2026-11-24 to {len(asked)} rows (gpt-fast-2023 on a100-sxm-80g): median error 2.0 %" in text
    assert "    streaming: {bf16: 0.8}\n    layer_overhead: 50 us\n" in text


def test_what_cannot_be_fitted_is_refused(asked: list[Question]) -> None:
    with pytest.raises(InputError, match="did you mean 'a100-sxm-80g'"):
        questions("gpt-fast-2023", "a100-sxm-81g")
    with pytest.raises(InputError, match="no number above 0 at 'layer_overheat'"):
        fit(asked, ("layer_overheat",))
    with pytest.raises(SystemExit, match="fit: unknown chip"):
        main(["gpt-fast-2023", "tpu"])
