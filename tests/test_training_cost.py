"""The closed cost of a training step and its memory, against published figures and by properties."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulator.cost.training.machine import TrainingMachine
from simulator.cost.training.memory import memory_sheet
from simulator.cost.training.step import step_time
from simulator.errors import CapacityError
from simulator.hardware.catalogue import Catalogue
from simulator.metrics.training import step_rates
from simulator.model.architecture import Architecture, group_layers
from simulator.model.attention import GroupedQueryAttention
from simulator.model.ffn.dense import DenseFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Matmul
from simulator.model.saved import saved_bytes
from simulator.model.training.adapters import adapter_parameters, with_adapters
from simulator.model.training.backward import backward
from simulator.model.training.layout import TrainingLayout, stages
from simulator.model.training.micro_batch import MicroBatch, layer_operations
from simulator.model.training.recipe import Recipe
from simulator.model.zoo import load_model
from simulator.stack.training.stack import TrainingStacks

GIB = 2.0**30


def gpt(layers: int, hidden: int, heads: int) -> Architecture:
    attention = GroupedQueryAttention(heads, heads, hidden // heads)
    shapes = group_layers([(attention, DenseFFN(4 * hidden, 2))] * layers)
    return Architecture("gpt", "a test", hidden, 51200, 2048, shapes, tied_embeddings=True)


def machine(hardware: str, stack: str, chips: int) -> TrainingMachine:
    profile = Catalogue().load(hardware)
    return TrainingMachine(profile, TrainingStacks().load(stack).on_profile(profile), chips)


A100 = machine("a100-sxm-80g-8", "megatron-2022", 64)
GPT3 = gpt(96, 12288, 96)
RECIPE = Recipe(64, 1, 2048, Precision("fp16"), "full")
LAYOUT = TrainingLayout(tp=8, pp=8, vpp=3)


@pytest.mark.parametrize(
    ("shape", "pp", "vpp", "chips", "batch", "full", "selective"),
    [
        ((48, 6144, 64), 1, 1, 8, 4, 1.42, 1.10),
        ((96, 12288, 96), 8, 3, 64, 64, 18.13, 13.75),
        ((105, 20480, 128), 35, 3, 280, 280, 49.05, 37.83),
        ((128, 25600, 160), 64, 1, 512, 512, 94.42, 71.49),
    ],
)
def test_steps_of_korthikanti(
    shape: tuple[int, int, int], pp: int, vpp: int, chips: int, batch: int, full: float, selective: float
) -> None:
    """Korthikanti et al. 2022, Table 5: full recompute against selective with sequence parallelism."""
    on = machine("a100-sxm-80g-8", "megatron-2022", chips)
    layout = TrainingLayout(tp=8, pp=pp, vpp=vpp)
    recipe = Recipe(batch, 4 if pp == 1 else 1, 2048, Precision("fp16"), "full")
    assert step_time(gpt(*shape), recipe, layout, on).seconds == pytest.approx(full, rel=0.05)
    cut = replace(layout, sequence_parallel=True)
    assert step_time(gpt(*shape), replace(recipe, recompute="selective"), cut, on).seconds == pytest.approx(
        selective, rel=0.05
    )


@pytest.mark.parametrize(
    ("shape", "pp", "vpp", "micro", "none", "selective"),
    [
        ((96, 12288, 96), 8, 3, 1, 66.8, 12.4),
        ((105, 20480, 128), 35, 3, 1, 114.0, 23.1),
        ((128, 25600, 160), 64, 1, 1, 131.3, 26.6),
    ],
)
def test_activations_of_korthikanti(
    shape: tuple[int, int, int], pp: int, vpp: int, micro: int, none: float, selective: float
) -> None:
    """Figure 1: GiB of activations on the first stage, with tensor parallelism alone and with both techniques."""
    model = gpt(*shape)
    on = machine("a100-sxm-80g-8", "megatron-2022", 8 * pp)
    recipe = Recipe(8 * pp, micro, 2048, Precision("fp16"))

    def activations(recipe: Recipe, layout: TrainingLayout) -> float:
        held = saved_bytes(
            model, model.layers[0], MicroBatch(micro, 2048), layout, recipe.precision, recipe.recompute, False
        )
        in_flight = pp * (1 + (pp - 1) / (pp * vpp) if vpp > 1 else 1)
        sheet = memory_sheet(model, recipe, layout, on)
        assert sheet.held["activations"] == pytest.approx(held * shape[0] / pp * in_flight)
        return sheet.held["activations"] / GIB

    layout = TrainingLayout(tp=8, pp=pp, vpp=vpp)
    assert activations(recipe, layout) == pytest.approx(none, rel=0.01)
    cut = replace(layout, sequence_parallel=True)
    assert activations(replace(recipe, recompute="selective"), cut) == pytest.approx(selective, rel=0.01)


def test_a_backward_pass_computes_twice_the_forward() -> None:
    """Each product has two of its size, attention four for two: 2 x forward in all."""
    forward = layer_operations(GPT3, GPT3.layers[0], MicroBatch(1, 2048), TrainingLayout(tp=8), Precision())

    def flops(operations: list[object]) -> float:
        products = sum(2.0 * o.m * o.n * o.k for o in operations if isinstance(o, Matmul))  # type: ignore[operator]
        return float(products + sum(o.pairs * o.flops_per_pair for o in operations if isinstance(o, Attention)))

    assert flops(list(backward(forward))) == pytest.approx(2 * flops(list(forward)))
    frozen = flops(list(backward(forward, frozen=True)))
    assert flops(list(forward)) < frozen < 2 * flops(list(forward))


def test_adapters_train_beside_frozen_weights() -> None:
    """LoRA of rank r: the weights get no gradient, A [k, r] and B [r, n] of queries, keys, values and output do."""
    plain = layer_operations(GPT3, GPT3.layers[0], MicroBatch(1, 2048), TrainingLayout(), Precision())
    both = with_adapters(plain, 16, TrainingLayout())
    gradients = {o.name: o for o in backward(both, frozen=True) if isinstance(o, Matmul) and o.name.endswith(" dW")}
    assert sorted(gradients) == [
        f"{name} adapter {side} dW" for name in ("output projection", "qkv projection") for side in ("down", "up")
    ]
    assert gradients["qkv projection adapter up dW"].m == 16
    own = adapter_parameters(GPT3, TrainingLayout(), 16)
    assert own == 96 * 16 * ((12288 + 3 * 12288) + (12288 + 12288))
    sheet = memory_sheet(GPT3, replace(RECIPE, adapters=16), LAYOUT, A100)
    cut = adapter_parameters(GPT3, LAYOUT, 16)
    assert sheet.held["adapters"] == pytest.approx(18 * cut)
    assert "optimizer" not in sheet.held
    assert "gradients" not in sheet.held


def test_adapters_are_cheaper_than_all_weights() -> None:
    lora, whole = (step_time(GPT3, replace(RECIPE, adapters=rank), LAYOUT, A100) for rank in (16, 0))
    assert lora.seconds < 0.85 * whole.seconds
    assert lora.optimizer < 0.01 * whole.optimizer


def test_experts_keep_their_groups_in_the_backward_pass() -> None:
    model = load_model("deepseek-v3")
    sparse = model.layers[-1]
    operations = layer_operations(model, sparse, MicroBatch(1, 4096), TrainingLayout(dp=8, ep=8), Precision())
    up = next(o for o in operations if o.name == "experts up")
    gradient = next(o for o in backward(operations) if o.name == "experts up dW")
    assert isinstance(up, Matmul)
    assert isinstance(gradient, Matmul)
    assert gradient.groups == up.groups
    assert gradient.m * gradient.n * gradient.k == pytest.approx(up.m * up.n * up.k)
    assert gradient.m == pytest.approx(up.k * up.groups)


@pytest.mark.parametrize(("layers", "pp", "vpp"), [(96, 8, 1), (126, 16, 1), (126, 16, 8), (61, 4, 4), (61, 16, 1)])
def test_stages_hold_every_layer_once(layers: int, pp: int, vpp: int) -> None:
    cut = stages(layers, pp, vpp)
    assert sum(stage.layers for stage in cut) == pytest.approx(layers)
    assert [stage.embedding for stage in cut].count(True) == [stage.head for stage in cut].count(True) == 1


def test_a_faster_network_never_hurts() -> None:
    layout = TrainingLayout(tp=8, pp=4, dp=8, zero=1)
    times = [
        step_time(GPT3, RECIPE, layout, replace(A100, chips=256, network_override=speed)).seconds
        for speed in (5e9, 25e9, 100e9)
    ]
    assert times == sorted(times, reverse=True)


def test_hybrid_sharding_stays_inside_a_node() -> None:
    """Gathering eight ways over NVLink and reducing once a step beats gathering everywhere over a slow network."""
    recipe = Recipe(512, 1, 2048, Precision("fp16"), "full")
    slow = replace(A100, chips=256, network_override=5e9)
    model = gpt(32, 4096, 32)
    whole, hybrid = (step_time(model, recipe, TrainingLayout(dp=256, zero=3, shard=shard), slow) for shard in (None, 8))
    assert hybrid.seconds < whole.seconds
    assert hybrid.gradients > whole.gradients == 0
    sizes = [
        memory_sheet(model, recipe, TrainingLayout(dp=256, zero=3, shard=shard), slow).held["optimizer"]
        for shard in (None, 8)
    ]
    assert sizes[1] == pytest.approx(32 * sizes[0])


def test_more_recompute_is_slower_and_smaller() -> None:
    seconds, sizes = [], []
    for mode in ("none", "selective", "full"):
        recipe = replace(RECIPE, recompute=mode)
        seconds.append(step_time(GPT3, recipe, LAYOUT, A100).seconds)
        sizes.append(memory_sheet(GPT3, recipe, LAYOUT, A100).held["activations"])
    assert seconds == sorted(seconds)
    assert sizes == sorted(sizes, reverse=True)


def test_what_does_not_fit_is_an_error_with_the_sheet() -> None:
    sheet = memory_sheet(GPT3, RECIPE, TrainingLayout(tp=8), A100)
    with pytest.raises(CapacityError, match=r"does not fit 'a100-sxm-80g-8' as tp8(.|\n)*optimizer(.|\n)*capacity"):
        sheet.check()


def test_the_head_count_cliff_of_bloom() -> None:
    """BLOOM chronicles: 64, 96 and 128 heads at hidden 13,824 take 103.5, 107.1 and 147.4 s on 384 A100."""
    on = replace(machine("a100-sxm-80g-8", "megatron-deepspeed-2022", 384), network_override=6.25e9)
    layout = TrainingLayout(tp=4, pp=12, dp=8, zero=1)
    few, some, many = (
        step_time(gpt(78, 13824, heads), Recipe(2048, 2, 2048, Precision("fp16"), "full"), layout, on).seconds
        for heads in (64, 96, 128)
    )
    assert few < some < many
    assert many / some - 1 > 0.5 * (147.4 / 107.1 - 1)


def test_the_hidden_size_cliff_of_bloom() -> None:
    """BLOOM's prequel: 80 layers of 96 heads, a vocabulary of 250,000, on 320 A100 take 221.2 s at hidden 14,400 (heads
    150 wide, no multiple of 8) and 160.3 s at 13,824 (144 wide) in micro-batches of one, 207.9 and 151.1 of two, 208.2
    and 147.4 of four."""
    on = replace(machine("a100-sxm-80g-8", "megatron-deepspeed-2022", 320), network_override=6.25e9)
    layout = TrainingLayout(tp=8, pp=10, dp=4, zero=1)
    work = (14400 / 13824) ** 2
    for micro, slow, fast in ((1, 221.21, 160.29), (2, 207.92, 151.07), (4, 208.18, 147.43)):
        recipe = Recipe(2048, micro, 2048, Precision("fp16"), "full")
        wide, narrow = (
            step_time(replace(gpt(80, hidden, 96), vocab_size=250_000), recipe, layout, on).seconds
            for hidden in (14400, 13824)
        )
        assert 0.5 < (wide / narrow / work - 1) / (slow / fast / work - 1) < 1.0
        assert wide == pytest.approx(slow, rel=0.15)
        assert narrow == pytest.approx(fast, rel=0.08)


def test_palm_on_two_pods() -> None:
    """46.2 % mfu on 6,144 TPU v4 (Chowdhery et al. 2022, recalled); the stack was fitted to MaxText, not to PaLM."""
    profile = Catalogue().load("tpu-v4-64")
    on = TrainingMachine(profile, TrainingStacks().load("maxtext-2023").on_profile(profile), 6144, 2)
    layout = TrainingLayout(tp=12, dp=512, zero=3, slices=2, sequence_parallel=True)
    recipe = Recipe(2048, 4, 2048, Precision(), "full")
    model = load_model("palm-540b")
    step = step_time(model, recipe, layout, on)
    rates = step_rates(model, recipe, step, on, step.seconds)
    assert rates["mfu"] == pytest.approx(0.462, abs=0.02)


def test_layouts_that_cannot_be() -> None:
    model = load_model("deepseek-v3")
    assert "ep 6" in TrainingLayout(dp=64, ep=6).check(model)[0].what
    assert "without a pipeline" in TrainingLayout(vpp=2).check(model)[0].what
    assert "no experts" in TrainingLayout(dp=8, ep=8).check(GPT3)[0].what
    assert not TrainingLayout(pp=16, dp=128, ep=64).check(model)
