"""Places where functions pass zero, against halving."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.cost.crossing import CLOSE, ROUNDS, crossing

LOW, HIGH = np.full(5, 1e-9), np.full(5, 1e3)
NONE = np.zeros(5, dtype=bool)


def test_powers_are_found_in_few_evaluations() -> None:
    wanted = np.array([1e-7, 1e-3, 0.5, 7.0, 900.0])
    calls = []

    def over(batch: np.ndarray) -> np.ndarray:
        calls.append(batch)
        return np.log(batch / (1.0 + batch) ** 0.7 / (wanted / (1.0 + wanted) ** 0.7))

    assert crossing(over, LOW, HIGH, NONE) == pytest.approx(wanted, rel=10 * CLOSE)
    assert len(calls) < 16


def test_a_jump_is_found_as_by_halving() -> None:
    edges = np.array([1e-6, 0.1, 3.0, 30.0, 300.0])
    calls = []

    def over(batch: np.ndarray) -> np.ndarray:
        calls.append(batch)
        return np.where(batch < edges, -1.0, 1.0)

    assert crossing(over, LOW, HIGH, NONE) == pytest.approx(edges, rel=10 * CLOSE)
    assert len(calls) <= ROUNDS


def test_what_never_passes_stands_at_its_end() -> None:
    above, below = np.array([1.0, -1.0, 1.0, -1.0, 1.0]), np.array([False, False, True, True, True])
    found = crossing(lambda batch: above * np.ones(5), LOW, HIGH, below)
    assert found == pytest.approx([1e-9, 1e3, 1e3, 1e3, 1e3])
