"""The packaged models have the parameters and the cache that their makers publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulator.errors import ModelError
from simulator.model.huggingface import read_config
from simulator.model.number_format import Precision
from simulator.model.zoo import load_model, model_names, published

# Total and active parameters, counted by hand or by the makers' own code from the same shapes.
TOTALS = {
    # 96 layers of 12*d^2 + 13*d, vocabulary and 2,048 positions of d, a final norm of 2*d.
    "gpt3-175b": (96 * (12 * 12288**2 + 13 * 12288) + (50257 + 2048 + 2) * 12288,) * 2,
    # The same with OPT's vocabulary and its two extra rows of positions.
    "opt-175b": (96 * (12 * 12288**2 + 13 * 12288) + (50272 + 2050 + 2) * 12288,) * 2,
    # The number that the BLOOM release prints, embedding norm included.
    "bloom-176b": (176_247_271_424,) * 2,
    # L * ((2*heads + 2)*256*d + 3*4*d^2 + d) + vocabulary*d + d: one norm a layer, scale only.
    "palm-8b": (32 * (34 * 256 * 4096 + 12 * 4096**2 + 4096) + 256_001 * 4096,) * 2,
    "palm-62b": (64 * (66 * 256 * 8192 + 12 * 8192**2 + 8192) + 256_001 * 8192,) * 2,
    "palm-540b": (118 * (98 * 256 * 18432 + 12 * 18432**2 + 18432) + 256_001 * 18432,) * 2,
    "llama-2-7b": (6_738_415_616, 6_738_415_616),
    "llama-2-13b": (13_015_864_320, 13_015_864_320),
    "llama-2-70b": (68_976_648_192, 68_976_648_192),
    "llama-3.1-8b": (8_030_261_248, 8_030_261_248),
    "llama-3.1-70b": (70_553_706_496, 70_553_706_496),
    "llama-3.1-405b": (405_853_388_800, 405_853_388_800),
    "qwen2.5-72b": (72_706_203_648, 72_706_203_648),
    "qwen3-8b": (8_190_735_360, 8_190_735_360),
    "qwen3-32b": (32_762_123_264, 32_762_123_264),
    "qwen3-30b-a3b": (30_532_122_624, 3_353_032_704),
    "qwen3-235b-a22b": (235_093_634_560, 22_190_763_520),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248),
    "mixtral-8x22b": (140_620_634_112, 39_152_031_744),
    "deepseek-v2": (235_741_434_880, 21_375_800_320),
    "deepseek-v3": (671_026_419_200, 37_552_297_472),
    "deepseek-r1": (671_026_419_200, 37_552_297_472),
    "kimi-k2": (1_026_408_232_448, 32_861_500_928),
    "gpt-oss-20b": (20_914_757_184, 4_187_440_704),
    "gpt-oss-120b": (116_829_156_672, 5_711_982_912),
    "llama-4-scout": (107_769_861_120, 17_172_894_720),
    "llama-4-maverick": (400_711_848_960, 17_184_691_200),
}

# Published totals that the decoder misses by more than 0.5 %, and why.
TOTAL_EXCEPTIONS = {
    "kimi-k2": 0.014,  # the report rounds 1.026 T up to 1.04 T
    "llama-4-scout": 0.012,  # the card's 109 B holds the vision tower, which is not part of the decoder
}

# Published active parameters leave out the embedding, or the head too, or are rounded to two digits.
ACTIVE_EXCEPTIONS = {
    "deepseek-v2": 0.02,  # "21B"
    "deepseek-v3": 0.024,  # "36.7B" holds one of the two tables of 0.93 B
    "deepseek-r1": 0.024,
    "gpt-oss-20b": 0.17,  # "3.61B" leaves out the embedding of 0.58 B
    "gpt-oss-120b": 0.13,  # "5.13B" leaves out the embedding of 0.58 B
    "kimi-k2": 0.009,  # "32.6B"
    "llama-4-maverick": 0.012,  # "17B"
    "llama-4-scout": 0.012,  # "17B"
    "qwen3-235b-a22b": 0.009,  # "22B"
    "qwen3-30b-a3b": 0.017,  # "3.3B"
}

# Cache bytes of one token at 16 bits: full layers, and layers with a window.
KV_BYTES = {
    "gpt3-175b": (4_718_592, 0),
    "palm-8b": (32_768, 0),
    "palm-62b": (65_536, 0),
    "palm-540b": (120_832, 0),
    "llama-2-7b": (524_288, 0),
    "llama-2-13b": (819_200, 0),
    "llama-2-70b": (327_680, 0),
    "llama-3.1-8b": (131_072, 0),
    "llama-3.1-70b": (327_680, 0),
    "llama-3.1-405b": (516_096, 0),
    "qwen2.5-72b": (327_680, 0),
    "qwen3-8b": (147_456, 0),
    "qwen3-32b": (262_144, 0),
    "qwen3-30b-a3b": (98_304, 0),
    "qwen3-235b-a22b": (192_512, 0),
    "opt-175b": (4_718_592, 0),
    "bloom-176b": (4_014_080, 0),
    "mixtral-8x7b": (131_072, 0),
    "mixtral-8x22b": (229_376, 0),
    "deepseek-v2": (69_120, 0),
    "deepseek-v3": (70_272, 0),
    "deepseek-r1": (70_272, 0),
    "kimi-k2": (70_272, 0),
    "gpt-oss-20b": (24_576, 24_576 * 128),
    "gpt-oss-120b": (36_864, 36_864 * 128),
    # 196,608 B over 48 layers, of which every fourth attends beyond its chunk of 8,192.
    "llama-4-scout": (196_608 // 4, 196_608 * 3 // 4 * 8192),
    "llama-4-maverick": (196_608 // 4, 196_608 * 3 // 4 * 8192),
}


def test_every_packaged_model_is_listed_here() -> None:
    assert set(model_names()) == set(TOTALS) == set(KV_BYTES)


@pytest.mark.parametrize("name", TOTALS)
def test_parameters_equal_the_count_by_hand(name: str) -> None:
    model = load_model(name)
    assert (model.total_parameters(), model.active_parameters()) == TOTALS[name]


@pytest.mark.parametrize("name", TOTALS)
def test_parameters_agree_with_the_published_totals(name: str) -> None:
    model, known = load_model(name), published(name)
    assert known is not None and known.source
    allowed = TOTAL_EXCEPTIONS.get(name, 0.005)
    assert model.total_parameters() == pytest.approx(known.total_parameters, rel=allowed)
    allowed = ACTIVE_EXCEPTIONS.get(name, 0.005)
    assert model.active_parameters() == pytest.approx(known.active_parameters, rel=allowed)


def test_exceptions_are_still_exceptions() -> None:
    for name in TOTAL_EXCEPTIONS:
        known = published(name)
        assert known and abs(load_model(name).total_parameters() / known.total_parameters - 1) > 0.005
    for name in ACTIVE_EXCEPTIONS:
        known = published(name)
        assert known and abs(load_model(name).active_parameters() / known.active_parameters - 1) > 0.005


@pytest.mark.parametrize("name", KV_BYTES)
def test_cache_bytes(name: str) -> None:
    model = load_model(name)
    assert (model.kv_bytes_per_token(Precision()), model.kv_bytes_per_sequence(Precision())) == KV_BYTES[name]


def test_every_model_says_where_its_shape_is_from() -> None:
    for name in model_names():
        assert not load_model(name).source.endswith(f"{name}.json")


def test_checkpoints_say_how_they_are_stored() -> None:
    assert load_model("llama-3.1-70b").precision == Precision("bf16")
    assert load_model("gpt-oss-120b").precision == Precision("bf16", experts="mxfp4")
    assert load_model("deepseek-v3").precision == Precision("fp8", embedding="bf16", head="bf16")
    assert load_model("gpt3-175b").precision is None


def test_the_gpt_oss_checkpoint_fits_the_card_it_was_made_for() -> None:
    model = load_model("gpt-oss-120b")
    assert model.precision is not None
    # The model card prints a checkpoint of 60.8 GiB (recalled).
    assert sum(model.weight_bytes(model.precision).values()) == pytest.approx(60.8 * 2**30, rel=0.01)


def test_a_users_folder_comes_first_and_a_path_works(tmp_path: Path) -> None:
    config = json.loads((Path(load_model.__code__.co_filename).parent / "llama-2-7b.json").read_text())
    config["num_hidden_layers"] = 2
    (tmp_path / "llama-2-7b.json").write_text(json.dumps(config))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    assert load_model("llama-2-7b", [tmp_path]).layer_count == 2
    assert load_model("llama-2-7b").layer_count == 32
    assert "mine" in model_names([tmp_path])
    for path in (tmp_path / "mine", tmp_path / "mine" / "config.json"):
        model = load_model(path)
        assert (model.name, model.layer_count) == ("mine", 2)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'llama-3.1-70'; did you mean 'llama-3.1-70b'"):
        load_model("llama-3.1-70")


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def test_an_unknown_architecture_is_never_guessed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n  "hidden_size": 64,\n  "model_type": "deepseek_v32"\n}')
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path}:3:3: unknown model_type 'deepseek_v32'; did you mean 'deepseek_v3'?"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"hidden_size": float("nan")}, "hidden_size is nan"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"hidden_size": 10**30}, "hidden_size is 1000"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"num_attention_heads": 5}, "5 attention heads do not divide hidden_size 64"),
        ({"num_key_value_heads": 3}, "3 key-value heads do not divide 4 attention heads"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"torch_dtype": "float7"}, "dtype 'float7'"),
        ({"quantization_config": {"quant_method": "magic"}}, r"quantization_config \(magic\)"),
        ({"model_type": None}, "missing 'model_type'"),
        ({"model_type": 7}, "unknown model_type '7'"),
        ({"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3}, "3 is more than 2 experts"),
        ({"model_type": "gpt_oss", "layer_types": ["full_attention"]}, "layer_types is not a list of 2"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_config({**LLAMA, **change})


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    config = {**LLAMA, "hidden_size": 0, "vocab_size": -5, "num_hidden_layer": 2}
    del config["num_hidden_layers"]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(config, indent=1))
    with pytest.raises(ModelError) as caught:
        read_config(path)
    lines = str(caught.value).splitlines()
    assert f"{path}:3:2: hidden_size is 0; write a whole number from 1 to 1000000000" in lines
    assert f"{path}:6:2: vocab_size is -5; write a whole number from 1 to 1000000000" in lines
    assert f"{path}: missing 'num_hidden_layers'; is 'num_hidden_layer' meant?" in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "llama",\n', "config.json:2:1: not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"model_type": "llama", "vocab_size": 1, "vocab_size": 2}', "'vocab_size' is written twice"),
        ('{"vocab_size": NaN}', "NaN is not a number"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_config(path)


def test_a_missing_file_and_binary_rubbish_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the config"):
        load_model(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="not a config"):
        load_model(tmp_path / "b.json")


def test_a_nested_text_config_is_the_decoder() -> None:
    nested = {"model_type": "some_vision_model", "tie_word_embeddings": True, "text_config": LLAMA}
    assert read_config(nested).total_parameters() == read_config(LLAMA).total_parameters() - 100 * 64


def test_qwen_windows_begin_at_max_window_layers() -> None:
    config = {**LLAMA, "model_type": "qwen2", "sliding_window": 32, "max_window_layers": 1}
    assert read_config(config).windows == (None,)
    assert read_config({**config, "use_sliding_window": True}).windows == (None, 32)


def test_gemma_has_five_windows_to_one_full_layer() -> None:
    config = {
        **LLAMA,
        "model_type": "gemma3_text",
        "num_hidden_layers": 12,
        "sliding_window": 32,
        "sliding_window_pattern": 6,
    }
    model = read_config(config)
    assert {(layer.attention.window, layer.count) for layer in model.layers if layer.attention} == {(32, 10), (None, 2)}
    # Four norms a layer of the width, two of the head, and the last one.
    assert model.parameters_by_class()["norm"] == 12 * (4 * 64 + 2 * 16) + 64
