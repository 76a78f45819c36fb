"""How a checkpoint says it is stored: torch_dtype and quantization_config -> Precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.model.number_format import Precision

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

# (type, bits) of a compressed-tensors group, and the algorithms of ModelOpt.
COMPRESSED: dict[tuple[Any, Any], str] = {
    ("float", 8): "fp8",
    ("float", 4): "nvfp4",
    ("int", 8): "int8",
    ("int", 4): "int4",
}
COMPRESSED_FORMATS = {"mxfp4-pack-quantized": "mxfp4"}  # those that say it all
MODELOPT = {"FP8": "fp8", "NVFP4": "nvfp4"}
EXPERT_DTYPES = {"fp4": "mxfp4"}  # DeepSeek-V4 keeps its experts narrower than the rest
BITS = {4: "int4", 8: "int8"}


def stored_precision(config: Mapping[str, Any]) -> Precision | None:
    """The precision that a config states, None when it states nothing. Embedding and head stay at the wide format.

    Raises ValueError, with what is not known, for a dtype or a quantisation that has no number format here.
    """
    dtype = config.get("torch_dtype") or config.get("dtype")
    quantization = config.get("quantization_config")
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if quantization is None:
        return Precision(weights=DTYPES[dtype], kv=_wide(dtype)) if dtype else None
    if not isinstance(quantization, Mapping):
        raise ValueError(f"quantization_config is {quantization!r}, not an object")
    # A quantised checkpoint computes in 16 bits even where the config states no dtype.
    wide = DTYPES[dtype] if dtype else "bf16"
    stored = _format(quantization)
    skipped = _skipped(quantization)
    if stored == "mxfp4" or "shared_experts" in skipped:
        return Precision(weights=wide, kv=_wide(dtype), experts=stored)
    attention = wide if "self_attn" in skipped else None
    experts = EXPERT_DTYPES.get(str(config.get("expert_dtype")))
    return Precision(stored, _wide(dtype), experts, attention=attention, embedding=wide, head=wide)


def _wide(dtype: str | None) -> str:
    """The cache's format: 16 bits, as the activations."""
    return "fp16" if dtype == "float16" else "bf16"


def _skipped(quantization: Mapping[str, Any]) -> str:
    """The patterns of the modules that were left alone, as one text."""
    for key in ("modules_to_not_convert", "ignore"):
        if isinstance(quantization.get(key), list):
            return " ".join(str(pattern) for pattern in quantization[key])
    return ""


def _format(quantization: Mapping[str, Any]) -> str:
    """The number format of the quantised matrices."""
    method = quantization.get("quant_method")
    if method in ("fp8", "mxfp4"):
        return str(method)
    found: str | None = None
    if method in ("awq", "gptq"):
        found = BITS.get(quantization.get("bits", 0))
    elif method in ("modelopt", None) and "quant_algo" in quantization:
        found = MODELOPT.get(quantization["quant_algo"])
    elif method == "compressed-tensors":
        groups = quantization.get("config_groups")
        weights = [g.get("weights") or {} for g in groups.values()] if isinstance(groups, Mapping) else []
        kinds = {COMPRESSED.get((w.get("type"), w.get("num_bits"))) for w in weights}
        found = kinds.pop() if len(kinds) == 1 else COMPRESSED_FORMATS.get(str(quantization.get("format")))
    if found is None:
        known = "fp8, mxfp4, awq and gptq with 4 or 8 bits, modelopt FP8 and NVFP4, compressed-tensors with one format"
        raise ValueError(f"quantization_config ({method}) is not one that is known: {known}")
    return found
