"""Ranges: samples that fill them, that contenders share, and what they say of a ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator.hardware.catalogue import Catalogue
from simulator.quantity import Known
from simulator.scenario import ServingMachineChoice
from simulator.stack.stack import Stacks
from simulator.study.sweep import sweep
from simulator.study.uncertainty import Uncertainty, triangular

H100 = ServingMachineChoice(hardware="h100-sxm-8")


def uncertainty(samples: int = 64, seed: int = 7) -> Uncertainty:
    return Uncertainty(samples, seed, Catalogue(), Stacks())


def test_triangular_quantiles_are_those_of_the_density() -> None:
    share = np.linspace(0, 1, 100_001)
    values = triangular(share, 1.0, 2.0, 5.0)
    assert values[0] == 1.0
    assert values[-1] == 5.0
    assert (np.diff(values) >= 0).all()
    assert values.mean() == pytest.approx((1 + 2 + 5) / 3, rel=1e-4)
    assert values.var() == pytest.approx((1 + 4 + 25 - 2 - 5 - 10) / 18, rel=1e-3)
    assert triangular(share, 3.0, 3.0, 3.0).tolist() == [3.0] * len(share)


def test_every_stratum_is_met_once() -> None:
    number = Known(0.5, range=(0.0, 1.0), unit="")
    draws = np.sort(uncertainty().draws("x:y", number))
    edges = triangular(np.arange(65) / 64, 0.0, 0.5, 1.0)
    assert ((draws >= edges[:-1]) & (draws <= edges[1:])).all()


def test_draws_depend_on_the_seed_and_the_name_alone() -> None:
    number = Known(2.0, range=(1.0, 4.0), unit="")
    assert uncertainty().draws("a:b", number).tolist() == uncertainty().draws("a:b", number).tolist()
    assert uncertainty().draws("a:b", number).tolist() != uncertainty().draws("a:c", number).tolist()
    assert uncertainty(seed=8).draws("a:b", number).tolist() != uncertainty().draws("a:b", number).tolist()


def test_a_sample_changes_ranged_numbers_and_no_others() -> None:
    some = uncertainty()
    numbers = some.numbers(H100)
    assert "h100-sxm-8:price.rental" in numbers
    assert some.sample(H100, 0) == H100
    changed = some.sample(H100, 3)
    assert len(changed.change) + len(changed.stack_change) == len(numbers)
    own = H100.model_copy(update={"change": {"price.rental": "2 USD/h"}})
    assert some.sample(own, 3).change["price.rental"] == "2 USD/h"


def test_samples_make_bands_and_shares(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text(
        "model: llama-3.1-8b\nmachines: [{hardware: h100-sxm-8, tp: 1}, {hardware: xeon-6980p-2s, tp: 2}]\n"
        "traffic: {request_rate: 2 /s, isl: 300, osl: 20, requests: 30}\nmoney: {basis: capital}\n"
    )
    (tmp_path / "study.yaml").write_text(
        "study: sweep\nscenario: chat.yaml\nevaluate: steady\nsamples: 8\n"
        "axes: {traffic.request_rate: [0.1 /s, 2 /s]}\nmetrics: [energy_per_output_token_j]\n"
    )
    found = sweep(tmp_path / "study.yaml", tmp_path / "out")
    assert len(found.table) == 2 * 2 * 9
    assert found.table["error"].isna().all()
    means = found.means()
    assert (means["energy_per_output_token_j_low"] < means["energy_per_output_token_j_high"]).all()
    ahead = found.rankings()["energy_per_output_token_j"]
    assert ahead["machine"].tolist() == ["h100-sxm-8", "h100-sxm-8"]
    assert (ahead["factor"] > 1).all()
    assert ahead["share"].between(0, 1).all()
    assert (
        sweep(tmp_path / "study.yaml", tmp_path / "out", samples=0)
        .rankings()["energy_per_output_token_j"]["share"]
        .isna()
        .all()
    )
