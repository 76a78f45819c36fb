"""HuggingFace config.json -> Architecture: one reader for each model_type, and no guess about any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import ModelError, Problem, unknown
from simulator.model.architecture import Architecture
from simulator.model.config_keys import Keys, parse_config
from simulator.model.dense_configs import (
    bloom,
    falcon,
    gemma,
    gpt2,
    gptj,
    llama,
    memory_plus,
    mimo,
    mistral,
    mllama,
    nemotron_nas,
    opt,
    palm,
    qwen2,
    qwen3,
)
from simulator.model.gemma_configs import gemma3, gemma3n, gemma4
from simulator.model.hybrid_configs import kimi_linear, mamba, nemotron_h, qwen3_5, qwen4_exp
from simulator.model.moe_configs import (
    deepseek,
    deepseek_v4,
    gpt_oss,
    llama4,
    mimo_v2,
    minimax_m2,
    minimax_m3,
    mixtral,
    qwen3_moe,
    step3,
)
from simulator.model.quantization import stored_precision
from simulator.model.shape_config import shape


def read_config(config: str | Path | Mapping[str, Any], name: str | None = None) -> Architecture:
    """The architecture of a config.json (a path) or of its contents (a mapping).

    A model with a `text_config` is read as its text decoder alone; vision and audio towers and multi-token prediction
    modules are left out. A key `_source` says where the shape is from. Raises ModelError with everything that is wrong.
    """
    if isinstance(config, Mapping):
        data, file, text = dict(config), name or "config", ""
    else:
        file = str(config)
        text, data = parse_config(Path(config))
    inner = data.get("text_config")
    if isinstance(inner, Mapping):
        outer = {k: v for k, v in data.items() if k not in ("text_config", "model_type")}
        data = {**outer, **inner}
    keys = Keys(data, file, text)
    model_type = data.get("model_type")
    if not isinstance(model_type, str) or model_type not in READERS:
        if model_type is None:
            raise ModelError(Problem("missing 'model_type'", keys.where(), "known: " + ", ".join(sorted(READERS))))
        raise ModelError(unknown("model_type", model_type, READERS, keys.where("model_type")))
    fields = READERS[model_type](keys)
    precision = None
    try:
        precision = stored_precision(data)
    except ValueError as error:
        keys.wrong(str(error), "quantization_config", "take it out and state the precision in the scenario")
    if keys.problems:
        raise ModelError(keys.problems)
    source = data.get("_source")
    fields |= {"name": name or Path(file).stem, "source": source if isinstance(source, str) else file}
    return Architecture(**fields, precision=precision)


READERS: dict[str, Callable[[Keys], dict[str, Any]]] = {
    "gpt2": gpt2,
    "opt": opt,
    "bloom": bloom,
    "palm": palm,
    "llama": llama,
    "phi3": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "mixtral": mixtral,
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "kimi_k2": deepseek,
    "glm4_moe_lite": deepseek,
    "deepseek_v32": deepseek,
    "deepseek_v4": deepseek_v4,
    "glm_moe_dsa": deepseek,
    "gpt_oss": gpt_oss,
    "llama4_text": llama4,
    "gemma": gemma,
    "gemma3_text": gemma3,
    "gptj": gptj,
    "falcon": falcon,
    "minimax_m2": minimax_m2,
    "qwen3_vl_text": qwen3,
    "qwen3_vl_moe_text": qwen3_moe,
    "qwen3_next": qwen3_5,
    "qwen3_5_text": qwen3_5,
    "qwen3_5_moe_text": qwen3_5,
    "nemotron_h": nemotron_h,
    "mimo": mimo,
    "mimo_v2_flash": mimo_v2,
    "mllama_text_model": mllama,
    "nemotron-nas": nemotron_nas,
    "llama_memory_plus": memory_plus,
    "deepseek_ref": deepseek_v4,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl_text": minimax_m3,
    "step3p5": step3,
    "step3p7": step3,
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
    "kimi_linear": kimi_linear,
    "qwen4_exp_text": qwen4_exp,
    "mamba": mamba,
    "shape": shape,
}
