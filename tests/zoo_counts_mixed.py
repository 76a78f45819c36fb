"""What packaged models with layers of several kinds weigh and keep, counted by hand; the tables of test_zoo."""

from __future__ import annotations

from collections.abc import Iterable


def both(parts: Iterable[int], experts: tuple[int, int], each: int) -> tuple[int, int]:
    """Total and active parameters: what every token uses, and all or the chosen ones of the experts."""
    rest = sum(parts)
    return rest + experts[0] * each, rest + experts[1] * each


def grouped(width: int, heads: int, kv_heads: int, key: int, value: int | None = None) -> int:
    """Four projections of heads whose values may be narrower than their keys."""
    value = key if value is None else value
    return width * (heads * key + kv_heads * (key + value)) + heads * value * width


def mixer(width: int, streams: int, rank: int) -> int:
    """A hyper-connection: down and up at a rank, weights of the streams, a norm, all as wide as the streams."""
    return streams * width * (2 * rank + streams + 1)


def gemma_3n(layers: int, borrowed: int, ffn: int) -> tuple[int, int]:
    """Queries and output of 8 heads of 256, two key-value heads in layers that do not borrow; LAuReL of rank 64, AltUp
    of four streams, an embedding of 256 values in each layer; norms."""
    d, words = 2048, 262_144
    attention = layers * (2 * 8 * 256 * d + 256) + (layers - borrowed) * (2 * 2 * 256 * d + 256)
    streams = layers * (d * (2 * 64 + 4) + 3 * d + 16 + 64) + 6 * d * d
    rest = attention + layers * (3 * d * ffn + 3 * d * 256 + 4 * d) + streams + 262_400 * d + d
    return rest + layers * 256 * words, rest + layers * 256


def delta(width: int, heads: int) -> int:
    """Gated delta net with 16 key heads, all heads of 128."""
    keys, values = 16 * 128, heads * 128
    return width * (2 * keys + 3 * values + 2 * heads) + 4 * (2 * keys + values) + 2 * heads + 128


def kimi_delta(width: int, heads: int, full_gate: bool) -> int:
    """Kimi delta attention: heads of 128, decays of channels from rank 128, a gate from a matrix or from rank 128."""
    inner = heads * 128
    gate = width * inner if full_gate else 128 * (width + inner)
    return 4 * width * inner + gate + 128 * (width + inner) + width * heads + 13 * inner + heads + 128


def latent(width: int, heads: int, queries: int | None, gate: bool) -> int:
    """Latent attention of 512 + 64 and heads of 128, with a compression of the queries and an output gate or not."""
    made = width * heads * 192 if queries is None else queries * (width + heads * 192) + queries
    return width * 576 + made + 512 * heads * 256 + heads * 128 * width * (2 if gate else 1) + 512


def memory_plus(layers: int, width: int, kv: int, ffn: int, words: int, half_keys: int, query: int) -> tuple[int, int]:
    """Llama with memories of four heads and 32 rows a head for three FFNs, which share their values."""
    llama = layers * (2 * width * (width + kv) + 2 * width) + (layers - 3) * 3 * width * ffn + (2 * words + 1) * width
    memories = 3 * (4 * query * (half_keys + width) + 2 * width * width)
    return llama + memories + half_keys**2 * width, llama + memories + 3 * 4 * 32 * width


def _nemotron_super() -> int:
    """80 layers, 49 of them with attention of 64 over 8 heads of 128; widths of the FFNs in multiples of 256."""
    widths = {5.25: 28_672, 3.28125: 17_920, 2.625: 14_336, 1.3125: 7_168, 1.0: 5_632, 0.5: 2_816}
    found = {5.25: 49, 3.28125: 1, 2.625: 6, 1.3125: 10, 1.0: 8, 0.5: 6}
    ffn = sum(count * 3 * 8192 * widths[mult] for mult, count in found.items())
    return 49 * (grouped(8192, 64, 8, 128) + 8192) + ffn + 80 * 8192 + (2 * 128_256 + 1) * 8192


TOTALS = {
    # 60 layers, 3 dense; in the others an indexer of 4 heads of 128 and a key, 128 experts and a shared one.
    "minimax-m3": both(
        (
            60 * (grouped(6144, 64, 4, 128) + 2 * 128 + 2 * 6144) + 57 * (6144 * 5 * 128 + 2 * 128),
            3 * 3 * 6144 * 12288 + 57 * (3 * 6144 * 3072 + 128 * 6145) + (2 * 200_064 + 1) * 6144,
        ),
        (57 * 128, 57 * 4),
        3 * 6144 * 3072,
    ),
    # 69 layers of delta attention, 24 of latent; experts work between 3,584 values.
    "kimi-k3": both(
        (
            69 * kimi_delta(7168, 96, True) + 24 * latent(7168, 96, 1536, True) + 93 * 2 * 7168,
            3 * 7168 * 33792 + 92 * (3 * 7168 * 6144 + 2 * 7168 * 3584 + 896 * 7169) + (2 * 163_840 + 1) * 7168,
        ),
        (92 * 896, 92 * 16),
        3 * 3584 * 3072,
    ),
    "kimi-linear-48b-a3b": both(
        (
            20 * kimi_delta(2304, 32, False) + 7 * latent(2304, 32, None, False) + 27 * 2 * 2304,
            3 * 2304 * 9216 + 26 * (3 * 2304 * 1024 + 256 * 2305) + (2 * 163_840 + 1) * 2304,
        ),
        (26 * 256, 26 * 8),
        3 * 2304 * 1024,
    ),
    # Biases of queries, keys and values.
    "mimo-7b": (36 * (grouped(4096, 32, 8, 128) + 48 * 128 + 3 * 4096 * 11008 + 2 * 4096) + (2 * 151_680 + 1) * 4096,)
    * 2,
    # 9 full layers with 4 key-value heads, 39 with a window and 8 and a sink a head; keys of 192, values of 128.
    "mimo-v2-flash": both(
        (
            9 * grouped(4096, 64, 4, 192, 128) + 39 * (grouped(4096, 64, 8, 192, 128) + 64) + 48 * 2 * 4096,
            3 * 4096 * 16384 + 47 * 256 * 4097 + (2 * 152_576 + 1) * 4096,
        ),
        (47 * 256, 47 * 8),
        3 * 4096 * 2048,
    ),
    # A gate a head in each of 45 layers, 3 of them dense.
    "step-3.7-flash": both(
        (
            45 * (grouped(4096, 64, 8, 128) + 64 * 4096 + 2 * 128 + 2 * 4096) + 3 * 3 * 4096 * 11264,
            42 * (3 * 4096 * 1280 + 288 * 4097) + (2 * 128_896 + 1) * 4096,
        ),
        (42 * 288, 42 * 8),
        3 * 4096 * 1280,
    ),
    # 25 layers with a window, 5 full ones whose two heads of keys are their values.
    "gemma-4-26b-a4b": both(
        (
            25 * (grouped(2816, 16, 8, 256) + 2 * 256) + 5 * (2816 * (2 * 16 + 2) * 512 + 2 * 512) + 30 * 4 * 2816,
            30 * (3 * 2816 * 2112 + 128 * 2817) + 262_145 * 2816,
        ),
        (30 * 128, 30 * 8),
        3 * 2816 * 704,
    ),
    "gemma-3n-e4b": gemma_3n(35, 15, 16384),
    "gemma-3n-e2b": gemma_3n(30, 10, 8192),
    "llama-3.3-nemotron-super-49b": (_nemotron_super(),) * 2,
    # 64 layers: three matrices of d x 5,120 (one twice), dt at rank 160, states of 16, a convolution of 4 with bias.
    "mamba-2.8b": (2_768_345_600,) * 2,
    # Llama-3.1-8B and eight layers more, which have two norms of a head and two gates.
    "llama-3.2-11b-vision": (8_030_261_248 + 8 * (grouped(4096, 32, 8, 128) + 3 * 4096 * 14336 + 2 * 4096 + 258),) * 2,
    # 36 delta nets, 12 layers with an indexer; two mixers of four streams in each layer; 16 tables of 160 in one.
    "qwen3.8-flash-next": both(
        (
            36 * delta(2560, 48) + 12 * ((3 * 24 + 2 * 2) * 256 * 2560 + 2 * 256 + 2560 * 5 * 128 + 2 * 128),
            48 * (2 * 2560 + 3 * 2560 * 640 + 512 * 2560 + 2 * mixer(2560, 4, 320)) + (2 * 248_320 + 1) * 2560,
            2560 * 2560 * 5 + 4 * 2560 * 4,
        ),
        (48 * 512, 48 * 10),
        3 * 2560 * 640,
    ),
    "memory-plus-8b-16m": memory_plus(32, 4096, 1024, 14336, 128_256, 4096, 2048),
    "memory-plus-373m-1m": memory_plus(24, 1024, 1024, 2816, 32_000, 1024, 512),
}
_TABLE = 16 * 20_000_000 * 160
TOTALS["qwen3.8-flash-next"] = (
    TOTALS["qwen3.8-flash-next"][0] + _TABLE,
    TOTALS["qwen3.8-flash-next"][1] + 16 * 160,
)

# Published totals that the decoder misses by more than 0.5 %, and why.
TOTAL_EXCEPTIONS = {
    "kimi-k3": 0.008,  # "2.8T"
    "kimi-linear-48b-a3b": 0.024,  # its name rounds
    "mimo-7b": 0.09,  # its name rounds
    "gemma-3n-e4b": 0.13,  # holds towers for sight and sound
    "gemma-3n-e2b": 0.185,
    "llama-3.2-11b-vision": 0.078,  # holds the vision tower
    "qwen3.8-flash-next": 0.006,  # "176B"
}

# Published active parameters leave out the embedding, or the head too, or are rounded to two digits.
ACTIVE_EXCEPTIONS = {
    **{name: allowed for name, allowed in TOTAL_EXCEPTIONS.items() if len(set(TOTALS[name])) == 1},
    "minimax-m3": 0.129,  # "23B" leaves out embedding and head, 1.23 B each, and rounds
    "kimi-k3": 0.014,  # "104B" leaves out the embedding of 1.17 B
    "kimi-linear-48b-a3b": 0.162,  # "3B" leaves out the embedding of 0.38 B
    "mimo-v2-flash": 0.03,  # "15B"
    "step-3.7-flash": 0.012,  # "11B"
    "gemma-4-26b-a4b": 0.006,  # "3.8B"
    "gemma-3n-e4b": 0.128,  # leaves out the embedding
    "gemma-3n-e2b": 0.269,
    "qwen3.8-flash-next": 0.217,  # "6B" leaves out embedding and head, 0.64 B each
}

# Cache bytes at 16 bits: of one more token, and of a sequence.
KV_BYTES = {
    "minimax-m3": (60 * 2 * 4 * 128 * 2 + 57 * 128 * 2, 0),
    "kimi-k3": (24 * 576 * 2, 69 * (96 * 128 * 128 * 4 + 3 * 3 * 96 * 128 * 2)),
    "kimi-linear-48b-a3b": (7 * 576 * 2, 20 * (32 * 128 * 128 * 4 + 3 * 3 * 32 * 128 * 2)),
    "mimo-7b": (36 * 2 * 8 * 128 * 2, 0),
    "mimo-v2-flash": (9 * 4 * 320 * 2, 39 * 8 * 320 * 2 * 128),
    "step-3.7-flash": (12 * 4096, 33 * 4096 * 512),
    "gemma-4-26b-a4b": (5 * 2 * 2 * 512 * 2, 25 * 2 * 8 * 256 * 2 * 1024),
    # Of 20 layers that keep keys every fifth is full; the others keep 512 tokens.
    "gemma-3n-e4b": (4 * 2048, 16 * 2048 * 512),
    "gemma-3n-e2b": (4 * 2048, 16 * 2048 * 512),
    "llama-3.3-nemotron-super-49b": (49 * 4096, 0),
    # No keys: states of 16 in 32 bits and three inputs of the convolution for 5,120 channels.
    "mamba-2.8b": (0, 64 * (5120 * 16 * 4 + 3 * 5120 * 2)),
    # The keys of an image: four tiles of 40 x 40 patches and one vector more.
    "llama-3.2-11b-vision": (32 * 4096, 8 * 4096 * 4 * 1601),
    # An index key of 128 for every four tokens.
    "qwen3.8-flash-next": (12 * (2 * 2 * 256 * 2 + 128 * 2 // 4), 36 * (48 * 128 * 128 * 4 + 3 * 10240 * 2)),
    "memory-plus-8b-16m": (131_072, 0),
    "memory-plus-373m-1m": (98_304, 0),
}
