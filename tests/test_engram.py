"""A table of n-grams in the host's DRAM costs what was measured; read from a disk and waited for, it costs far more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator import load, run
from simulator.cost.machine import Machine
from simulator.cost.place import Place, Placement
from simulator.cost.step import step_cost
from simulator.hardware.catalogue import Catalogue
from simulator.model.assembly import Change, with_ffns
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

# Engram, arXiv:2601.07372, table 4: nano-vLLM on an H800, 512 sequences of 100 to 1,024 tokens, a 100B table.
MEASURED = {"qwen3-4b": 0.0192, "qwen3-8b": 0.0278}
SCENARIO = """
model:
  - {model}
  - base: {model}
    ffn: [{{layers: [1], kind: ngram_table, orders: [2, 3], heads: 8, rows: 39062500, width: 160}}]
machines: [{{hardware: h800-sxm-8, tp: 1, placement: {{table: ddr}}}}]
traffic: {{offline: true, isl: {{uniform: [100, 1024]}}, osl: {{uniform: [100, 1024]}}, requests: 512}}
limits: {{max_num_seqs: 512, max_num_batched_tokens: 8192}}
"""


@pytest.mark.parametrize("model", MEASURED)
def test_a_table_of_100b_in_host_dram_costs_one_to_three_percent(model: str, tmp_path: Path) -> None:
    path = tmp_path / "engram.yaml"
    path.write_text(SCENARIO.format(model=model))
    without, with_table = (result.summary for result in run(load(str(path))).runs)
    loss = 1 - with_table["output_throughput"] / without["output_throughput"]
    assert 0.01 < loss < 0.03
    assert loss == pytest.approx(MEASURED[model], abs=0.01)


def step_seconds(
    layer: int | None, *, tier: str = "nvme", prefetch: bool = True, tokens: int = 16, keys: float = 0.0
) -> float:
    """A decode step of Qwen3-8B on an H100, with a table at that layer; the disk is a consumer's. The time of reading
    the cache is left out, what it hides is not."""
    profile = Catalogue().load("h100-sxm-8")
    # 130 k random reads a second at 64 threads, as measured (llama-ple-disk)
    disk = profile.node.memory[1].model_copy(update={"bandwidth": 7e9, "iops": 130e3, "outstanding": 64.0})
    node = profile.node.model_copy(update={"memory": (profile.node.memory[0], disk)})
    stack = Stacks().load("vllm-2025").model_copy(update={"prefetch": prefetch})
    machine = Machine(profile.model_copy(update={"node": node}), stack, Parallelism())
    model = load_model("qwen3-8b")
    if layer is not None:
        model = with_ffns(model, [Change(NgramTable(rows=39_062_500, width=160), (layer,), beside=True)])
        machine = replace(machine, placement=Placement({"table": Place({tier: 1.0})}))
    cost = step_cost(model, Precision(), machine, tokens, 1)
    waiting = float(np.asarray(cost.waiting(np.array([tokens]), [keys]).total_seconds).sum())
    return float(cost.tokens.total_seconds[tokens]) + waiting


def test_waiting_for_a_disk_costs_tens_of_percent_and_a_late_layer_hides_it() -> None:
    plain = step_seconds(None)
    waited, early, late = step_seconds(20, prefetch=False), step_seconds(1), step_seconds(20)
    assert waited / plain > 1.2
    assert late < early <= waited
    assert late / plain < 1.16  # 0.12 of it is the call
    assert late == pytest.approx(step_seconds(20, tier="ddr"), rel=1e-3)


def test_the_more_layers_come_before_the_less_is_waited_for() -> None:
    times = [step_seconds(layer, tokens=64) for layer in (0, 1, 4, 12, 35)]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]
