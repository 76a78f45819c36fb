"""Joules of a chip in closed form, what measured rows of power and energy mean, and the simulated against them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.cost.amount import COMPUTE, NETWORK, Amount
from simulator.cost.energy import ACTIVE, joules_above_idle
from simulator.cost.machine import Machine
from simulator.hardware import Catalogue
from simulator.model.parallelism import Parallelism
from simulator.stack.stack import Stacks
from simulator.validation.compare import Point
from simulator.validation.energy import chips_watts, joules_per_token, one_chip_watts, step_tokens, wall_watts
from simulator.validation.question import Interpreter, Question
from simulator.validation.rows import shipped
from simulator.validation.validation import validate

H100 = Machine(Catalogue().load("h100-sxm-8"), Stacks().load("vllm-2025"), Parallelism())
POWER = H100.profile.chip.power


def above_idle(amount: Amount, seconds: float) -> float:
    parts, factor = joules_above_idle(amount, seconds, H100)
    return float(sum(parts.values()) * factor)


def test_a_busy_chip_draws_its_active_power_and_its_flops() -> None:
    amount = Amount({COMPUTE: 1.0}, {"bf16": 1e14}, {})
    assert above_idle(amount, 2.0) == pytest.approx(2.0 * float(POWER.active) + 1e14 * float(POWER.flop["bf16"]))


def test_waiting_for_other_chips_draws_idle_power() -> None:
    amount = Amount({COMPUTE: 1.0, NETWORK: 1.0}, {}, {})
    assert above_idle(amount, 2.0) == pytest.approx(float(POWER.active))
    assert above_idle(Amount({NETWORK: 2.0}, {}, {}), 2.0) == 0.0


def test_the_limit_shrinks_every_part_alike() -> None:
    amount = Amount({COMPUTE: 1.0}, {"bf16": 1e15}, {})
    parts, factor = joules_above_idle(amount, 1.0, H100)
    assert above_idle(amount, 1.0) == pytest.approx(float(POWER.cap) - float(POWER.idle))
    assert float(np.asarray(parts[ACTIVE])) * float(factor) < float(POWER.active)


def question(id: str) -> Question:
    row = next(row for row in shipped() if row.id == id)
    asked = Interpreter().ask(row)
    assert isinstance(asked, Question)
    return asked


def test_the_level_of_a_row_decides_what_is_added_up() -> None:
    asked = replace(question("gg-019"), chips=1)  # 156 W at the wall of a DGX Spark
    base = float(asked.machine.profile.node.power.base)
    assert wall_watts(asked, 2.0, 200.0) == chips_watts(asked, 2.0, 200.0) + base == 100.0 + base
    several = replace(asked, chips=4, batch=8.0)
    assert chips_watts(several, 2.0, 200.0) == 4 * one_chip_watts(several, 2.0, 200.0) == 400.0
    assert joules_per_token(chips_watts, step_tokens)(several, 2.0, 200.0) == 100.0


@pytest.fixture(scope="module")
def points() -> list[Point]:
    found = validate(keep=lambda row: row.unit in ("W", "J/tok")).points
    return [point for point in found if point.simulated is not None]


def median_error(points: list[Point]) -> float:
    return float(np.median([abs(point.error) for point in points]))


def test_joules_of_a_token_are_within_a_tenth(points: list[Point]) -> None:
    tokens = [point for point in points if point.row.metric == "j_per_token"]
    assert len(tokens) > 300
    assert median_error(tokens) < 0.10


@pytest.mark.parametrize("chip", ["h100-sxm", "b200-sxm"])
def test_power_is_clearly_better_than_a_constant(points: list[Point], chip: str) -> None:
    found = [p for p in points if p.row.metric == "gpu_power_w" and p.row.hardware == chip]
    found = [p for p in found if "ML.ENERGY" in p.row.engine]
    interpreter = Interpreter()
    constant = []
    for point in found:
        asked = interpreter.ask(point.row)
        assert isinstance(asked, Question)
        watts = 0.7 * float(asked.machine.profile.chip.power.cap) * asked.chips
        constant.append(abs(watts / point.row.value - 1))
    assert median_error(found) < 0.8 * float(np.median(constant))


def test_power_follows_the_batch(points: list[Point]) -> None:
    """Llama 3.1 70B on two B200: measured power doubles from 8 to 1,000 sequences, and so does the simulated."""
    found = [p for p in points if p.row.metric == "gpu_power_w" and p.row.hardware == "b200-sxm"]
    found = [p for p in found if p.row.model.endswith("Llama-3.1-70B-Instruct")]
    measured = [p.row.value for p in found]
    simulated = [p.simulated for p in found if p.simulated is not None]
    assert np.corrcoef(measured, simulated)[0, 1] > 0.95


def test_a_kernel_with_a_power_checks_the_energies_at_its_own_time(tmp_path: Path) -> None:
    """A product of 2e12 FLOPs in 2 ms on a B200: idle + active + FLOPs and bytes over the measured time."""
    path = tmp_path / "gemm.csv"
    path.write_text(
        "device,version,kernel_source,gemm_dtype,m,n,k,latency,power\n"
        "NVIDIA B200,0.22.0,vllm,bfloat16,10000,10000,10000,20,500\n"
        "NVIDIA B200,0.22.0,vllm,bfloat16,10000,10000,10000,2,990\n"
    )
    slow, fast = validate([path]).points
    chip = Catalogue().load("b200-sxm-8").chip
    watts = float(chip.power.idle) + float(chip.power.active)
    watts += (2e12 * float(chip.power.flop["bf16"]) + 6e8 * float(chip.main_memory.energy or 0)) / 20e-3
    assert (slow.row.value, slow.row.unit, slow.simulated) == (500.0, "W", pytest.approx(watts))
    assert fast.simulated == float(chip.power.cap)
