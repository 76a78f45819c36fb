"""Money: what a machine costs an hour, bought or rented, and what a run costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simulator.cost.money import YEAR_S, Terms, annuity, capital_at, common_basis, hourly_cost
from simulator.errors import RamwiseError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.memory_price import memory_prices
from simulator.metrics.money import money_summary
from simulator.scenario import read_scenario
from simulator.serve import prepare
from simulator.serve import run as run_scenario

TERMS = Terms("capital", 3 * YEAR_S, 0.0, 0.1 / 3.6e6, 0.0, 0.0, 1.0)
H100 = Catalogue().load("h100-sxm-8")
XEON = Catalogue().load("xeon-6980p-2s")
SCENARIO = """\
model: llama-3.1-8b
machines: [{hardware: h100-sxm-8, tp: 1}, {hardware: tpu-v6e-16, tp: 1}]
traffic: {offline: true, isl: 100, osl: 10, requests: 3}
"""


def test_the_essay_s_bill_of_a_month() -> None:
    """128 nodes of 100,000 USD over 36 months, 10 kW each at 0.1 USD/kWh: 355,556 + 92,160 USD."""
    month = YEAR_S / 12
    hourly = hourly_cost(H100, TERMS, capital=100_000.0)
    assert hourly is not None
    spent = hourly.of(month, 128, 128 * 10e3 * 30 * 86_400.0)
    assert spent["machine"] == pytest.approx(355_556, abs=0.5)
    assert spent["energy"] == pytest.approx(92_160)


def test_an_annuity_pays_the_loan_back() -> None:
    debt, paid = 1.0, annuity(5, 0.08)
    for _ in range(5):
        debt = debt * 1.08 - paid
    assert debt == pytest.approx(0.0, abs=1e-12)
    assert annuity(5, 1e-9) == pytest.approx(annuity(5, 0.0), rel=1e-6)


def test_dearer_memory_raises_the_price_by_its_bytes() -> None:
    ddr = [float(memory_prices().of(name)["ddr"]) for name in ("2025-12", "2026-06")]
    assert XEON.price is not None
    held = 2 * float(XEON.chip.memory[0].capacity)
    dearer = capital_at(XEON, 41_700.0, "2025-12", "2026-06")
    assert dearer - 41_700.0 == pytest.approx(held * (ddr[1] - ddr[0]))
    assert capital_at(XEON, 41_700.0, "2025-12", "2025-12") == 41_700.0
    assert capital_at(XEON, 41_700.0, "2025-12", "2023") < 41_700.0


def test_renting_a_node_is_its_chips_by_the_hour() -> None:
    hourly = hourly_cost(H100, replace(TERMS, basis="rental"), rental=3.0)
    assert hourly is not None
    assert hourly.of(7200.0, 0.5, joules=1e9) == {"rental": 2 * 0.5 * 8 * 3.0}  # electricity is in the rent


def test_a_machine_half_used_costs_twice_as_much_an_hour() -> None:
    whole, half = (hourly_cost(H100, replace(TERMS, utilisation=share)) for share in (1.0, 0.5))
    assert whole is not None
    assert half is not None
    assert half.parts["machine"] == pytest.approx(2 * whole.parts["machine"])


def test_tokens_share_the_cost() -> None:
    hourly = hourly_cost(H100, TERMS)
    figures = money_summary(hourly, TERMS, seconds=3600.0, nodes=1.0, joules=3.6e6, output_tokens=2_000_000)
    assert figures["cost_per_mtok_usd"] == pytest.approx(figures["cost_usd"] / 2)
    assert figures["cost_usd"] == pytest.approx(sum(figures["cost_by_component_usd"].values()))
    nothing = money_summary(None, TERMS, seconds=3600.0, nodes=1.0, joules=3.6e6, output_tokens=1)
    assert set(nothing.values()) == {None}


def test_machines_are_compared_on_one_basis() -> None:
    tpu = Catalogue().load("tpu-v6e-16")
    assert common_basis([H100, tpu]) == "rental"
    assert common_basis([H100, XEON]) == "capital"
    assert common_basis([H100, XEON], rental=["xeon-6980p-2s"]) == "rental"


def test_a_machine_without_a_price_is_said(tmp_path: Path) -> None:
    path = tmp_path / "priced.yaml"
    path.write_text(f"{SCENARIO}money: {{basis: capital}}\n")
    gpu, tpu = (run.summary for run in run_scenario(*read_scenario(path)).runs)
    assert gpu["cost_usd"] > 0
    assert gpu["warnings"] == []
    assert tpu["cost_usd"] is None
    assert "write money: {capital: {tpu-v6e-16: 250000 USD}}" in tpu["warnings"][0]


@pytest.mark.parametrize(
    ("money", "said"),
    [
        (
            "{memory_prices: '2026-07', basis: capital, capital: {tpu-v6e-16: 1 MUSD}}",
            "memory price scenario '2026-07'",
        ),
        ("{amortisation: 5}", "5 has no unit"),
        ("{interest: 1.2}", "more than 1"),
    ],
)
def test_what_cannot_be_priced_is_said(tmp_path: Path, money: str, said: str) -> None:
    path = tmp_path / "priced.yaml"
    path.write_text(f"{SCENARIO}money: {money}\n")
    with pytest.raises(RamwiseError, match=r"(?s).*") as failure:
        prepare(*read_scenario(path))
    assert said in str(failure.value)
