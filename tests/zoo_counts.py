"""What the packaged models weigh and keep, counted by hand; the tables of test_zoo."""

from __future__ import annotations


def gpt(layers: int, width: int, rows: int = 51_200 + 2048) -> int:
    """A GPT of the FasterTransformer guide, or OPT: 12*d^2 + 13*d a layer, `rows` of words and positions, a norm."""
    return layers * (12 * width**2 + 13 * width) + (rows + 2) * width


def delta(width: int, heads: int) -> int:
    """A gated delta net of Qwen3.5 with 16 key heads, all heads of 128."""
    keys, values = 16 * 128, heads * 128
    return width * (2 * keys + 3 * values + 2 * heads) + 4 * (2 * keys + values) + 2 * heads + 128


def gated(width: int, heads: int, kv_heads: int) -> int:
    """Attention of Qwen3.5: heads of 256, an output gate as wide as the queries, two norms of a head."""
    return (3 * heads + 2 * kv_heads) * 256 * width + 2 * 256


def nemotron(width: int, heads: int, state: int) -> int:
    """A Mamba-2 layer of Nemotron: heads of 64, eight groups of `state`, a convolution of four with bias, two norms."""
    inner, shared = 64 * heads, 2 * 8 * state
    return width * (3 * inner + shared + heads) + (inner + shared) * 5 + 3 * heads + inner + width


def deepseek_v4(width: int, heads: int, query: int, groups: int, short: int, long: int, bare: int) -> int:
    """Attention of DeepSeek-V4: layers with entries of 4 tokens and an indexer, of 128 tokens, and with neither."""
    attention = width * (query + 512) + heads * 512 * (query + 1024) + groups * 1024 * width
    indexer = query * 64 * 128 + width * 64
    norms = query + 512 + 2 * width
    return (short + long + bare) * (attention + norms) + short * (4 * width * 640 + indexer) + long * 2 * width * 512


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
    # Experts of two matrices between latents, projections in and out, a shared expert, a router with biases.
    "nemotron-3-super-120b-a12b": tuple(
        40 * nemotron(4096, 128, 128)
        + 40 * (2 * 1024 * 2688 * n + 2 * 4096 * (5376 + 1024) + 512 * 4097 + 4096)
        + 8 * (4096 * (2 * 32 + 4) * 128 + 4096)
        + (2 * 131_072 + 1) * 4096
        for n in (512, 22)
    ),
    "nemotron-3-ultra-550b-a55b": tuple(
        48 * nemotron(8192, 256, 128)
        + 48 * (2 * 2048 * 5120 * n + 2 * 8192 * (10240 + 2048) + 512 * 8193 + 8192)
        + 12 * (8192 * (2 * 64 + 4) * 128 + 8192)
        + (2 * 131_072 + 1) * 8192
        for n in (512, 22)
    ),
    "nemotron-h-56b": (
        54 * nemotron(8192, 256, 256)
        + 54 * (2 * 8192 * 32768 + 8192)
        + 10 * (8192 * (2 * 64 + 16) * 128 + 8192)
        + (2 * 131_072 + 1) * 8192,
    )
    * 2,
    # 43 and 61 layers of experts, three of them without a router's bias.
    "deepseek-v4-flash": tuple(
        deepseek_v4(4096, 64, 1024, 8, 21, 20, 2)
        + 43 * ((n + 1) * 3 * 4096 * 2048 + 256 * 4096)
        + 40 * 256
        + (2 * 129_280 + 1) * 4096
        for n in (256, 6)
    ),
    "deepseek-v4-pro": tuple(
        deepseek_v4(7168, 128, 1536, 16, 30, 31, 0)
        + 61 * ((n + 1) * 3 * 7168 * 3072 + 384 * 7168)
        + 58 * 384
        + (2 * 129_280 + 1) * 7168
        for n in (384, 6)
    ),
    # GLM-5 with an indexer in 21 of 78 layers.
    "glm-5.2": tuple(
        total - 57 * (2048 * 32 * 128 + 6144 * (128 + 32) + 256) for total in (743_911_218_432, 41_784_728_832)
    ),
    # 47 layers, one of them dense: latent attention of 20 heads (192 + 64, values 256), 64 experts and a shared one.
    "glm-4.7-flash": tuple(
        47 * (2048 * (768 + 576) + 768 * 20 * 256 + 512 * 20 * 448 + 20 * 256 * 2048 + 768 + 512 + 2 * 2048)
        + 3 * 2048 * 10240
        + 46 * (64 * 2049 + (experts + 1) * 3 * 2048 * 1536)
        + (2 * 154_880 + 1) * 2048
        for experts in (64, 4)
    ),
    # L * (4*d^2 + 3*d*width + 2*d) + 2*vocabulary*d + d.
    "phi-3-mini": (32 * (4 * 3072**2 + 3 * 3072 * 8192 + 2 * 3072) + (2 * 32_064 + 1) * 3072,) * 2,
    "aquila-7b": (32 * (4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096) + (2 * 100_008 + 1) * 4096,) * 2,
    "qwen1.5-7b": (7_721_324_544,) * 2,
    "llama-4-scout": (107_769_861_120, 17_172_894_720),
    "llama-4-maverick": (400_711_848_960, 17_184_691_200),
    "mistral-7b": (7_248_023_552,) * 2,
    # Four key-value heads in each of 32 layers: what the checkpoint (67 in all) holds, and 61 more.
    "decilm-7b": (7_043_551_232 + 61 * 2 * 128 * 4096,) * 2,
    "qwen2-7b": (7_615_616_512,) * 2,
    "qwen2.5-1.5b": (1_543_714_304,) * 2,
    "qwen2.5-7b": (7_615_616_512,) * 2,
    "qwen2.5-14b": (14_770_033_664,) * 2,
    "qwen2.5-32b": (32_763_876_352,) * 2,
    "qwen3-0.6b": (596_049_920,) * 2,
    "qwen3-1.7b": (1_720_574_976,) * 2,
    "qwen3-4b": (4_022_468_096,) * 2,
    "qwen3-14b": (14_768_307_200,) * 2,
    # d = 6144, 62 layers: attention (96 + 96 + 16)*128*d, norms 2*d + 2*128, router and 160 experts, 8 of them active.
    "qwen3-coder-480b-a35b": tuple(
        62 * (208 * 128 * 6144 + 2 * 6144 + 256 + 160 * 6144 + experts * 3 * 6144 * 2560) + (2 * 151_936 + 1) * 6144
        for experts in (160, 8)
    ),
    "llama-3.2-1b": (1_235_814_400,) * 2,
    "llama-3.2-3b": (3_212_749_824,) * 2,
    "gpt-j-6b": (6_050_882_784 - 50_400,) * 2,  # the bias of the head is left out
    "gpt-350m": (gpt(24, 1024),) * 2,
    "gpt-1.3b": (gpt(24, 2048),) * 2,
    "gpt-6.7b": (gpt(32, 4096),) * 2,
    "gpt-20b": (gpt(44, 6144),) * 2,
    "gpt-89b": (gpt(48, 12288),) * 2,
    "megatron-530b": (gpt(105, 20480),) * 2,
    "opt-6.7b": (gpt(32, 4096, 50_272 + 2050),) * 2,
    "opt-30b": (gpt(48, 7168, 50_272 + 2050),) * 2,
    "opt-66b": (gpt(64, 9216, 50_272 + 2050),) * 2,
    # L * ((2*heads + 2*kv)*64*d + 8*d^2 + 2*d) + vocabulary*d + 2*d: one norm a layer.
    "falcon-7b": (6_921_720_704,) * 2,
    "falcon-40b": (60 * ((2 * 128 + 16) * 64 * 8192 + 8 * 8192**2 + 2 * 8192) + 65_026 * 8192,) * 2,
    "falcon-180b": (80 * ((2 * 232 + 16) * 64 * 14848 + 8 * 14848**2 + 2 * 14848) + 65_026 * 14848,) * 2,
    "gemma-2b": (2_506_172_416,) * 2,
    "gemma-7b": (8_537_680_896,) * 2,
    # L * ((2*heads + 2*kv)*head*d + 3*d*width + 4*d + 2*head) + (vocabulary + 1)*d
    "gemma-3-12b": (48 * (48 * 256 * 3840 + 3 * 3840 * 15360 + 4 * 3840 + 512) + 262_209 * 3840,) * 2,
    "gemma-3-27b": (62 * (96 * 128 * 5376 + 3 * 5376 * 21504 + 4 * 5376 + 256) + 262_209 * 5376,) * 2,
    "deepseek-v2-lite": (15_706_484_224, 15_706_484_224 - 26 * 58 * 3 * 2048 * 1408),
    # d = 3072, 62 layers: attention (48 + 48 + 16)*128*d, norms, router with a bias an expert, 256 experts, 8 active.
    "minimax-m2.5": tuple(
        62 * (112 * 128 * 3072 + 2 * 3072 + 256 + 256 * 3073 + experts * 3 * 3072 * 1536) + (2 * 200_064 + 1) * 3072
        for experts in (256, 8)
    ),
    "kimi-k2.5": (1_026_408_232_448, 32_861_500_928),
    # Delta nets d*(2*keys + 3*values + 2*heads) + 4*(2*keys + values) + 2*heads + 128; attention with an output gate
    # (3*heads + 2*kv)*256*d + 512; norms 2*d; experts of 3*d*width with as wide a shared one, and a router.
    "qwen3.5-397b-a17b": tuple(
        45 * delta(4096, 64) + 15 * gated(4096, 32, 2) + 60 * (8192 + (n + 1) * 3 * 4096 * 1024 + 512 * 4096) + ends
        for n, ends in ((512, (2 * 248_320 + 1) * 4096), (10, (2 * 248_320 + 1) * 4096))
    ),
    "qwen3.5-122b-a10b": tuple(
        36 * delta(3072, 64) + 12 * gated(3072, 32, 2) + 48 * (6144 + (n + 1) * 3 * 3072 * 1024 + 256 * 3072) + ends
        for n, ends in ((256, (2 * 248_320 + 1) * 3072), (8, (2 * 248_320 + 1) * 3072))
    ),
    "qwen3.5-35b-a3b": tuple(
        30 * delta(2048, 32) + 10 * gated(2048, 16, 2) + 40 * (4096 + (n + 1) * 3 * 2048 * 512 + 256 * 2048) + ends
        for n, ends in ((256, (2 * 248_320 + 1) * 2048), (8, (2 * 248_320 + 1) * 2048))
    ),
    "qwen3.5-27b": (
        48 * delta(5120, 48) + 16 * gated(5120, 24, 4) + 64 * (10240 + 3 * 5120 * 17408) + (2 * 248_320 + 1) * 5120,
    )
    * 2,
    # 27 Mamba-2, 25 FFN and 4 attention layers, one norm each; the number of the checkpoint.
    "nemotron-nano-9b-v2": (8_888_227_328,) * 2,
    # 23 Mamba-2 layers, 23 of experts (two matrices, a shared one of twice the width), 6 of attention.
    "nemotron-3-nano-30b-a3b": tuple(
        23 * (2688 * (3 * 4096 + 2048 + 64) + (4096 + 2048) * 5 + 3 * 64 + 4096 + 2688)
        + 23 * (2 * 2688 * 1856 * (experts + 2) + 128 * 2689 + 2688)
        + 6 * (2688 * (2 * 32 + 4) * 128 + 2688)
        + (2 * 131_072 + 1) * 2688
        for experts in (128, 6)
    ),
    # DeepSeek-V3 and in each layer 64 index heads of 128 on the compressed query, a key, head weights, a norm of 2*128.
    "deepseek-v3.2": tuple(
        total + 61 * (1536 * 64 * 128 + 7168 * (128 + 64) + 256) for total in (671_026_419_200, 37_552_297_472)
    ),
    # 78 layers, 3 of them dense: latent attention of 64 heads (192 + 64, values 256), an indexer of 32 heads.
    "glm-5": tuple(
        78 * (6144 * (2048 + 576) + 2048 * 64 * 256 + 512 * 64 * 448 + 64 * 256 * 6144 + 2560 + 2 * 6144)
        + 78 * (2048 * 32 * 128 + 6144 * (128 + 32) + 256)
        + 3 * 3 * 6144 * 12288
        + 75 * (256 * 6145 + (experts + 1) * 3 * 6144 * 2048)
        + (2 * 154_880 + 1) * 6144
        for experts in (256, 8)
    ),
}

# Published totals that the decoder misses by more than 0.5 %, and why.
TOTAL_EXCEPTIONS = {
    "kimi-k2": 0.014,  # the report rounds 1.026 T up to 1.04 T
    "llama-4-scout": 0.012,  # the card's 109 B holds the vision tower, which is not part of the decoder
    "kimi-k2.5": 0.014,
    "decilm-7b": 0.0092,  # vLLM repeats key-value heads up to four in every layer
    "falcon-180b": 0.0081,  # the name rounds, and the checkpoint of 179.5 B stores the tied head too
    "gpt-350m": 0.02,  # names round
    "gpt-1.3b": 0.014,
    "gpt-6.7b": 0.006,
    "gpt-20b": 0.014,
    "gpt-89b": 0.016,
    "opt-6.7b": 0.007,
    "minimax-m2.5": 0.006,  # "230B"
    "nemotron-3-super-120b-a12b": 0.006,  # names round
    "nemotron-h-56b": 0.006,
    "deepseek-v4-pro": 0.018,  # "1.6T"
    "phi-3-mini": 0.006,
    "qwen2.5-32b": 0.009,  # "32.5B"
    "qwen3-0.6b": 0.007,  # "0.6B"
    "qwen3-1.7b": 0.013,  # "1.7B"
    "qwen3-4b": 0.006,  # "4.0B"
    "qwen3.5-35b-a3b": 0.01,  # the name rounds
}

DENSE = {name for name, (total, active) in TOTALS.items() if total == active}

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
    **{name: allowed for name, allowed in TOTAL_EXCEPTIONS.items() if name in DENSE},
    "deepseek-v2-lite": 0.11,  # "2.4B" leaves out the embedding of 0.21 B
    "kimi-k2.5": 0.009,
    "minimax-m2.5": 0.104,  # "10B" leaves out embedding and head, 0.61 B each
    "nemotron-3-nano-30b-a3b": 0.006,  # "3.6B"
    "qwen3-coder-480b-a35b": 0.014,  # "35B"
    "qwen3.5-122b-a10b": 0.023,  # the names round
    "qwen3.5-35b-a3b": 0.152,  # "A3B" leaves out the embedding of 0.51 B
    "qwen3.5-397b-a17b": 0.021,
    "deepseek-v3.2": 0.047,  # as deepseek-v3, and the indexer of 0.85 B
    "glm-5": 0.045,  # "40B" leaves out head and embedding, 0.95 B each
    "glm-5.2": 0.032,
    "deepseek-v4-flash": 0.06,  # "13B" leaves out an embedding of 0.53 B
    "deepseek-v4-pro": 0.015,
    "glm-4.7-flash": 0.3,  # "A3B" leaves out head and embedding, 0.32 B each, and rounds
    "nemotron-3-super-120b-a12b": 0.065,  # "A12B" leaves out an embedding of 0.54 B
    "nemotron-3-ultra-550b-a55b": 0.02,
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
    "llama-4-scout": (196_608, 0),
    "llama-4-maverick": (196_608, 0),
    "mistral-7b": (131_072, 0),
    "decilm-7b": (32 * 2 * 4 * 128 * 2, 0),
    "qwen2-7b": (57_344, 0),
    "qwen2.5-1.5b": (28_672, 0),
    "qwen2.5-7b": (57_344, 0),
    "qwen2.5-14b": (196_608, 0),
    "qwen2.5-32b": (262_144, 0),
    "qwen3-0.6b": (114_688, 0),
    "qwen3-1.7b": (114_688, 0),
    "qwen3-4b": (147_456, 0),
    "qwen3-14b": (163_840, 0),
    "qwen3-coder-480b-a35b": (253_952, 0),
    "llama-3.2-1b": (32_768, 0),
    "llama-3.2-3b": (114_688, 0),
    # Multi-head attention at 16 bits: 4*L*d.
    "gpt-j-6b": (4 * 28 * 4096, 0),
    "gpt-350m": (4 * 24 * 1024, 0),
    "gpt-1.3b": (4 * 24 * 2048, 0),
    "gpt-6.7b": (4 * 32 * 4096, 0),
    "gpt-20b": (4 * 44 * 6144, 0),
    "gpt-89b": (4 * 48 * 12288, 0),
    "megatron-530b": (4 * 105 * 20480, 0),
    "opt-6.7b": (4 * 32 * 4096, 0),
    "opt-30b": (4 * 48 * 7168, 0),
    "opt-66b": (4 * 64 * 9216, 0),
    "falcon-7b": (32 * 2 * 64 * 2, 0),
    "falcon-40b": (60 * 2 * 8 * 64 * 2, 0),
    "falcon-180b": (80 * 2 * 8 * 64 * 2, 0),
    "gemma-2b": (18 * 2 * 256 * 2, 0),
    "gemma-7b": (28 * 2 * 16 * 256 * 2, 0),
    # Every sixth layer is full, the others keep 1,024 tokens.
    "gemma-3-12b": (8 * 8192, 40 * 8192 * 1024),
    "gemma-3-27b": (10 * 8192, 52 * 8192 * 1024),
    "deepseek-v2-lite": (27 * 576 * 2, 0),
    "minimax-m2.5": (253_952, 0),
    "nemotron-3-super-120b-a12b": (8 * 1024, 40 * (128 * 64 * 128 * 4 + 3 * 10240 * 2)),
    "nemotron-3-ultra-550b-a55b": (12 * 1024, 48 * (256 * 64 * 128 * 4 + 3 * 18432 * 2)),
    "nemotron-h-56b": (10 * 4096, 54 * (256 * 64 * 256 * 4 + 3 * 20480 * 2)),
    "glm-5.2": (78 * 1152 + 21 * 132, 0),
    # An entry of 512 and an index key for every 4 tokens, an entry for every 128, and the last 128 tokens.
    "deepseek-v4-flash": (21 * (1024 + 132) / 4 + 20 * 1024 / 128, 43 * 128 * 1024),
    "deepseek-v4-pro": (30 * (1024 + 132) / 4 + 31 * 1024 / 128, 61 * 128 * 1024),
    "glm-4.7-flash": (47 * 1152, 0),
    "phi-3-mini": (32 * 2 * 3072 * 2, 0),
    "aquila-7b": (32 * 2 * 4096 * 2, 0),
    "qwen1.5-7b": (32 * 2 * 4096 * 2, 0),
    "kimi-k2.5": (70_272, 0),
    # A sequence keeps heads*128*128 values in 32 bits and three inputs of the convolution in 16 in each delta net.
    "qwen3.5-397b-a17b": (15 * 2048, 45 * (64 * 128 * 128 * 4 + 3 * 12288 * 2)),
    "qwen3.5-122b-a10b": (12 * 2048, 36 * (64 * 128 * 128 * 4 + 3 * 12288 * 2)),
    "qwen3.5-35b-a3b": (10 * 2048, 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)),
    "qwen3.5-27b": (16 * 4096, 48 * (48 * 128 * 128 * 4 + 3 * 10240 * 2)),
    # Mamba-2: heads*head*state values in 32 bits, three inputs of x, B and C.
    "nemotron-nano-9b-v2": (4 * 4096, 27 * (128 * 80 * 128 * 4 + 3 * 12288 * 2)),
    "nemotron-3-nano-30b-a3b": (6 * 1024, 23 * (64 * 64 * 128 * 4 + 3 * 6144 * 2)),
    # A latent of 576 in 16 bits, an index key of 128 in 8 bits and its scale.
    "deepseek-v3.2": (61 * (1152 + 132), 0),
    "glm-5": (78 * (1152 + 132), 0),
}
