"""Hosts: a CPU node that holds the chips computes on the experts that lie in its memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import load, run
from simulator.cost.host import HOST
from simulator.cost.machine import Machine
from simulator.cost.matmul import matmul
from simulator.cost.place import Near, Place, Placement
from simulator.errors import ProfileError, StackError
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.host import with_host
from simulator.model.operation import Matmul
from simulator.model.parallelism import Parallelism
from simulator.stack.stack import Stacks

CATALOGUE, STACKS = Catalogue(), Stacks()
GPU, CPU = CATALOGUE.load("l40s"), CATALOGUE.load("xeon-8480-2s")
EXPERTS = Matmul("experts up", 8.0, 4096.0, 7168.0, "q4_k_m", "expert", groups=8.0, choices=256.0, chosen=8.0)
SIZE = 8 * 4096 * 7168 * 4.85 / 8


def machine(stack: str = "ktransformers-2025", sockets: int = 2, **layout: int) -> Machine:
    return Machine(with_host(GPU, CPU, sockets), STACKS.load(stack), Parallelism(**layout))


def seconds(operation: Matmul, one: Machine) -> float:
    return float(np.asarray(matmul(operation, one).total_seconds))


def test_experts_stream_from_the_sockets_memory_and_the_cores_multiply() -> None:
    cost = matmul(EXPERTS, machine(sockets=1))
    activations = 8 * (4096 + 7168) * 2 / 32e9
    assert cost.bytes == {"ddr": pytest.approx(SIZE), "gddr": 0.0}
    assert cost.seconds["ddr"] == pytest.approx(SIZE / (0.606 * 307.2e9) + activations)
    assert cost.seconds[HOST] == pytest.approx(2 * 8 * 4096 * 7168 / (0.67 * 7.17e12))


def test_a_second_socket_helps_and_chips_of_one_replica_share_the_host() -> None:
    one, two = seconds(EXPERTS, machine(sockets=1)), seconds(EXPERTS, machine(sockets=2))
    assert 1.5 < one / two < 2.0
    assert seconds(EXPERTS, machine(tp=2)) > 1.9 * two  # per chip: the same matrices twice


def test_what_is_placed_on_the_chip_is_computed_there() -> None:
    split = replace(machine(), placement=Placement({"expert": Place({"gddr": 0.5, "ddr": 0.5})}))
    cost = matmul(EXPERTS, split)
    assert cost.bytes["ddr"] == pytest.approx(SIZE / 2)
    assert seconds(EXPERTS, split) < seconds(EXPERTS, machine())
    hot = replace(machine(), placement=Placement({"expert": Place({"ddr": 1.0}, Near("gddr", 0.1))}))
    assert seconds(EXPERTS, hot) < seconds(EXPERTS, machine())


def test_long_prompts_cross_the_link_layer_by_layer() -> None:
    one = machine("kt-kernel-2025")
    short, long = (replace(EXPERTS, m=8.0 * tokens, groups=256.0) for tokens in (256.0, 4096.0))
    assert HOST in matmul(short, one).seconds
    cost = matmul(long, one)
    assert cost.seconds["ddr"] == pytest.approx(32 * SIZE / (0.493 * 32e9), rel=0.01)
    both = matmul(replace(EXPERTS, m=np.array([8 * 256.0, 8 * 4096.0]), groups=256.0), one)
    assert np.asarray(both.total_seconds) == pytest.approx([seconds(short, one), seconds(long, one)])


@settings(deadline=None, max_examples=30)
@given(st.floats(1.0, 4096.0), st.floats(1.0, 4.0))
def test_a_wider_memory_of_the_host_never_hurts(tokens: float, factor: float) -> None:
    main = CPU.chip.memory[0]
    wide = main.model_copy(update={"bandwidth": main.bandwidth * factor})
    chip = CPU.chip.model_copy(update={"memory": (wide, *CPU.chip.memory[1:])})
    wider = replace(machine(), profile=with_host(GPU, CPU.model_copy(update={"chip": chip})))
    operation = replace(EXPERTS, m=8 * tokens, groups=256.0)
    assert seconds(operation, wider) <= seconds(operation, machine()) * (1 + 1e-12)


def test_what_is_no_host_is_refused() -> None:
    with pytest.raises(ProfileError, match="is no CPU node"):
        with_host(GPU, GPU)
    with pytest.raises(ProfileError, match="3 sockets, 'xeon-8480-2s' has 2"):
        with_host(GPU, CPU, 3)
    with pytest.raises(ProfileError, match="states no link"):
        with_host(CPU, CPU)
    with pytest.raises(StackError, match="names none; write host:"):
        Machine(GPU, STACKS.load("ktransformers-2025"), Parallelism())


def test_a_hybrid_serves_what_no_chip_of_it_holds(tmp_path: Path) -> None:
    scenario = tmp_path / "hybrid.yaml"
    scenario.write_text(
        """
        model: deepseek-v3
        machines:
          - {hardware: l40s, host: xeon-8480-2s, stack: ktransformers-2025, tp: 1}
          - {hardware: l40s, host: xeon-8480-2s, sockets: 1, name: one, stack: ktransformers-2025, tp: 1}
        precision: {weights: q4_k_m}
        traffic: {concurrency: 1, isl: 512, osl: 64, requests: 2}
        limits: {max_num_seqs: 1, max_num_batched_tokens: 512}
        """
    )
    two, one = (result.summary for result in run(load(str(scenario))).runs)
    assert two["family"] == "dram-node"
    assert 1.3 < one["tpot_p50_ms"] / two["tpot_p50_ms"] < 1.8
    assert two["bound_by"]["ddr"] > 0.3
    assert two["energy_by_component_j"]["host"] > two["energy_by_component_j"]["active"]
