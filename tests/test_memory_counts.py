"""Bytes of the KV cache and experts that a batch touches, against tables computed elsewhere."""

from __future__ import annotations

import pytest

from simulator.model.number_format import Precision
from simulator.model.routing import touched
from simulator.model.zoo import load_model

# Model -> bytes of a token in 16 bits: layers that attend to everything, and layers with a window of 128.
KV_BYTES = {
    "gpt3-175b": (4718592, 0),
    "palm-8b": (32768, 0),
    "palm-62b": (65536, 0),
    "palm-540b": (120832, 0),
    "llama-2-7b": (524288, 0),
    "llama-2-70b": (327680, 0),
    "llama-3.1-8b": (131072, 0),
    "llama-3.1-70b": (327680, 0),
    "llama-3.1-405b": (516096, 0),
    "qwen2.5-72b": (327680, 0),
    "opt-175b": (4718592, 0),
    "bloom-176b": (4014080, 0),
    "mixtral-8x7b": (131072, 0),
    "mixtral-8x22b": (229376, 0),
    "deepseek-v3": (70272, 0),
    "deepseek-r1": (70272, 0),
    "kimi-k2": (70272, 0),
    "qwen3-30b-a3b": (98304, 0),
    "qwen3-235b-a22b": (192512, 0),
    "qwen3-32b": (262144, 0),
    "gpt-oss-20b": (24576, 24576),
    "gpt-oss-120b": (36864, 36864),
}


@pytest.mark.parametrize("name", KV_BYTES)
def test_kv_bytes_of_a_token(name: str) -> None:
    model, (everywhere, windowed) = load_model(name), KV_BYTES[name]
    assert model.kv_bytes_per_token(Precision()) == everywhere
    if windowed:
        assert model.kv_bytes_per_sequence(Precision()) == windowed * 128


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
