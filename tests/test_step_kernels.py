"""Kernels that a stack takes for prompts, unpacked weights and decoding: each against its closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cost_machines import BANDWIDTH, H100, machine, square, step_s

from simulator.cost.matmul import matmul
from simulator.cost.step import step_cost
from simulator.model.number_format import Precision
from simulator.model.zoo import load_model


def test_a_prompt_streams_weights_at_the_rate_of_its_own_kernels() -> None:
    """One token as a prompt: its layers at half the rate, the head as ever."""
    numbers = {"stack__prefill_layer_overhead": 0.0, "stack__host_floor": 0.0, "stack__overlap": 1.0}
    same, slow = (
        machine(**numbers, stack__streaming__bf16=0.8, stack__prefill_streaming=table)
        for table in ({}, {"default": 0.4})
    )
    decode, prompt = (step_s(chips, "llama-3.1-8b", 1) for chips in (same, slow))
    assert prompt == decode
    weights = 32 * (4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) * 2
    more = step_s(slow, "llama-3.1-8b", 1, 0, 1) - step_s(same, "llama-3.1-8b", 1, 0, 1)
    assert more == pytest.approx(weights / (0.8 * BANDWIDTH), rel=1e-6)


def test_products_of_weights_unpacked_to_sixteen_bits_are_slower_others_are_not() -> None:
    """On Apple's GPUs, which multiply in 16 bits; an H100 multiplies 8 bits as they are."""
    apple = machine("m2-max-38c")
    share = float(apple.stack.unpacked_matmul)
    wide, narrow = (matmul(replace(square(65536), format=f), apple).total_seconds for f in ("fp16", "q8_0"))
    assert narrow == pytest.approx(wide / share, rel=1e-3)
    hopper = machine(stack__unpacked_matmul=0.5)
    assert matmul(replace(square(65536), format="fp8"), hopper) == matmul(replace(square(65536), format="fp8"), H100)


def test_chips_that_take_turns_gain_nothing_from_each_other() -> None:
    """At batch 1 eight chips take an eighth of the time at once, all of it in turns."""
    numbers = {"stack__overlap": 1.0, "stack__collectives__fused": True}
    whole = square(1, 8192)
    alone = matmul(whole, machine(**numbers)).total_seconds
    at_once, in_turns = (
        matmul(replace(whole, n=8192 / 8), machine(tp=8, stack__turns=turns, **numbers)).total_seconds
        for turns in (0.0, 1.0)
    )
    assert in_turns == pytest.approx(8 * at_once, rel=1e-12)
    assert alone == pytest.approx(in_turns, rel=1e-3)  # but for the activations, which each chip reads


def test_few_sequences_get_the_kernel_that_splits_their_keys() -> None:
    """Up to 16 sequences of 32 heads are 512 blocks; in the table as in the operation itself."""
    chips = machine("mi300x-8", stack="vllm-rocm-2024", stack__host_floor=0.0, stack__kv_streaming=0.97)
    split = chips.stack.decode_split
    assert split is not None
    keys = step_cost(load_model("llama-3.1-8b"), Precision(), chips, 64, 64).keys[0].total_seconds
    shares = (split.attention, chips.stack.decode_attention["default"])
    few, many = (4 * 4096 * 32 / (chips.sixteen_bit_peak * float(share)) for share in shares)
    assert np.asarray(keys)[[1, 16]] == pytest.approx(few, rel=0.02)  # reading the cache takes its part
    assert np.asarray(keys)[[17, 64]] == pytest.approx(many, rel=1e-3)
    last, first = (
        step_s(chips, "llama-3.1-8b", tokens, 1000 * tokens) - step_s(chips, "llama-3.1-8b", tokens)
        for tokens in (16, 17)
    )
    assert first / last == pytest.approx(17 / 16 * many / few, rel=0.02)


def test_the_keys_of_one_sequence_are_scanned_one_after_the_other() -> None:
    """However many chips share the heads, and however many sequences run beside it."""
    quick, slow = (machine(tp=8, stack__key_scan=scan, stack__host_floor=0.0) for scan in (0.0, 100e-9))
    added = [
        step_s(slow, "llama-3.1-8b", batch, batch * 10_000) - step_s(slow, "llama-3.1-8b", batch) for batch in (1, 4)
    ]
    assert added == pytest.approx([32 * 10_000 * 100e-9] * 2, rel=1e-3)
    assert step_s(quick, "llama-3.1-8b", 1, 10_000) < step_s(slow, "llama-3.1-8b", 1, 10_000)


def test_prompts_wait_for_a_host_that_launches_their_layers_chip_after_chip() -> None:
    quick, slow = (machine(tp=8, stack__prefill_dispatch=each, stack__host_norm=4.0) for each in (0.0, 1e-3))
    assert step_s(slow, "llama-3.1-8b", 8) == pytest.approx(step_s(quick, "llama-3.1-8b", 8), rel=1e-9)
    host = float(slow.stack.host_floor) + 8 * 32 * 1e-3
    assert step_s(slow, "llama-3.1-8b", 8, 0, 36) == pytest.approx(host, rel=1e-2)
    long = [step_s(chips, "llama-3.1-70b", 65536, 0, 65536**2 // 2) for chips in (quick, slow)]
    assert long[1] == pytest.approx(long[0], rel=1e-3)  # the device is busy for longer
