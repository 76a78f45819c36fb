"""Bytes of the KV cache and experts that a batch touches, against tables computed elsewhere."""

from __future__ import annotations

import pytest

from simulator.cost.machine import Machine
from simulator.cost.placement import capacity
from simulator.hardware.catalogue import Catalogue
from simulator.model.number_format import Precision
from simulator.model.operation import Attention, Batch
from simulator.model.parallelism import Parallelism
from simulator.model.routing import touched
from simulator.model.zoo import load_model
from simulator.stack.stack import Stacks

# Model -> bytes of a token in 16 bits: layers that attend to everything, and layers with a window of 128.
KV_BYTES = {
    "gpt3-175b": (4718592, 0),
    "palm-8b": (32768, 0),
    "palm-62b": (65536, 0),
    "palm-540b": (120832, 0),
    "llama-2-7b": (524288, 0),
    "llama-2-13b": (819200, 0),
    "llama-2-70b": (327680, 0),
    "llama-3.1-8b": (131072, 0),
    "llama-3.1-70b": (327680, 0),
    "llama-3.1-405b": (516096, 0),
    "qwen2.5-72b": (327680, 0),
    "opt-175b": (4718592, 0),
    "bloom-176b": (4014080, 0),
    "llama-4-scout": (196608, 0),  # chunked layers keep all chunks
    "llama-4-maverick": (196608, 0),
    "mixtral-8x7b": (131072, 0),
    "mixtral-8x22b": (229376, 0),
    "deepseek-v2": (69120, 0),
    "deepseek-v3": (70272, 0),
    "deepseek-r1": (70272, 0),
    "kimi-k2": (70272, 0),
    "qwen3-30b-a3b": (98304, 0),
    "qwen3-235b-a22b": (192512, 0),
    "qwen3-32b": (262144, 0),
    "gpt-oss-20b": (24576, 24576),
    "gpt-oss-120b": (36864, 36864),
    "memory-plus-8b-16m": (131072, 0),
    "memory-plus-373m-1m": (98304, 0),
}

# Model -> bytes of a token if every layer kept its own keys of all tokens, as the same table has it for these; share of
# the layers that have a window; share that borrow the keys of others.
UPPER_BOUNDS = {
    "gemma-3n-e4b": (71680, 16 / 35, 15 / 35),
    "gemma-3n-e2b": (61440, 16 / 30, 10 / 30),
}


@pytest.mark.parametrize("name", KV_BYTES)
def test_kv_bytes_of_a_token(name: str) -> None:
    model, (everywhere, windowed) = load_model(name), KV_BYTES[name]
    assert model.kv_bytes_per_token(Precision()) == everywhere
    if windowed:
        assert model.kv_bytes_per_sequence(Precision()) == windowed * 128


@pytest.mark.parametrize("name", UPPER_BOUNDS)
def test_kv_bytes_of_a_token_where_layers_have_windows_or_borrow_keys(name: str) -> None:
    model, (bound, windowed, borrowed) = load_model(name), UPPER_BOUNDS[name]
    window = model.windows[1] or 0
    assert model.kv_bytes_per_token(Precision()) == pytest.approx(bound * (1 - windowed - borrowed))
    assert model.kv_bytes_per_sequence(Precision()) == pytest.approx(bound * windowed * window)


def test_layers_that_borrow_keys_read_them_and_keep_none() -> None:
    """35 layers of Gemma 3n attend, whether the keys are their own or not."""
    model = load_model("gemma-3n-e4b")
    batch = Batch(1.0, 1.0, {None: 1000.0, 512: 512.0})
    read = [o for o in model.forward(batch, Parallelism(), Precision()) if isinstance(o, Attention)]
    assert sum(o.keys * o.bytes_per_key * o.repeat for o in read) == 2048 * (7 * 1000 + 28 * 512)


def test_an_image_is_read_by_every_token_however_long_the_text() -> None:
    model = load_model("llama-3.2-11b-vision")
    for context in (10.0, 10_000.0):
        batch = Batch(2.0, 2.0, {None: 2 * context, 1: 2.0})
        read = [o for o in model.forward(batch, Parallelism(), Precision()) if isinstance(o, Attention)]
        whole = sum(float(o.keys) * o.bytes_per_key * float(o.repeat) for o in read)
        assert whole == 2 * 4096 * (32 * context + 8 * 4 * 1601)


def test_a_query_scores_every_block_and_reads_the_best() -> None:
    """MiniMax M3 at 100,000 tokens: 57 layers read all index keys and 16 blocks of 128, three layers everything."""
    model, context = load_model("minimax-m3"), 100_000.0
    batch = Batch(1.0, 1.0, {None: context, 2048: 2048.0})
    read = [o for o in model.forward(batch, Parallelism(), Precision()) if isinstance(o, Attention)]
    whole = sum(float(o.keys) * o.bytes_per_key * float(o.repeat) for o in read)
    assert whole == 57 * (context * 128 * 2 + 2048 * 2048) + 3 * context * 2048


def test_a_scan_without_keys_holds_one_block_a_sequence() -> None:
    """Mamba keeps a state whatever the context: so many sequences fit as states do."""
    model = load_model("mamba-2.8b")
    machine = Machine(Catalogue().load("h100-sxm-8"), Stacks().load("vllm-2025"), Parallelism())
    sheet = capacity(
        model, Precision(), machine, memory_utilization=0.9, block_size=16, max_tokens=2048, max_outputs=256
    )
    state = model.kv_bytes_per_sequence(Precision())
    assert sheet.kv_blocks == int(sheet.tiers[0].left / state)


def test_linear_attention_keeps_a_state_and_no_keys() -> None:
    model = load_model("qwen3.5-397b-a17b")  # 45 of 60 layers are linear; the others keep 2 heads of 256
    assert model.kv_bytes_per_token(Precision()) == 15 * 2 * 2 * 256 * 2
    assert model.kv_bytes_per_sequence(Precision()) > 45 * 2**20


# (experts, top k) -> distinct experts that a batch of so many tokens touches, routed evenly (reference, two decimals).
UNIQUE = {
    (8, 2): {1: 2.0, 8: 7.2, 32: 8.0, 128: 8.0, 512: 8.0},
    (256, 8): {1: 8.0, 8: 57.42, 32: 163.31, 128: 251.6, 512: 256.0},
    (384, 8): {1: 8.0, 8: 59.52, 32: 188.23, 128: 358.06, 512: 383.99},
    (128, 8): {1: 8.0, 8: 51.62, 32: 111.77, 128: 127.97, 512: 128.0},
    (128, 4): {1: 4.0, 8: 28.71, 32: 81.66, 128: 125.8, 512: 128.0},
    (128, 1): {1: 1.0, 8: 7.78, 32: 28.41, 128: 81.1, 512: 125.69},
}


@pytest.mark.parametrize(("experts", "top_k"), UNIQUE)
def test_experts_that_a_batch_touches(experts: int, top_k: int) -> None:
    for tokens, unique in UNIQUE[experts, top_k].items():
        assert touched(experts, top_k, float(tokens)) == pytest.approx(unique, abs=0.0051)
