"""Whole tiles in the products of steps: a stack's choice, on every kind of chip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.machine import Machine
from simulator.cost.matmul import matmul
from simulator.cost.step import step_cost
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.operation import Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.quantity import Known
from simulator.stack.parameters import Tiles
from simulator.stack.stack import Stacks

CHIPS = ("h100-sxm-8", "a100-sxm-80g-8", "tpu-v5p-64", "wormhole-t3000", "xeon-6980p-2s", "mi300x-8")


def machines(chip: str, tiles: Tiles | None = None) -> tuple[Machine, Machine]:
    """(smooth, with tiles)."""
    profile = Catalogue().load(chip)
    stack = Stacks().load(profile.default_stack)
    cut = stack.model_copy(update={"tiles": tiles or Tiles()})
    return Machine(profile, stack, Parallelism()), Machine(profile, cut, Parallelism())


def product(m: float | np.ndarray, n: float = 4096, k: float = 4096, groups: float = 1.0) -> Matmul:
    return Matmul("product", m, n, k, "bf16", "ffn", groups)


@settings(max_examples=40)
@given(st.sampled_from(CHIPS), st.integers(1, 5000), st.integers(16, 8192), st.integers(16, 8192), st.integers(1, 64))
def test_whole_tiles_never_take_less_than_the_smooth_limit(chip: str, m: int, n: int, k: int, groups: int) -> None:
    smooth, cut = (matmul(product(float(m), n, k, groups), each) for each in machines(chip))
    assert float(cut.total_seconds) >= float(smooth.total_seconds) * (1 - 1e-9)
    assert (cut.flops, cut.bytes) == (smooth.flops, smooth.bytes)


@pytest.mark.parametrize("chip", CHIPS)
def test_large_products_do_not_feel_their_tiles(chip: str) -> None:
    smooth, cut = (float(matmul(product(2.0**16, 2**14, 2**13), each).total_seconds) for each in machines(chip))
    assert cut == pytest.approx(smooth, rel=0.06)


def test_one_row_more_than_full_waves_is_a_step_on_a_gpu() -> None:
    _, h100 = machines("h100-sxm-8")
    rows = np.arange(1.0, 2049.0)
    seconds = np.asarray(matmul(product(rows, 132 * 64, 8192), h100).total_seconds)
    jumps = np.diff(seconds) / seconds[:-1]
    assert np.all(jumps > -1e-9)
    # Flat over a tile's rows, then up by what another row of tiles takes.
    assert np.mean(jumps > 0.01) < 0.05
    assert jumps.max() > 0.1


def test_few_units_draw_less_than_the_memory_gives() -> None:
    slow = Tiles(unit_bandwidth=Known(5e9))
    _, free = machines("h100-sxm-8")
    _, bound = machines("h100-sxm-8", slow)
    narrow = product(1.0, 64, 16384)
    assert float(matmul(narrow, bound).total_seconds) > 2 * float(matmul(narrow, free).total_seconds)


def test_waves_cost_beside_the_products() -> None:
    _, free = machines("h100-sxm-8")
    _, filled = machines("h100-sxm-8", Tiles(wave=Known(1e-6)))
    whole = product(128.0, 132 * 64)
    more = float(matmul(whole, filled).total_seconds) - float(matmul(whole, free).total_seconds)
    assert more == pytest.approx(1e-6, rel=0.3)
    assert float(matmul(product(0.0), filled).total_seconds) == 0


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_a_table_of_steps_with_tiles_lies_above_the_smooth_one(model: str) -> None:
    architecture = load_model(model)
    smooth, cut = (
        np.asarray(step_cost(architecture, Precision(), each, 300, 8).tokens.total_seconds)
        for each in machines("h100-sxm-8")
    )
    assert np.all(cut >= smooth * (1 - 1e-9))
    assert np.all(cut[1:] < 1.5 * smooth[1:])
