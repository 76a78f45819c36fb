"""Measured machines of several memories: experts in a host's DRAM, weights that cross the link."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from simulator.validation.predict import predict
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import Reason, Row, measurements


@cache
def rows(prefix: str) -> tuple[Row, ...]:
    return tuple(row for row in measurements() if row.id.startswith(prefix) and not row.apart)


@cache
def answers(prefix: str) -> dict[str, tuple[float, float, Question]]:
    """Row id -> simulated, measured, question."""
    interpreter = Interpreter()
    asked = [interpreter.ask(row) for row in rows(prefix)]
    questions = [question for question in asked if isinstance(question, Question)]
    found = predict(questions)
    return {
        q.row.id: (float(found[q.row.id]), q.measured, q) for q in questions if not isinstance(found[q.row.id], Reason)
    }  # type: ignore[arg-type]


def errors(prefix: str, metric: str) -> np.ndarray:
    simulated = [
        (s, m) for s, m, q in answers(prefix).values() if q.row.metric.startswith(metric) and q.machine.stack.host
    ]
    return np.array([abs(s / m - 1) for s, m in simulated])


def test_experts_on_the_cpu_decode_within_five_percent_median() -> None:
    found = errors("kt-", "decode")
    assert len(found) >= 18
    assert np.median(found) < 0.05
    assert found.max() < 0.15


def test_prompts_through_the_cpu_and_through_the_link_are_within_ten_percent_median() -> None:
    found = errors("kt-", "prefill")
    assert len(found) >= 25
    assert np.median(found) < 0.10


def test_eight_against_six_experts_and_one_against_two_sockets() -> None:
    points = answers("kt-")
    for one, other in (("kt-030", "kt-032"), ("kt-034", "kt-036"), ("kt-032", "kt-036"), ("kt-030", "kt-034")):
        (simulated, measured, _), (below, reference, _) = points[one], points[other]
        assert abs(simulated / below - measured / reference) < 0.05


def test_six_experts_are_another_model_in_a_smaller_node() -> None:
    one, two = answers("kt-")["kt-034"][2], answers("kt-")["kt-032"][2]
    assert one.architecture.name == "deepseek-v3 with 6 experts"
    assert two.architecture.name == "deepseek-v3"
    assert one.machine.profile.host is not None
    assert two.machine.profile.host is not None
    assert (one.machine.profile.host.node.chips, two.machine.profile.host.node.chips) == (1, 2)


def test_offloaded_weights_and_caches_are_within_thirty_percent() -> None:
    points = answers("OFFL-")
    found = np.array([abs(simulated / measured - 1) for simulated, measured, _ in points.values()])
    assert len(found) >= 22
    assert found.max() < 0.30
    assert np.median(found) < 0.12


def test_where_offloaded_tensors_lie_is_read_off_the_row() -> None:
    points = answers("OFFL-")
    on_the_chip, both_away = points["OFFL-0026"][2].machine, points["OFFL-0036"][2].machine
    assert on_the_chip.share_in_main("kv") == 1.0
    assert both_away.share_in_main("kv") == both_away.share_in_main("ffn") == 0.0
    assert 0.0 < points["OFFL-0002"][2].machine.share_in_main("ffn") < 1.0
    assert points["OFFL-0007"][2].machine.placement.places == {}


def test_decode_grows_with_threads_until_the_memory_is_full() -> None:
    points = answers("ik-")
    few, four, many, all_cores = (points[f"ik-{number:03d}"] for number in (65, 66, 70, 71))
    assert abs(few[0] / few[1] - 1) < 0.10  # 2 threads of a 7773X
    assert four[0] / few[0] == pytest.approx(2.0, abs=0.1)  # 1.91 measured
    assert many[0] / four[0] < 4.0  # eight times the threads
    assert all_cores[0] < many[0]  # 64 threads are slower than 32: their barriers cost more (measured too)
