"""PowerInfer: neurons split over a GPU and its host (arXiv 2312.12456, figure 13) and a sparse model on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.model.ffn.activation_sparse import ActivationSparseFFN
from simulator.validation import sparse
from simulator.validation.inference import Inference
from simulator.validation.predict import predictions
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import FOLDER, SHIPPED, Row, measurements

FIGURE_13 = {  # tokens a second on an RTX 4090 and an i9-13900K, int4, 128 tokens of output
    "OPT-66B sparse": 12.0,
    "OPT-175B sparse": 1.8,
    "Falcon(ReLU)-40B sparse": 27.0,
    "LLaMA2(ReGLU)-70B sparse": 17.0,
}


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    wanted = ("OFFL-0057", "spi-001", "spi-002")
    return {row.id: row for row in measurements([FOLDER / name for name in SHIPPED]) if row.id in wanted}


def test_tokens_a_second_of_each_model(rows: dict[str, Row]) -> None:
    asked = [Interpreter().ask(part) for part in sparse.members(rows["OFFL-0057"])]
    questions = {found.row.model: found for found in asked if isinstance(found, Question)}
    found = dict(predictions(questions.values()))
    assert set(questions) == set(FIGURE_13)
    for model, question in questions.items():
        assert found[question.row.id] == pytest.approx(FIGURE_13[model], rel=0.30)
    split = {model: question.architecture.layers[0].ffn for model, question in questions.items()}
    hot = {model: float(ffn.hot) for model, ffn in split.items() if isinstance(ffn, ActivationSparseFFN)}
    assert hot["OPT-175B sparse"] == 0.0  # its attention alone is larger than the GPU
    assert 0.9 * 0.05 < hot["Falcon(ReLU)-40B sparse"] < 0.05


def test_rows_of_the_tables(rows: dict[str, Row]) -> None:
    """The mean over the models is the README's 13.2 tokens a second; the CPU alone gains 1.59 times by sparsity."""
    points = {point.row.id: point for point in Inference().points(list(rows.values()))}
    assert points["OFFL-0057"].simulated == pytest.approx(13.2, rel=0.15)
    dense, few = points["spi-001"].simulated, points["spi-002"].simulated
    assert few == pytest.approx(8.21, rel=0.30)
    assert dense is not None and few is not None and few / dense == pytest.approx(8.21 / 5.17, rel=0.15)


def test_a_mean_lacks_what_one_model_lacks(rows: dict[str, Row]) -> None:
    nameless = replace(rows["OFFL-0057"], hardware="abacus")
    (point,) = Inference().points([nameless])
    assert point.simulated is None and "no profile of abacus" in point.reason
