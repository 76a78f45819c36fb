"""What a training script sets: named parts computed again, graphs, how tokens reach experts, modules of prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.memory import memory_sheet
from simulator.cost.training.operation import price
from simulator.cost.training.stage import layer_time, mean_layer, stage_times
from simulator.cost.training.step import send_exposed, step_time
from simulator.hardware.catalogue import Catalogue
from simulator.model.architecture import Architecture
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.together import Together
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Collective, Stream
from simulator.model.training.layout import TrainingLayout, stages
from simulator.model.training.micro_batch import MicroBatch, layer_operations, sent_once
from simulator.model.training.recipe import Graphs, Recipe
from simulator.model.training.recompute import PARTS, Recompute, computed_again, recompute_text
from simulator.model.zoo import load_model
from simulator.quantity import Known
from simulator.stack.training.stack import TrainingStacks

LAYOUT = TrainingLayout(dp=64, ep=32, zero=1)
RECIPE = Recipe(256, 1, 4096, Precision(weights="fp8", kv="bf16", embedding="bf16", head="bf16"))


@pytest.fixture(scope="module")
def b200() -> TrainingMachine:
    profile = Catalogue().load("b200-sxm-8")
    return TrainingMachine(profile, TrainingStacks().load("megatron-bridge-2026-02").on_profile(profile), 64)


@pytest.fixture(scope="module")
def deepseek() -> Architecture:
    return load_model("deepseek-v3")


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_computed_again_costs_time_and_saves_memory(
    part: str, deepseek: Architecture, b200: TrainingMachine
) -> None:
    """Between nothing and the whole layer, whatever the part."""

    def seconds(recompute: Recompute) -> float:
        return step_time(deepseek, replace(RECIPE, recompute=recompute), LAYOUT, b200).seconds

    def kept(recompute: Recompute) -> float:
        return memory_sheet(deepseek, replace(RECIPE, recompute=recompute), LAYOUT, b200).held["activations"]

    named = frozenset({part})
    assert seconds("none") < seconds(named) < seconds("full")
    assert kept("full") < kept(named) <= kept("none")


def test_parts_are_named_by_the_operations_of_a_layer(deepseek: Architecture) -> None:
    operations = layer_operations(deepseek, deepseek.layers[-1], MicroBatch(1, 4096), LAYOUT, Precision())
    for part in set(PARTS) - {"mlp"}:  # a layer of experts has no dense FFN
        assert computed_again(operations, frozenset({part})), part
    both = computed_again(operations, frozenset({"moe", "moe_act"}))
    assert len(both) == len(computed_again(operations, frozenset({"moe"})))  # each once
    assert recompute_text(frozenset({"moe_act", "core_attn"})) == "core_attn + moe_act"


def test_graphs_spare_the_host_its_launches(deepseek: Architecture, b200: TrainingMachine) -> None:
    """Experts' kernels wait for the counts of their tokens until the whole step is one graph."""
    layer = deepseek.layers[-1]
    kinds: tuple[Graphs, ...] = ("full", "partial", "none")
    full, partial, none = (layer_time(deepseek, layer, replace(RECIPE, graphs=kind), LAYOUT, b200) for kind in kinds)
    assert partial.both - full.both >= float(b200.stack.expert_wait)
    assert none.both > partial.both
    dense = deepseek.layers[0]
    same = [layer_time(deepseek, dense, replace(RECIPE, graphs=kind), LAYOUT, b200).both for kind in kinds[:2]]
    assert same[0] == same[1]


def test_messages_hide_behind_chunks_alone(deepseek: Architecture, b200: TrainingMachine) -> None:
    """1F1B sends between its passes; interleaving, and schedules that choose, have others to run meanwhile."""
    plain, chunks = replace(LAYOUT, pp=4, dp=8), replace(LAYOUT, pp=4, dp=8, vpp=4)
    stack = b200.stack
    assert float(stack.pp_exposed) < 1.0
    assert send_exposed(plain, b200, "1f1b") == 1.0
    assert send_exposed(plain, b200, "zero_bubble") == send_exposed(chunks, b200, "interleaved") == stack.pp_exposed


def test_a_machine_gets_a_token_once(deepseek: Architecture, b200: TrainingMachine) -> None:
    """8 choices among 32 ranks in 4 machines of 8: 4 (1 - (3/4)^8) = 3.6 machines instead of 8 copies."""
    layer = deepseek.layers[-1]
    operations = layer_operations(deepseek, layer, MicroBatch(1, 4096), LAYOUT, Precision())
    copies = [o for o in operations if isinstance(o, Collective)]
    once = [o for o in sent_once(operations, layer) if isinstance(o, Collective)]
    sent = 4096 * 7168 * 2.0

    def seconds(listed: list[Collective]) -> float:
        return price(listed, b200, LAYOUT, 0, 0).of("ep")

    assert seconds([copies[0]]) == pytest.approx(8 * sent * 24 / 32 / b200.network + float(b200.stack.latency))
    others = 3 * (1 - 0.75**8)
    assert seconds([once[0]]) == pytest.approx(others * sent / b200.network + float(b200.stack.latency))


def test_experts_beside_a_table_are_sent_once_too(deepseek: Architecture) -> None:
    layer = deepseek.layers[-1]
    assert layer.ffn is not None
    both = replace(layer, ffn=Together((layer.ffn, NgramTable(rows=1000, width=64))))
    operations = layer_operations(deepseek, both, MicroBatch(1, 4096), LAYOUT, Precision())
    exchanged = [o for o in sent_once(operations, both) if isinstance(o, Collective) and o.pattern == "all_to_all"]
    assert {o.name: o.chosen for o in exchanged} == {
        "experts dispatch": 8,
        "experts combine": 8,
        "n-gram rows exchange": 0,
    }


def test_the_exchange_shows_in_full_unless_another_micro_batch_computes(
    deepseek: Architecture, b200: TrainingMachine
) -> None:
    hidden, shown = (
        layer_time(deepseek, deepseek.layers[-1], replace(RECIPE, overlap=overlap), LAYOUT, b200).parts["ep"]
        for overlap in (True, False)
    )
    assert hidden == pytest.approx(float(b200.stack.ep_exposed) * shown)


def test_modules_of_prediction_lie_on_the_last_stage(deepseek: Architecture, b200: TrainingMachine) -> None:
    assert [stage.layers for stage in stages(61, 4, 4, 1)] == [16, 16, 16, 13]
    assert [stage.layers for stage in stages(61, 4, 4)] == [16, 16, 16, 13]  # without it: the last chunk has the head
    assert [stage.layers for stage in stages(61, 8, 4)] == [*[8] * 7, 5]
    assert sum(stage.layers for stage in stages(61, 2, 8, 2)) == pytest.approx(61)
    plain, more = (stage_times(deepseek, replace(RECIPE, predictors=count), LAYOUT, b200)[0] for count in (0, 1))
    assert more.parts["head"] == pytest.approx(2 * plain.parts["head"])
    layer = layer_time(deepseek, deepseek.layers[-1], RECIPE, LAYOUT, b200).both
    assert layer < more.both - plain.both - plain.parts["head"] < 1.2 * layer


def test_layers_in_sixteen_bits_count_by_their_share(deepseek: Architecture, b200: TrainingMachine) -> None:
    """A sixth of the layers in 16 bits lies a sixth of the way between all layers in 8 bits and none."""
    none, some, all_of_them = (
        mean_layer(deepseek, replace(RECIPE, wide_layers=count), LAYOUT, b200).both for count in (0, 10, 61)
    )
    assert some == pytest.approx(none + 10 / 61 * (all_of_them - none))
    assert none < all_of_them


def test_scans_over_states_have_a_rate_of_their_own(b200: TrainingMachine) -> None:
    model = load_model("nemotron-3-nano-30b-a3b")
    mamba = next(layer for layer in model.layers if layer.attention and layer.attention.kind == "mamba2")
    operations = layer_operations(model, mamba, MicroBatch(1, 8192), TrainingLayout(), Precision())
    scan = next(o for o in operations if isinstance(o, Attention))
    slow = replace(b200, stack=b200.stack.model_copy(update={"scan": Known(0.01)}))
    work = float(scan.pairs) * scan.flops_per_pair
    assert price([scan], slow, TrainingLayout(), 64, 64).of("attention") == pytest.approx(
        work / (0.01 * b200.profile.sixteen_bit_peak)
    )


def test_biases_of_grouped_experts_are_added_expert_by_expert() -> None:
    """GPT-OSS: each value that a grouped product makes is read and written twice more; single ones add their own."""
    model = load_model("gpt-oss-120b")
    operations = layer_operations(model, model.layers[0], MicroBatch(1, 4096), TrainingLayout(dp=8, ep=8), Precision())
    added = {o.name: float(o.bytes) for o in operations if isinstance(o, Stream)}
    rows = 4096 * 4
    assert added == {"experts up bias": 8 * rows * 2 * 2880, "experts down bias": 8 * rows * 2880}
    plain = load_model("qwen3-30b-a3b")
    asked = layer_operations(plain, plain.layers[0], MicroBatch(1, 4096), TrainingLayout(dp=8, ep=8), Precision())
    assert not [o for o in asked if isinstance(o, Stream)]
