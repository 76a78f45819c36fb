"""Tiers: where tensors lie decides what a step costs; bytes are conserved, and nearer or wider is never slower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prefetch import exposed

from simulator import load, run
from simulator.cost.access import gather, rows_seconds
from simulator.cost.automatic import automatic
from simulator.cost.machine import Machine
from simulator.cost.matmul import attention, matmul
from simulator.cost.place import Near, Place, Placement
from simulator.cost.placement import capacity
from simulator.cost.prefetch import prefetched
from simulator.cost.step import step_cost
from simulator.errors import CapacityError, InputError, ScenarioError
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Gather, Matmul
from simulator.model.parallelism import Parallelism
from simulator.model.routing import inclusion
from simulator.model.zoo import load_model
from simulator.scenario.placement import Places
from simulator.stack.stack import Stacks

CATALOGUE, STACKS = Catalogue(), Stacks()


def machine(places: dict[str, Place] | None = None, hardware: str = "h100-sxm-8", **layout: int) -> Machine:
    profile = CATALOGUE.load(hardware)
    return Machine(profile, STACKS.load(profile.default_stack), Parallelism(**layout), Placement(places or {}))


WEIGHTS = Matmul("up", 4.0, 4096.0, 4096.0, "bf16", "ffn")


def test_weights_behind_a_link_stream_at_the_link_shared_by_the_chips_that_read() -> None:
    size = 4096 * 4096 * 2
    for chips, link in ((1, 64e9), (8, 64e9)):
        cost = matmul(WEIGHTS, machine({"ffn": Place({"ddr": 1.0})}, tp=chips))
        bandwidth = min(link, 614.4e9 / chips)
        assert cost.seconds["ddr"] == pytest.approx(size / (0.8 * bandwidth), rel=1e-3)
        assert cost.bytes["ddr"] == size


def test_a_class_cut_over_two_tiers_reads_each_share_where_it_lies() -> None:
    near, far = matmul(WEIGHTS, machine()), matmul(WEIGHTS, machine({"ffn": Place({"ddr": 1.0})}))
    both = matmul(WEIGHTS, machine({"ffn": Place({"hbm": 0.75, "ddr": 0.25})}))
    assert sum(both.bytes.values()) == pytest.approx(sum(near.bytes.values()))
    assert both.bytes["ddr"] == far.bytes["ddr"] / 4
    assert float(np.asarray(near.total_seconds)) < float(np.asarray(both.total_seconds))
    assert float(np.asarray(both.total_seconds)) < float(np.asarray(far.total_seconds))


def test_a_cache_behind_the_link_reads_keys_over_it() -> None:
    keys = Attention("attention", "decode", 1e6, 1e6, 100.0, 4096.0, "bf16")
    far = attention(keys, machine({"kv": Place({"ddr": 1.0})}))
    assert far.seconds["ddr"] == pytest.approx(1e6 * 4096 / (0.8 * 64e9), rel=1e-3)


def test_the_other_socket_reads_at_the_fabric() -> None:
    places = {"ffn": Place({"ddr": 0.5, "remote": 0.5})}
    cost = matmul(WEIGHTS, machine(places, "xeon-6980p-2s"))
    assert cost.bytes["remote"] == cost.bytes["ddr"] - 4 * (4096 + 4096) * 2
    assert machine(hardware="xeon-6980p-2s").tiers["remote"].bandwidth == pytest.approx(248e9)
    assert "remote" not in machine(hardware="xeon-6980p-2s", tp=2).tiers


def test_an_unknown_tier_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ScenarioError, match=r"tier of 'h100-sxm-8'.*ddr"):
        machine({"ffn": Place({"ddrr": 1.0})})


LIMITS = {"memory_utilization": 0.9, "max_tokens": 2048, "max_outputs": 8}


def laid_out(one: Machine, model: str, precision: Precision) -> dict[str, dict[str, float]]:
    sheet = capacity(load_model(model), precision, one, block_size=16, **LIMITS)  # type: ignore[arg-type]
    return {tier.tier: tier.held for tier in sheet.tiers}


def test_what_is_too_large_for_the_near_tier_goes_to_the_next_the_hottest_first() -> None:
    model, precision = load_model("mixtral-8x7b"), Precision()
    one = machine(hardware="l40s")
    with pytest.raises(CapacityError, match="placement: auto"):
        laid_out(one, "mixtral-8x7b", precision)
    placed = automatic(model, precision, one, kv_tokens=8192, **LIMITS)  # type: ignore[arg-type]
    held = laid_out(placed, "mixtral-8x7b", precision)
    assert held["gddr"]["attention"] > 0
    assert "attention" not in held["ddr"]
    assert held["ddr"]["expert"] + held["gddr"]["expert"] == pytest.approx(model.weight_bytes(precision)["expert"])


def test_a_model_that_fits_stays_in_the_main_memory_and_costs_the_same() -> None:
    model, precision = load_model("llama-3.1-8b"), Precision()
    plain = machine()
    placed = automatic(model, precision, plain, kv_tokens=4096, **LIMITS)  # type: ignore[arg-type]
    assert all(place.shares == {"hbm": 1.0} for place in placed.placement.places.values())
    first, second = (step_cost(model, precision, one, 64, 8) for one in (plain, placed))
    assert np.array_equal(first.tokens.total_seconds, second.tokens.total_seconds)


def test_no_tier_of_the_machine_holds_everything() -> None:
    with pytest.raises(CapacityError, match="and ddr:") as refused:
        one = automatic(load_model("deepseek-v3"), Precision(), machine(hardware="l40s"), kv_tokens=1, **LIMITS)  # type: ignore[arg-type]
        laid_out(one, "deepseek-v3", Precision())
    assert "left" in str(refused.value)


ROWS = Gather("table", "table", 1000.0, 1000.0, 320.0, table_rows=1e8, zipf=1.0)


def test_a_near_cache_serves_the_hottest_rows() -> None:
    plain = gather(ROWS, machine({"table": Place({"ddr": 1.0})}))
    near = gather(ROWS, machine({"table": Place({"ddr": 1.0}, Near("hbm", 0.01))}))
    assert near.bytes["ddr"] == pytest.approx(plain.bytes["ddr"] * (1 - 0.758), rel=0.01)  # the hottest 1 % serve 76 %
    assert sum(near.bytes.values()) == pytest.approx(sum(plain.bytes.values()))
    assert float(np.asarray(near.total_seconds)) < float(np.asarray(plain.total_seconds))


def test_a_near_cache_of_experts_serves_the_popular_ones_and_less_of_a_large_batch() -> None:
    experts = replace(WEIGHTS, tensor="expert", m=8.0, groups=8.0, choices=256.0, chosen=8.0, zipf=0.7)
    cached = machine({"expert": Place({"ddr": 1.0}, Near("hbm", 0.25))})
    shares = {}
    for tokens, groups in ((1.0, 8.0), (512.0, 256.0)):
        cost = matmul(replace(experts, m=8 * tokens, groups=groups), cached)
        shares[tokens] = float(np.asarray(cost.bytes["ddr"])) / (groups * 4096 * 4096 * 2)
    assert 1 - shares[1.0] == pytest.approx(inclusion(256, 8, 0.7)[:64].sum() / 8)
    assert shares[512.0] == pytest.approx(0.75, abs=0.01)  # all are touched
    lru = machine({"expert": Place({"ddr": 1.0}, Near("hbm", 0.25, "lru"))})
    assert float(np.asarray(matmul(experts, lru).bytes["ddr"])) > float(
        np.asarray(matmul(experts, cached).bytes["ddr"])
    )


def test_reads_of_an_ssd_are_bound_by_its_iops() -> None:
    memory = (
        CATALOGUE.load("h100-sxm-8")
        .node.memory[0]
        .model_copy(update={"granule": 4096.0, "latency": 80e-6, "outstanding": 256.0, "iops": 130e3})
    )
    assert rows_seconds(memory, 7e9, 32768.0, 256.0) == pytest.approx(32768 / 130e3)
    assert rows_seconds(memory, 7e9, 0.0, 256.0) == 0.0


def prefetching(one: Machine, on: bool) -> Machine:
    return replace(one, stack=one.stack.model_copy(update={"prefetch": on, "gather_overhead": 0.0}))


def engram(layers_before: float, address_known: str = "token") -> Gather:
    return replace(ROWS, address_known=address_known, layers_before=layers_before, rows=1e5, unique_rows=1e5)


def test_a_prefetch_hides_behind_the_layers_before_and_never_costs_more_than_waiting() -> None:
    one = prefetching(machine({"table": Place({"ddr": 1.0})}), True)
    whole = float(np.asarray(gather(engram(1.0), one).total_seconds))
    assert prefetched(engram(1.0), one)
    assert not prefetched(engram(1.0, "layer"), one)
    assert not prefetched(engram(0.0), one)
    assert not prefetched(engram(1.0), prefetching(one, False))
    for layer, left in ((0.0, whole), (whole / 4, whole / 2), (whole, 0.0)):
        assert float(np.asarray(exposed([engram(2.0)], one, layer).total_seconds)) == pytest.approx(left, abs=1e-12)
    two = exposed([engram(2.0), engram(4.0)], one, whole / 4)  # half is waited for at 2; the second half a fetch later
    assert float(np.asarray(two.total_seconds)) == pytest.approx(whole)
    assert two.bytes == {"ddr": 2 * 1e5 * 320}


@settings(deadline=None, max_examples=40)
@given(st.floats(1.0, 1e6), st.floats(1.0, 2e4), st.floats(1.0, 4.0), st.sampled_from(["table", "expert"]))
def test_more_bandwidth_never_hurts_and_nearer_is_never_slower(
    rows: float, row_bytes: float, factor: float, tensor: str
) -> None:
    look = Gather("rows", tensor, rows, rows, row_bytes, table_rows=1e7)
    product = replace(WEIGHTS, tensor=tensor, m=rows)
    far, near = machine({tensor: Place({"ddr": 1.0})}), machine()
    tier = far.profile.node.memory[0]
    update = {name: getattr(tier, name) * factor for name in ("bandwidth", "link", "outstanding")}
    node = far.profile.node.model_copy(update={"memory": (tier.model_copy(update=update),)})
    wider = replace(far, profile=far.profile.model_copy(update={"node": node}))
    for price, operation in ((gather, look), (matmul, product)):
        times = [float(np.asarray(price(operation, one).total_seconds)) for one in (near, wider, far)]  # type: ignore[operator]
        assert times[0] <= times[1] * (1 + 1e-9)
        assert times[1] <= times[2] * (1 + 1e-9)


def test_busy_replicas_share_what_the_node_holds_and_its_reads_a_second() -> None:
    profile = CATALOGUE.load("h100-sxm-8")
    ssd = profile.node.memory[0].model_copy(update={"bandwidth": 60e9, "iops": 1e6})
    profile = profile.model_copy(update={"node": profile.node.model_copy(update={"memory": (ssd,)})})
    stack = STACKS.load("vllm-2025").model_copy(update={"gather_overhead": 0.0})
    one = Machine(profile, stack, Parallelism(), Placement({"ffn": Place({"ddr": 1.0})}), 4)
    two = replace(one, busy=2)
    assert one.contended
    assert not replace(one, replicas=1).contended
    assert not replace(one, placement=Placement()).contended
    assert two.tiers["ddr"].bandwidth == one.tiers["ddr"].bandwidth / 2
    assert two.tiers["ddr"].capacity == one.tiers["ddr"].capacity
    look = Gather("rows", "ffn", 1e6, 1e6, 64.0)
    assert float(np.asarray(gather(look, one).total_seconds)) == pytest.approx(1.0)
    assert float(np.asarray(gather(look, two).total_seconds)) == pytest.approx(2.0)


def test_chips_behind_one_switch_share_its_link() -> None:
    one = machine(hardware="a100-sxm-80g-8")
    link = float(one.profile.node.memory[0].link or 0)
    assert one.tiers["ddr"].bandwidth == link
    assert machine(hardware="a100-sxm-80g-8", tp=2).tiers["ddr"].bandwidth == link / 2
    assert machine(hardware="a100-sxm-80g-8", tp=8).tiers["ddr"].bandwidth == link / 2
    replicas = replace(one, replicas=8, placement=Placement({"ffn": Place({"ddr": 1.0})}))
    assert replicas.beside == 2
    assert replace(replicas, busy=3).tiers["ddr"].bandwidth == link
    assert replace(replicas, busy=3, on_link=2).tiers["ddr"].bandwidth == link / 2
    assert replace(replicas, placement=Placement()).beside == 1


def test_threads_read_and_multiply_their_share_and_are_no_more_than_the_cores() -> None:
    one = machine(hardware="epyc-7773x")
    alone, half = replace(one, threads=1), replace(one, threads=32)
    main = one.profile.chip.memory[0]
    assert alone.weights_bandwidth("bf16") == pytest.approx(float(main.core_bandwidth or 0), rel=1e-3)
    assert alone.weights_bandwidth("bf16") < half.weights_bandwidth("bf16") < one.weights_bandwidth("bf16")
    assert half.matrix_rate("int8") == one.matrix_rate("int8") / 2
    with pytest.raises(ScenarioError, match="65 threads on 64 cores"):
        replace(one, threads=65)


def summaries(tmp_path: Path, machines: str, model: str = "mixtral-8x7b") -> list[dict[str, Any]]:
    path = tmp_path / "tiers.yaml"
    path.write_text(
        f"""
        model: {model}
        machines: {machines}
        traffic: {{concurrency: 1, isl: 500, osl: 40, requests: 2}}
        limits: {{max_num_seqs: 1, max_num_batched_tokens: 512}}
        """
    )
    return [result.summary for result in run(load(str(path))).runs]


def test_scenarios_place_tensors_automatically_or_by_hand(tmp_path: Path) -> None:
    machines = """
          - {hardware: l40s, name: auto, tp: 1, placement: auto}
          - {hardware: l40s, name: far, tp: 1, placement: {expert: ddr}}
          - hardware: l40s
            name: cached
            tp: 1
            placement: {expert: {tier: ddr, cache: {tier: gddr, capacity: 30 GiB}}}
    """
    auto, far, cached = summaries(tmp_path, machines)
    assert far["bound_by"]["ddr"] > 0.9
    assert auto["tpot_p50_ms"] < far["tpot_p50_ms"]
    assert auto["held_by_tier_b"]["gddr"]["attention"] > 0
    assert auto["held_by_tier_b"]["ddr"]["expert"] > 0
    assert cached["tpot_p50_ms"] < auto["tpot_p50_ms"]  # the hottest experts, not the first layers


WITH_EVERYTHING = """{base: qwen3-30b-a3b, name: everything, ffn: [
    {layers: [1], kind: ngram_table, rows: 1.0e5, width: 64},
    {layers: [2], kind: kv_retrieval, entries: 1.0e6, value_width: 64},
    {layers: [3], kind: activation_sparse, width: 6144, active: 0.1}]}"""


def test_every_class_of_serving_can_be_placed_and_its_bytes_move_with_it(tmp_path: Path) -> None:
    """One machine for each class that the model has, with that class alone in the host's memory, and one that leaves
    all the others to `auto`."""
    classes = sorted(Places.model_fields.keys() - {"rest"})
    machines = "".join(
        f"\n          - {{hardware: h100-sxm-8, name: {kind}, tp: 1, placement: {{{kind}: ddr, rest: auto}}}}"
        for kind in classes
    )
    found = dict(zip(classes, summaries(tmp_path, machines, WITH_EVERYTHING), strict=True))
    for kind, summary in found.items():
        far = summary["held_by_tier_b"].get("ddr", {})
        assert not summary["warnings"] or all("changes nothing" not in text for text in summary["warnings"]), kind
        if kind != "kv":
            names = {name.partition(".")[0] for name in far}
            assert names == ({"activations", "logits"} if kind == "activation" else {kind}), kind
        else:
            assert summary["kv_tokens"] > 5 * found["router"]["kv_tokens"]
        assert "ddr" in summary["moved_per_output_token_b"] or kind == "norm", kind


def test_a_placement_that_means_nothing_is_one_clear_error(tmp_path: Path) -> None:
    for placed, message in {
        "{kv: {tier: ddr, cache: {tier: hbm, capacity: 1 GiB}}}": "nothing of the kv is used more.*kv: ddr",
        "{optimizer: ddr}": "unknown key 'optimizer'",
        "{kv: dd}": "did you mean 'ddr'",
        "{kv: {split: {hbm: 0.5, ddr: 0.6}}}": "add up to 1.1",
        "{kv: gddr}": "no tier of 'h100-sxm-8' is called 'gddr'|tier of 'h100-sxm-8'",
    }.items():
        with pytest.raises(InputError, match=message):
            summaries(tmp_path, f"[{{hardware: h100-sxm-8, tp: 1, placement: {placed}}}]", "llama-3.1-8b")


def test_keys_and_values_in_the_host_s_memory_leave_room_and_cost_time(tmp_path: Path) -> None:
    machines = """
          - {hardware: h100-sxm-8, name: near, tp: 1}
          - {hardware: h100-sxm-8, name: far, tp: 1, placement: {kv: ddr}}
    """
    near, far = summaries(tmp_path, machines, "llama-3.1-8b")
    assert far["kv_tokens"] > 20 * near["kv_tokens"]
    assert far["tpot_p50_ms"] > near["tpot_p50_ms"]
    assert set(far["moved_per_output_token_b"]["ddr"]) == {"kv"}


def test_new_keys_are_written_where_the_cache_lies_and_cost_bytes_but_no_time() -> None:
    model, precision = load_model("llama-3.1-8b"), Precision()
    near, far = (
        step_cost(model, precision, machine(places), 16, 1).tokens for places in ({}, {"kv": Place({"ddr": 1.0})})
    )
    written = 16 * model.kv_bytes_per_token(precision)
    assert far.bytes["ddr"][16] == pytest.approx(written)
    assert near.bytes["hbm"][16] - far.bytes["hbm"][16] == pytest.approx(written)
    assert far.total_seconds[16] <= near.total_seconds[16]


@settings(deadline=None, max_examples=15)
@given(st.floats(0.0, 1.0), st.sampled_from(["attention", "expert", "router"]), st.integers(1, 4))
def test_bytes_are_conserved_wherever_tensors_lie(share: float, tensor: str, tp: int) -> None:
    """Of a whole step, whatever is cut between two tiers; and a larger near share never makes it slower."""
    model, precision = load_model("mixtral-8x7b"), Precision()
    shares = ((1.0, 0.0), (share, 1.0 - share), (0.0, 1.0))
    places = [
        {tensor: Place({name: part for name, part in zip(("hbm", "ddr"), cut, strict=True) if part})} for cut in shares
    ]
    steps = [step_cost(model, precision, machine(place, tp=2 ** (tp - 1)), 16, 1).tokens for place in places]
    whole = [sum(np.asarray(moved)[16] for moved in step.bytes.values()) for step in steps]
    assert whole == pytest.approx([whole[0]] * 3)
    seconds = [step.total_seconds[16] for step in steps]
    assert seconds[0] <= seconds[1] * (1 + 1e-9)
    assert seconds[1] <= seconds[2] * (1 + 1e-9)
