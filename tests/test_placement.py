"""What a replica holds in memory: the sheet adds up, and what does not fit is refused with it."""

from __future__ import annotations

import re
from math import ceil

import pytest

from simulator.cost.machine import Machine
from simulator.cost.placement import CapacitySheet, capacity
from simulator.errors import CapacityError
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

GIB = 2.0**30


def sheet(
    model: str = "llama-3.1-8b",
    hardware: str = "h100-sxm-8",
    precision: Precision | None = None,
    utilization: float = 0.9,
    max_tokens: int = 2048,
    max_outputs: int = 256,
    **layout: int,
) -> CapacitySheet:
    profile = Catalogue().load(hardware)
    return capacity(
        load_model(model),
        precision or Precision(),
        Machine(profile, Stacks().load(profile.default_stack), Parallelism(**layout)),
        memory_utilization=utilization,
        block_size=16,
        max_tokens=max_tokens,
        max_outputs=max_outputs,
    )


def test_the_sheet_adds_up() -> None:
    found = sheet()
    assert found.available == pytest.approx(0.9 * 80 * GIB)
    assert found.held["activations"] == 2048 * 4096 * 2 * 8
    assert found.held["logits"] == 256 * 128256 * 4
    weights = sum(size for name, size in found.held.items() if name not in ("activations", "logits"))
    assert weights == load_model("llama-3.1-8b").total_parameters() * 2
    left = found.available - sum(found.held.values())
    assert 0 <= left - found.kv_tokens * found.kv_bytes_per_token < found.block_size * found.kv_bytes_per_token


def test_the_text_says_what_the_sheet_holds() -> None:
    text = sheet().text()
    assert "llama-3.1-8b on h100-sxm-8 (tp1), one chip, hbm:" in text
    for name in ("embedding", "attention", "ffn", "head", "activations", "in all", "available", "left for KV cache"):
        assert re.search(rf"^  {name} +[\d.]+ [kMG]?B$", text, re.MULTILINE), name


def test_kv_cache_of_an_8b_model_on_one_h100() -> None:
    # 32 layers x 8 heads x 128 x K and V x 2 B = 131,072 B a token; activations and logits take less than 3 %.
    found = sheet()
    assert found.kv_bytes_per_token == 131072
    expected = (0.9 * 80 * GIB - load_model("llama-3.1-8b").total_parameters() * 2) / 131072
    assert 0.97 * expected < found.kv_tokens < expected


def test_eight_bit_keys_double_the_cache() -> None:
    sixteen, eight = sheet(), sheet(precision=Precision(kv="fp8"))
    assert eight.kv_tokens == pytest.approx(2 * sixteen.kv_tokens, rel=1e-4)


def test_tensor_parallelism_leaves_room_and_stops_helping_when_heads_are_copied() -> None:
    eight = sheet("llama-3.1-70b", tp=8)
    assert eight.kv_bytes_per_token == 80 * 1 * 128 * 2 * 2  # one of eight key-value heads a chip
    sixteen = sheet("llama-3.1-70b", "tpu-v5e-16", tp=16)
    assert sixteen.kv_bytes_per_token == eight.kv_bytes_per_token


def test_copies_of_the_attention_hold_sequences_of_their_own() -> None:
    one, two = sheet("llama-3.1-8b", tp=1), sheet("llama-3.1-8b", tp=1, dp=2)
    assert two.held["attention"] == one.held["attention"]
    assert two.kv_blocks == pytest.approx(2 * one.kv_blocks, rel=0.02)


def test_only_the_usable_share_of_a_tier_counts() -> None:
    profile = Catalogue().load("h100-sxm-8")
    hbm = profile.chip.memory[1].model_copy(update={"usable": 0.5})
    chip = profile.chip.model_copy(update={"memory": (profile.chip.memory[0], hbm)})
    machine = Machine(profile.model_copy(update={"chip": chip}), Stacks().load("vllm-2025"), Parallelism())
    found = capacity(
        load_model("llama-3.1-8b"),
        Precision(),
        machine,
        memory_utilization=0.9,
        block_size=16,
        max_tokens=1,
        max_outputs=1,
    )
    assert found.available == pytest.approx(0.45 * 80 * GIB)


def test_what_does_not_fit_is_refused_with_the_sheet_and_what_to_do() -> None:
    with pytest.raises(CapacityError) as refused:
        sheet("llama-3.1-70b", tp=1)
    text = str(refused.value)
    assert text.startswith("llama-3.1-70b does not fit 'h100-sxm-8' on 1 of 8 chips; use more chips (tp, pp)")
    assert "llama-3.1-70b on h100-sxm-8 (tp1), one chip, hbm:" in text
    assert re.search(r"in all +141\.\d+ GB", text)
    assert re.search(r"left for KV cache +-64\.\d+ GB", text)


def test_weights_that_just_fit_without_a_block_of_cache_are_refused() -> None:
    found = sheet()
    held = sum(found.held.values())
    block = found.kv_bytes_per_token * found.block_size
    for blocks, fits in ((0.5, False), (1.5, True)):
        utilization = (held + blocks * block) / (80 * GIB)
        if fits:
            assert sheet(utilization=utilization).kv_blocks == 1
        else:
            with pytest.raises(CapacityError):
                sheet(utilization=utilization)


def test_windows_take_a_fixed_share_of_each_sequence() -> None:
    found = sheet("gpt-oss-20b", precision=Precision(experts="mxfp4"))
    model = load_model("gpt-oss-20b")
    fixed = model.kv_bytes_per_sequence(Precision())
    assert fixed == 12 * 128 * 8 * 64 * 2 * 2  # half of 24 layers keep 128 tokens of 8 heads of 64
    assert found.kv_fixed_blocks == ceil(fixed / (16 * found.kv_bytes_per_token))
