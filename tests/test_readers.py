"""Readers of models whose layers differ: what they ask of a machine adds up, and nonsense is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo_counts_mixed import TOTALS

from simulator.errors import ModelError
from simulator.model import zoo
from simulator.model.architecture import Architecture
from simulator.model.ffn.together import Together
from simulator.model.huggingface import read_config
from simulator.model.number_format import Precision
from simulator.model.operation import Batch, Gather, Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model


def config(name: str) -> dict[str, Any]:
    """A packaged config, to be changed."""
    found: dict[str, Any] = json.loads((Path(zoo.__file__).parent / f"{name}.json").read_text())
    return found


def step(model: Architecture, tokens: float) -> Batch:
    """As many sequences decode one token each, far into their contexts."""
    return Batch(tokens, tokens, {window: tokens * float(window or 5000) for window in model.windows})


@pytest.mark.parametrize("name", TOTALS)
def test_two_chips_do_half_each_or_say_why_not(name: str) -> None:
    model, layout = load_model(name), Parallelism(tp=2)
    assert not [
        p for layer in model.layers for part in (layer.attention, layer.ffn) if part for p in part.check(layout)
    ]

    def work(layout: Parallelism) -> float:
        found = model.forward(step(model, 64.0), layout, Precision())
        return float(sum(2 * o.m * o.n * o.k * np.asarray(o.repeat) for o in found if isinstance(o, Matmul)))

    # Latents, routers, indexers and mixers of streams are copied.
    assert 0.5 * work(Parallelism()) <= work(layout) * (1 + 1e-9) < 0.65 * work(Parallelism())


@pytest.mark.parametrize(("name", "effective"), [("gemma-3n-e4b", 3.98e9), ("gemma-3n-e2b", 1.91e9)])
def test_gemma_3n_without_its_embeddings_is_as_large_as_published(name: str, effective: float) -> None:
    """The maker counts key and value projections also where a layer borrows them, 2.1 M each."""
    model = load_model(name)
    borrowed = sum(layer.count for layer in model.layers if getattr(layer.attention, "borrowed", False))
    counts = model.parameters_by_class()
    own = model.total_parameters() - counts["table"] - counts["embedding"] + borrowed * 2 * 512 * 2048
    assert own == pytest.approx(effective, rel=0.003)


def test_the_ngram_table_of_qwen_is_as_large_and_as_seldom_read_as_published() -> None:
    """51B parameters (swift.readthedocs.io); a token reads 16 rows, of 160 bytes in 8 bits."""
    model = load_model("qwen3.8-flash-next")
    assert model.parameters_by_class()["table"] == pytest.approx(51e9, rel=0.005)
    assert model.total_parameters() - 51.2e9 == pytest.approx(125e9, rel=0.006)
    stored = Precision("fp8")
    (rows,) = (
        o
        for o in model.forward(step(model, 1.0), Parallelism(), stored)
        if isinstance(o, Gather) and o.tensor == "table"
    )
    assert (rows.rows, rows.row_bytes, rows.address_known) == (16, 160, "token")
    (ffn,) = (layer.ffn for layer in model.layers if layer.ffn and layer.ffn.address_known == "token")
    assert isinstance(ffn, Together)


def test_borrowed_keys_need_a_layer_of_their_kind_before() -> None:
    with pytest.raises(ModelError, match="num_kv_shared_layers 32 leaves a kind of layer without keys of its own"):
        read_config(config("gemma-3n-e4b") | {"num_kv_shared_layers": 32})


def test_layers_with_a_window_may_have_other_heads() -> None:
    """Step 3.5's own config.json: 96 heads where a layer has a window, and entries for the prediction layers."""
    changed = config("step-3.7-flash")
    changed["layer_types"] = changed["layer_types"] + ["sliding_attention"] * 3
    changed["attention_other_setting"] = {"num_attention_heads": 96, "num_attention_groups": 8, "head_dim": 128}
    added = read_config(changed).total_parameters() - load_model("step-3.7-flash").total_parameters()
    assert added == 33 * 32 * (2 * 128 * 4096 + 4096)


NONSENSE: list[Any] = [None, -1, 0, 1.5, "x", True, [], [-1], {}, {"a": 1}, 10**8]


@pytest.mark.parametrize("name", TOTALS)
def test_nonsense_is_refused_or_read_but_never_fails(name: str) -> None:
    """Every key of a config, taken out or replaced by rubbish: an architecture or a ModelError, nothing else."""
    whole = config(name)
    inner = whole.get("text_config", whole)
    for key in [key for key in inner if not key.startswith("_")]:
        for value in NONSENSE:
            changed = inner | {key: value}
            try:
                model = read_config(whole | {"text_config": changed} if inner is not whole else changed)
            except ModelError:
                continue
            assert model.total_parameters() > 0
