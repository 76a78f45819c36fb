"""Number formats: how many bytes a stored value takes, scales included, and what computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FormatName = Literal[
    "fp32", "bf16", "fp16", "fp8", "mxfp8", "int8", "int4", "nvfp4", "mxfp4", "bfp8", "bfp4",
    "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s", "q4_1", "q4_0", "q3_k_l", "q3_k_m",
    "q3_k_s", "q2_k", "q2_k_s", "ud-q4_k_xl", "iq4_nl", "iq4_xs", "iq3_k", "iq3_kt", "iq3_s", "iq3_xxs", "iq2_m",
    "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s", "int2", "ternary",
]  # fmt: skip


@dataclass(frozen=True)
class NumberFormat:
    """A storage format. `bytes` counts block scales; `compute` lists matrix units that can take it, best first."""

    bytes: float
    compute: tuple[str, ...]


SIXTEEN_BITS = 2.0
_WIDE = ("bf16", "fp16", "hifi4", "fp32")

# Bits of a weight in llama.cpp's other formats.
_GGUF = {
    "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q5_k_m": 5.68, "q5_k_s": 5.52, "q4_k_s": 4.58, "q3_k_l": 4.27,
    "q3_k_m": 3.91, "q3_k_s": 3.5, "q2_k": 3.35, "q2_k_s": 2.97, "ud-q4_k_xl": 4.64, "iq4_nl": 4.5,
    "iq4_xs": 4.25, "iq3_k": 3.81, "iq3_kt": 3.59, "iq3_s": 3.44, "iq3_xxs": 3.06, "iq2_m": 2.7, "iq2_s": 2.5,
    "iq2_xs": 2.31, "iq2_xxs": 2.06, "iq1_m": 1.75, "iq1_s": 1.56,
}  # fmt: skip

# Bytes with scales: bfp = one shared exponent for 16 values (Tenstorrent); mx = one 8-bit scale for 32 (OCP MX 1.0);
# nvfp4 = one fp8 scale for 16; int4 = group 32 with fp16 scale and zero point (reference: gpt-fast int4-g32, 0.625 B);
# q*_0, q*_1, iq* = blocks of llama.cpp with their scales; q*_k* = its mixes, bits per weight of whole files (Llama-2-7B
# in its quantize README; q4_k_m, q6_k, q2_k_s, iq3_k, iq3_kt, ud-q4_k_xl by the files of the measured rows).
# int2 = group 128 with fp16 scale (T-MAC's GPTQ models); ternary = {-1, 0, 1} packed into 1.67 bits (BitNet b1.58).
FORMATS: dict[str, NumberFormat] = {
    "fp32": NumberFormat(4.0, ("fp32", "tf32", *_WIDE)),
    "bf16": NumberFormat(2.0, _WIDE),
    "fp16": NumberFormat(2.0, ("fp16", *_WIDE)),
    "fp8": NumberFormat(1.0, ("fp8", *_WIDE)),
    "mxfp8": NumberFormat(33.0 / 32, ("fp8", *_WIDE)),
    "int8": NumberFormat(1.0, ("int8", *_WIDE)),
    "int4": NumberFormat(0.625, _WIDE),
    "nvfp4": NumberFormat(0.5625, ("fp4", *_WIDE)),
    "mxfp4": NumberFormat(0.53125, ("fp4", *_WIDE)),
    "bfp8": NumberFormat(1.0625, ("bfp8", "bf16")),
    "bfp4": NumberFormat(0.5625, ("bfp4", "bfp8", "bf16")),
    "q8_0": NumberFormat(8.5 / 8, ("int8", *_WIDE)),
    "q6_k": NumberFormat(6.56 / 8, ("int8", *_WIDE)),
    "q4_k_m": NumberFormat(4.85 / 8, ("int8", *_WIDE)),
    "q4_0": NumberFormat(4.5 / 8, ("int8", *_WIDE)),
    "int2": NumberFormat(0.25 + 2.0 / 128, ("int8", *_WIDE)),
    "ternary": NumberFormat(1.67 / 8, ("int8", *_WIDE)),
} | {name: NumberFormat(bits / 8, ("int8", *_WIDE)) for name, bits in _GGUF.items()}


def tensor_class(tensor: str) -> str:
    """What kind of tensor a name means: 'table.2', the second sort of tables of a model, is a 'table'."""
    return tensor.partition(".")[0]


@dataclass(frozen=True)
class Precision:
    """Which format each class of tensor is stored in. None for a class means `weights`.

    tensors: (tensor, format) of single tensors that a model stores in a way of their own.
    """

    weights: str = "bf16"
    kv: str = "bf16"
    experts: str | None = None
    attention: str | None = None
    embedding: str | None = None
    head: str | None = None
    tensors: tuple[tuple[str, str], ...] = ()

    def format_of(self, tensor: str) -> str:
        """The format of a tensor class ('attention', 'ffn', 'expert', 'table', 'embedding', 'head', 'norm', 'kv')."""
        own = dict(self.tensors).get(tensor)
        if own:
            return own
        tensor = tensor_class(tensor)
        if tensor == "kv":
            return self.kv
        if tensor == "codes":
            return "int8"  # keys of a store, quantised to so many bytes
        if tensor in ("router", "norm") and FORMATS[self.weights].bytes < SIXTEEN_BITS:
            return "bf16"  # no checkpoint quantises these
        chosen = {
            "expert": self.experts,
            "attention": self.attention,
            "embedding": self.embedding,
            "head": self.head,
        }.get(tensor)
        return chosen or self.weights

    def bytes_of(self, tensor: str) -> float:
        """Bytes for one stored value of a tensor class."""
        return FORMATS[self.format_of(tensor)].bytes
