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
