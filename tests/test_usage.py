"""What a run used: seconds, FLOPs, bytes and joules add up however they are cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulator.cost.amount import Amount
from simulator.cost.machine import Machine
from simulator.cost.moved import moved_by_tensor
from simulator.cost.steady import Replica
from simulator.cost.step import cost_of_all, step_cost
from simulator.cost.step_table import StepTable
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords, SegmentRecords
from simulator.engine.traffic import closed_loop, fixed, open_loop
from simulator.hardware.catalogue import Catalogue
from simulator.metrics import usage as module
from simulator.metrics.usage import moved_summary, usage, usage_summary
from simulator.model.number_format import Precision
from simulator.model.operation import Batch
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

CASES = {
    "gpu": ("llama-3.1-8b", "h100-sxm-8", 2, 2, None),
    "gpu at its power limit": ("llama-3.1-8b", "h100-sxm-8", 1, 1, 480.0),
    "experts": ("gpt-oss-20b", "h100-sxm-8", 1, 1, None),
    "sockets": ("llama-3.1-8b", "xeon-6980p-2s", 2, 1, None),
    "tpu": ("llama-3.1-8b", "tpu-v6e-16", 4, 1, None),
    "mesh": ("llama-3.1-8b", "wormhole-galaxy", 8, 1, None),
}
"""Model, hardware, tp, replicas, power limit of a chip in W where it is changed."""


class Run:
    """One run of 60 requests with prompts of 700 and answers of 40 tokens, and its accounts."""

    def __init__(self, case: str, gap_s: float = 0.02, concurrency: int | None = None) -> None:
        name, hardware, tp, self.replicas, cap = CASES[case]
        profile = Catalogue().load(hardware)
        if cap is not None:
            power = profile.chip.power.model_copy(update={"cap": cap})
            profile = profile.model_copy(update={"chip": profile.chip.model_copy(update={"power": power})})
        self.machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism(tp=tp))
        self.model = load_model(name)
        self.cost = step_cost(self.model, Precision(), self.machine, 1024, 64)
        lengths = fixed(700, 60), fixed(40, 60)
        traffic = closed_loop(concurrency, *lengths) if concurrency else open_loop(np.arange(60) * gap_s, *lengths)
        self.records: RunRecords = simulate(
            traffic,
            StepTable(self.cost, self.machine),
            BatchLimits(64, 1024),
            KvLimits(10_000, 16),
            replicas=self.replicas,
        )
        self.usage = usage(self.records, self.cost, self.machine)
        self.span = self.records.end_s
        self.summary: dict[str, Any] = usage_summary(self.usage, self.machine, self.replicas, self.span, 60 * 40)

    @property
    def chips(self) -> int:
        return self.machine.parallelism.chips * self.replicas


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest) -> Run:
    return Run(request.param)


def test_tokens_add_up_over_segments(run: Run) -> None:
    steps: SegmentRecords = run.records.steps
    assert (steps.prefill_tokens * steps.steps).sum() == 60 * 700
    assert (steps.outputs * steps.steps).sum() == 60 * 40
    # Each answer's first token ends its prefill, the others are decoded.
    assert (steps.decoding * steps.steps).sum() == 60 * 39


def test_matrix_flops_are_those_of_the_tokens(run: Run) -> None:
    flops = sum(run.usage.flops.values()) * run.machine.parallelism.chips
    head = 2 * run.model.vocab_size * run.model.hidden_size
    matrices = 60 * 739 * (run.model.flops_per_token() - head) + 60 * 40 * head
    assert matrices < flops < 1.15 * matrices  # attention scores, padding of the vocabulary and copied heads


def test_joules_add_up_over_components_and_phases(run: Run) -> None:
    energy = run.summary["energy_j"]
    assert sum(run.summary["energy_by_component_j"].values()) == pytest.approx(energy)
    assert sum(run.summary["energy_by_phase_j"].values()) == pytest.approx(energy)
    assert run.summary["average_power_w"] * run.span == pytest.approx(energy)
    assert run.summary["energy_per_output_token_j"] * 60 * 40 == pytest.approx(energy)


def test_no_chip_draws_more_than_its_limit(run: Run) -> None:
    power, node = run.machine.profile.chip.power, run.machine.profile.node
    host = float(node.power.base) * run.chips / node.chips
    assert run.summary["average_power_w"] <= (run.chips * float(power.cap) + host) * float(node.power.pue) * (1 + 1e-9)
    board = (sum(run.usage.joules.values()) + float(power.idle) * run.usage.busy_s) / run.usage.busy_s
    assert board <= float(power.cap) * (1 + 1e-9)


def test_what_bounds_a_machine_sums_to_one(run: Run) -> None:
    bound_by = run.summary["bound_by"]
    assert sum(bound_by.values()) == pytest.approx(1)
    assert all(share > 0 for share in bound_by.values())
    assert run.machine.memory.tier in bound_by


def test_seconds_by_bound_are_the_busy_time(run: Run) -> None:
    # Prices are whole ticks a key and a pair, so that the two differ in the eighth digit.
    assert sum(run.usage.seconds.values()) == pytest.approx(run.usage.busy_s, rel=1e-7)
    assert sum(run.usage.phase_s.values()) == pytest.approx(run.usage.busy_s, rel=1e-9)
    steps = run.records.steps
    assert run.usage.busy_s == pytest.approx((steps.end_s - steps.start_s).sum(), rel=1e-9)


def test_flops_and_bytes_add_up_over_phases(run: Run) -> None:
    assert sum(run.usage.phase_flops.values()) == pytest.approx(sum(run.usage.flops.values()))
    assert sum(run.usage.phase_bytes.values()) == pytest.approx(sum(run.usage.bytes.values()))
    for part in (run.usage.phase_s, run.usage.phase_joules, run.usage.phase_flops, run.usage.phase_bytes):
        assert set(part) == {"prefill", "decode"}
        assert all(value > 0 for value in part.values())


def test_shares_of_peaks_are_shares(run: Run) -> None:
    for key in ("mfu", "mbu", "utilisation"):
        assert 0 < run.summary[key] <= 1, key


def test_points_of_the_roofline_lie_under_it(run: Run) -> None:
    roofline = run.summary["roofline"]
    assert {point["phase"] for point in roofline["points"]} == {"prefill", "decode"}
    for point in roofline["points"]:
        roof = min(roofline["peak_flops"], roofline["bandwidth"] * point["intensity_flop_per_byte"])
        assert 0 < point["flops_per_s"] <= roof


def test_decode_is_less_intense_than_prefill(run: Run) -> None:
    by_phase = {p["phase"]: p["intensity_flop_per_byte"] for p in run.summary["roofline"]["points"]}
    assert by_phase["decode"] < by_phase["prefill"]


def test_the_power_limit_shows_in_what_bounds_the_machine() -> None:
    assert "power" not in Run("gpu").summary["bound_by"]
    limited = Run("gpu at its power limit").summary
    assert limited["bound_by"]["power"] > 0.01


def test_a_machine_that_waits_draws_idle_host_and_cooling_and_no_more() -> None:
    short, long = Run("experts", gap_s=1.0), Run("experts", gap_s=3.0)
    power, node = short.machine.profile.chip.power, short.machine.profile.node
    waiting_w = (float(power.idle) + float(node.power.base) / 8) * float(node.power.pue)
    extra_j = long.summary["energy_j"] - short.summary["energy_j"]
    assert extra_j == pytest.approx(waiting_w * (long.span - short.span), rel=1e-6)
    assert long.usage.joules == pytest.approx(short.usage.joules)


def test_two_replicas_that_share_the_traffic_draw_idle_power_each() -> None:
    run = Run("gpu")
    idle = run.summary["energy_by_component_j"]["idle"]
    assert idle == pytest.approx(70 * run.span * 2 * 2)


def test_segments_may_be_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("experts", concurrency=7)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    pieces = usage(run.records, run.cost, run.machine)
    for name, whole in vars(run.usage).items():
        assert getattr(pieces, name) == pytest.approx(whole), name


def test_a_run_without_a_segment_used_nothing() -> None:
    run = Run("experts")
    none = SegmentRecords(*(column[:0] for column in vars(run.records.steps).values()))
    empty = usage(replace(run.records, steps=none), run.cost, run.machine)
    assert (empty.busy_s, empty.seconds, empty.joules) == (0.0, {}, {})


@pytest.mark.parametrize("case", CASES)
def test_bytes_by_tensor_are_all_bytes(case: str) -> None:
    run = Run(case)
    moved = moved_summary(run.usage, run.records, run.model, Precision(), run.machine)
    tokens = 60 * 40
    chips = run.machine.parallelism.chips
    for tier, whole in run.usage.bytes.items():
        assert sum(moved[tier].values()) * tokens == pytest.approx(whole * chips)


def test_bytes_of_the_mean_step_are_those_of_its_operations() -> None:
    model, machine = load_model("llama-3.1-8b"), Run("gpu").machine
    batch = Batch(tokens=4.0, outputs=4.0, decode_context={None: 4000.0}, prefill_pairs={None: 0.0})
    (moved,) = moved_by_tensor(model, Precision(), machine, batch).values()
    weights = {name: count * 2 / 2 for name, count in model.parameters_by_class().items()}  # bf16 on two chips
    assert moved["ffn"] == pytest.approx(weights["ffn"])
    assert moved["attention"] == pytest.approx(weights["attention"])
    assert moved["kv"] == pytest.approx(4000 * 32 * 2 * 8 * 128 * 2 / 2)
    work = cost_of_all(model.forward(batch, machine.parallelism, Precision(), 0.0), machine, Amount(), 1)
    assert sum(moved.values()) == pytest.approx(float(work.bytes["hbm"]))


def test_stages_that_wait_for_their_turn_draw_idle_power_in_events_as_in_closed_form() -> None:
    profile = Catalogue().load("h100-sxm-8")
    machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism(pp=8))
    model = load_model("llama-3.1-8b")
    cost = step_cost(model, Precision(), machine, 64, 4)
    traffic = closed_loop(2, fixed(16, 8), fixed(400, 8))
    records = simulate(traffic, StepTable(cost, machine), BatchLimits(4, 64), KvLimits(10_000, 16))
    makespan = float(records.requests.finish_s.max())
    found = usage_summary(usage(records, cost, machine), machine, 1, makespan, 8 * 400)
    state = Replica(model, Precision(), machine, 16.0, 400.0, 4.0).at_batch(2.0)
    idle = 8 * float(profile.chip.power.idle) + float(profile.node.power.base)
    assert found["average_power_w"] / 1.1 - idle == pytest.approx(8 * state.joules[0], rel=0.03)
    assert found["mbu"] < 0.25
