"""Caches of preempted sequences wait in another memory: nothing is computed twice, and every block comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import MS, EngineCase, MadeUpStep, engine_cases, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine_fast_forward import assert_same_run

from simulator import load, run
from simulator.cost.machine import Machine
from simulator.cost.mean_step import mean_step, seconds_of
from simulator.cost.place import Place, Placement, Swap
from simulator.cost.placement import CapacitySheet, capacity
from simulator.cost.step import step_cost
from simulator.cost.step_table import StepTable
from simulator.cost.swap import swapped_block
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.kv_cache import KvLimits
from simulator.errors import CapacityError, InputError
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

many = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
PROMPTS, OUTPUTS = [40, 100, 7, 90, 33, 60], [80, 60, 120, 50, 1, 90]


def tight(swap: int, step: MadeUpStep | None = None) -> EngineCase:
    """Six sequences in a cache for two."""
    workload = requests([0.0, 0.0, 0.01, 0.02, 0.02, 0.5], PROMPTS, OUTPUTS)
    return EngineCase(workload, step or MadeUpStep(), BatchLimits(8, 64), KvLimits(45, 4, 1, swap), {})


def test_with_room_for_all_nothing_is_computed_twice() -> None:
    swapped, recomputed = tight(1000).run(), tight(0).run()
    extra = {
        name: int((records.steps.prefill_tokens * records.steps.steps).sum()) - sum(PROMPTS)
        for name, records in {"swapped": swapped, "recomputed": recomputed}.items()
    }
    preempted = int(swapped.requests.preemptions.sum())
    assert preempted > 3
    assert extra["recomputed"] > 100
    assert 0 < extra["swapped"] <= preempted  # the last token of each that came back


@many
@given(engine_cases())
def test_what_is_moved_comes_back(case: EngineCase) -> None:
    records = case.run()
    steps = records.steps
    moved = steps.swapped_blocks
    assert moved.sum() % 2 == 0
    if case.kv.swap == 0:
        assert moved.sum() == 0
    assert np.all(steps.steps[moved > 0] == 1)
    assert records.requests.completed.all()


def test_a_step_that_moves_blocks_takes_their_time_beside_its_own() -> None:
    """The same run with blocks that move in no time: the same steps, shorter by what was moved (arrivals at once)."""
    workload = requests(0.0, PROMPTS, OUTPUTS)

    def records(ticks: int) -> Any:
        step = MadeUpStep(swap=ticks)
        return EngineCase(workload, step, BatchLimits(8, 64), KvLimits(45, 4, 1, 1000), {}).run()

    slow, fast = records(7 * MS), records(0)
    moved = int(slow.steps.swapped_blocks.sum())
    assert moved == fast.steps.swapped_blocks.sum() > 0
    longer = slow.steps.step_seconds().sum() - fast.steps.step_seconds().sum()
    assert longer == pytest.approx(moved * 7 * MS * SECONDS_PER_TICK)


@pytest.mark.parametrize("swap", [20, 45, 1000])
def test_the_tight_cases_are_stepping_to_the_bit(swap: int) -> None:
    assert_same_run(tight(swap).run(), tight(swap).run(exact=True))


# --- on a machine -----------------------------------------------------------------------------------------------------


def sheet(place: Place | None, **layout: int) -> tuple[CapacitySheet, Machine]:
    profile = Catalogue().load("l40s")
    placement = Placement({"kv": place} if place else {})
    machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism(**layout), placement)
    model = load_model("llama-3.1-8b")
    limits = {"memory_utilization": 0.9, "block_size": 16, "max_tokens": 2048, "max_outputs": 64}
    return capacity(model, Precision(), machine, **limits), machine  # type: ignore[arg-type]


def test_a_block_moves_at_the_link_and_its_room_is_on_the_sheet() -> None:
    near = {"gddr": 1.0}
    plain, _ = sheet(None)
    found, machine = sheet(Place(near, swap=Swap("ddr", 2**30)))
    assert found.kv_blocks == plain.kv_blocks
    assert found.kv_swap_blocks == 2**30 // (16 * 131072)
    assert found.held_by_tier["ddr"] == {"kv swap space": 2**30}
    block = swapped_block(found, machine)
    assert block.total_seconds == pytest.approx(16 * 131072 / (0.8 * 32e9))
    assert block.bytes == {"ddr": 16 * 131072, "gddr": 16 * 131072}
    everything, _ = sheet(Place(near, swap=Swap("ddr")))
    assert everything.kv_swap_blocks > 100 * found.kv_swap_blocks


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 64), st.integers(1, 4000), st.sampled_from([0.0, 0.3, 1.0]))
def test_streaming_the_cache_is_the_same_in_the_engine_s_table_and_in_closed_form(
    sequences: int, context: int, far: float
) -> None:
    shares = {name: share for name, share in (("gddr", 1 - far), ("ddr", far)) if share}
    _, machine = sheet(Place(shares))
    model = load_model("llama-3.1-8b")
    table = StepTable(step_cost(model, Precision(), machine, 64, 64), machine)
    ((_, ticks, _),) = table.pieces(sequences, sequences, [(sequences * context, 0)], None, 1)
    step = mean_step(model, Precision(), machine, float(sequences), float(context))
    assert ticks * SECONDS_PER_TICK == pytest.approx(float(seconds_of(step, model, machine, 0.0)[0]), rel=1e-6)
    read = sequences * context * 131072
    assert float(np.sum(step.bytes.get("ddr", 0.0))) == pytest.approx(far * (read + sequences * 131072))


SCENARIO = """
model: llama-3.1-8b
machines:
  - {hardware: l40s, name: recompute, tp: 1}
  - {hardware: l40s, name: swap, tp: 1, placement: {kv: {tier: gddr, swap: PLACE}}}
traffic: {concurrency: 40, isl: 500, osl: 1000, requests: 60}
limits: {max_num_seqs: 40, max_num_batched_tokens: 2048, memory_utilization: 0.43}
"""


def summaries(tmp_path: Path, place: str = "{tier: ddr}") -> list[dict[str, Any]]:
    path = tmp_path / "swap.yaml"
    path.write_text(SCENARIO.replace("PLACE", place))
    return [result.summary for result in run(load(str(path))).runs]


def test_swapping_beats_recomputing_and_its_bytes_and_joules_are_told(tmp_path: Path) -> None:
    recompute, swap = summaries(tmp_path)
    assert recompute["preemptions"] > 5
    assert swap["output_throughput"] > recompute["output_throughput"]
    assert "ddr" not in recompute["moved_per_output_token_b"]
    assert swap["moved_per_output_token_b"]["ddr"]["kv"] > 0
    assert swap["energy_by_component_j"]["ddr"] > 0
    assert swap["energy_per_output_token_j"] < recompute["energy_per_output_token_j"]
    assert sum(swap["energy_by_component_j"].values()) == pytest.approx(swap["energy_j"])


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{tier: ddr, capacity: 1 MB}", r"5:5: the swap space on 'l40s' holds no block of cache of 2\.\d+ MB"),
        ("{tier: gddr}", "cannot be swapped to gddr of 'l40s', which is no farther"),
        ("{tier: dd}", "did you mean 'ddr'"),
        ("{tier: ddr, capacity: 900 TiB}", "does not fit"),
    ],
)
def test_a_swap_space_that_is_none_is_refused(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises((InputError, CapacityError), match=message):
        summaries(tmp_path, place)


def test_what_never_waits_is_not_swapped(tmp_path: Path) -> None:
    path = tmp_path / "swap.yaml"
    path.write_text(SCENARIO.replace("{kv:", "{attention:").replace("PLACE", "{tier: ddr}"))
    with pytest.raises(InputError, match=r"swap.yaml:\d+:\d+: the kv .* alone is swapped, not the attention"):
        run(load(path))
