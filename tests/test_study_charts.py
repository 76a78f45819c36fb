"""What the charts of studies say of what they leave out."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from simulator.report.study_charts import MOST_LINES, draw_metrics


@pytest.mark.parametrize(("values", "said"), [(3, "Requests in flight"), (20, "Requests in flight\nmeans over width")])
def test_lines_that_are_means_say_over_what(values: int, said: str) -> None:
    points = list(product([1, 2, 4], range(values)))
    table = pd.DataFrame(points, columns=["traffic.concurrency", "model.ffn[0].width"]).assign(
        machine="h100", model="m", tpot_mean_ms=1.0
    )
    assert (values > MOST_LINES) == ("means" in said)
    figure = draw_metrics(table, ["traffic.concurrency", "model.ffn[0].width"], ["tpot_mean_ms"])
    assert figure is not None
    assert figure.axes[0].get_xlabel() == said


def test_more_machines_and_models_than_lines_are_rows() -> None:
    machines, models = [f"machine {i}" for i in range(5)], [f"model {i}" for i in range(4)]
    rows = [
        (1.0 + i + 10 * j * x, m, o, x) for i, m in enumerate(machines) for j, o in enumerate(models) for x in (1, 8)
    ]
    table = pd.DataFrame(rows, columns=["tpot_mean_ms", "machine", "model", "traffic.concurrency"])
    fig = draw_metrics(table, ["traffic.concurrency"], ["tpot_mean_ms"])
    assert fig is not None
    ax = fig.axes[0]
    named = [tick.get_text() for tick in ax.get_yticklabels()]
    assert named[:7] == ["model 0", *machines, "model 1"]
    assert len(ax.collections) == len(machines) * len(models)
    assert sorted({len(dots.get_offsets()) for dots in ax.collections}) == [2]
    assert fig.get_supxlabel() == "Dots from small to large: requests in flight: 1, 8"


def test_a_share_of_a_hundred_is_not_cut_off_at_one() -> None:
    table = pd.DataFrame({"x": [1.0, 2.0], "share_percent": [20.0, 40.0], "machine": "a", "model": "b"})
    figure = draw_metrics(table, ["x"], ["share_percent"])
    assert figure is not None
    assert figure.axes[0].get_ylim()[1] >= 40.0
