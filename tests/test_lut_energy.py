"""Products by look-up against unpacked ones: T-MAC and llama.cpp on a Jetson AGX Orin (T-MAC's README)."""

from __future__ import annotations

import pytest

from simulator.cost.machine import Machine
from simulator.hardware.catalogue import Catalogue
from simulator.model.architecture import Architecture
from simulator.model.huggingface import read_config
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks
from simulator.validation.steps import Step, step_costs

LLAMA = load_model("llama-2-7b")
BITNET = read_config(
    {
        "model_type": "shape", "layers": 26, "hidden": 3200, "heads": 32, "ffn": 8640, "matrices": 3,
        "vocab": 32002, "tied": False,
    },
    "bitnet-3b",
)  # fmt: skip
CPU, GPU = "jetson-agx-orin-cpu", "jetson-agx-orin"
UNPACKED, LOOKED_UP = "llama-cpp-orin-2024", "t-mac-2024"


def decode(model: Architecture, format: str, stack: str, chip: str, threads: int | None = None) -> tuple[float, float]:
    """Tokens a second and joules a token of one sequence."""
    machine = Machine(Catalogue().load(chip), Stacks().load(stack), Parallelism(), threads=threads)
    precision = Precision(format, kv="fp16", embedding="fp16", head="q6_k")
    seconds, joules = step_costs(model, precision, machine, [Step(1.0, 64.0)])
    return float(1.0 / seconds[0]), float(joules[0])


def test_energy_of_graphics_cores_of_unpacking_and_of_look_ups_is_as_measured() -> None:
    """J a token of Llama-2-7B with 2 bits: 2.12 unpacked on the cores, 1.54 on the GPU, 0.66 looked up. The speeds that
    they rest on are fitted to other rows (one thread, 4 bits); watts of the three are the profiles' own."""
    measured = {
        (UNPACKED, CPU, "q2_k"): (7.08, 2.12),
        (UNPACKED, GPU, "q2_k"): (20.03, 1.54),
        (LOOKED_UP, CPU, "int2"): (15.62, 0.66),
    }
    found = {key: decode(LLAMA, key[2], *key[:2]) for key in measured}
    for key, (speed, joules) in measured.items():
        assert found[key][0] == pytest.approx(speed, rel=0.16)
        assert found[key][1] == pytest.approx(joules, rel=0.12)
    unpacked, graphics, looked_up = (found[key][1] for key in measured)
    assert unpacked > graphics > looked_up
    assert unpacked / looked_up == pytest.approx(2.12 / 0.66, rel=0.15)
    assert graphics / looked_up == pytest.approx(1.54 / 0.66, rel=0.15)


@pytest.mark.parametrize(
    ("model", "format", "stack", "threads", "speed", "off"),
    [
        (LLAMA, "q4_0", UNPACKED, None, 7.42, 0.05),
        (LLAMA, "q4_0", LOOKED_UP, None, 8.09, 0.05),
        (BITNET, "q2_k", UNPACKED, 1, 1.62, 0.05),
        (BITNET, "int2", LOOKED_UP, 1, 8.18, 0.08),
        (BITNET, "int2", LOOKED_UP, None, 26.02, 0.1),
        (BITNET, "q2_k", UNPACKED, None, 12.34, 0.28),
    ],
)
def test_other_models_formats_and_threads_that_were_not_fitted(
    model: Architecture, format: str, stack: str, threads: int | None, speed: float, off: float
) -> None:
    """T-MAC's docs/profiling_data.md, AGX Orin. Unpacking by 12 threads slows them more than their barriers say."""
    assert decode(model, format, stack, CPU, threads)[0] == pytest.approx(speed, rel=off)


def test_look_ups_save_arithmetic_and_its_energy_but_no_bytes() -> None:
    """With the memory for a limit both stacks are as fast; one thread is bound by what it does a weight."""
    few = {stack: decode(LLAMA, "q4_0", stack, CPU, 1)[0] for stack in (UNPACKED, LOOKED_UP)}
    many = {stack: decode(LLAMA, "q4_0", stack, CPU) for stack in (UNPACKED, LOOKED_UP)}
    assert few[LOOKED_UP] / few[UNPACKED] == pytest.approx(2.46 / 1.04, rel=0.05)
    assert many[LOOKED_UP][0] / many[UNPACKED][0] < 1.15
    assert many[LOOKED_UP][1] < 0.8 * many[UNPACKED][1]
