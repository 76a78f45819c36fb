"""The packaged models have the parameters and the cache that their makers publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import zoo_counts as alike
import zoo_counts_mixed as mixed

from simulator.errors import ModelError
from simulator.model.huggingface import read_config
from simulator.model.number_format import Precision
from simulator.model.zoo import load_model, model_names, published

TOTALS = alike.TOTALS | mixed.TOTALS
TOTAL_EXCEPTIONS = alike.TOTAL_EXCEPTIONS | mixed.TOTAL_EXCEPTIONS
ACTIVE_EXCEPTIONS = alike.ACTIVE_EXCEPTIONS | mixed.ACTIVE_EXCEPTIONS
KV_BYTES = alike.KV_BYTES | mixed.KV_BYTES


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
    path.write_text('{\n  "hidden_size": 64,\n  "model_type": "mistrall"\n}')
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert str(caught.value) == f"{path}:3:3: unknown model_type 'mistrall'; did you mean 'mistral'?"


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


def test_a_model_is_told_by_its_shape_where_there_is_no_config(tmp_path: Path) -> None:
    """Megatron's GPT of 96 layers: 12*d^2 a layer without biases, and the words."""
    path = tmp_path / "gpt.json"
    numbers = {"model_type": "shape", "layers": 96, "hidden": 12288, "heads": 96, "vocab": 51200}
    path.write_text(json.dumps(numbers))
    model = load_model(path)
    assert model.parameters_by_class()["attention"] + model.parameters_by_class()["ffn"] == 96 * 12 * 12288**2
    assert model.parameters_by_class()["embedding"] == 51200 * 12288
    path.write_text(json.dumps({**numbers, "experts": 4, "top_k": 2, "ffn": 1024, "matrices": 3, "kv_heads": 8}))
    assert load_model(path).parameters_by_class()["expert"] == 96 * 4 * 3 * 1024 * 12288
    path.write_text(json.dumps({**numbers, "heads": 7, "layers": 0}))
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "7 heads do not divide hidden 12288" in str(caught.value) and "layers is 0" in str(caught.value)
