"""What holds for every kind of FFN, and the formulas of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.api import load, run
from simulator.model.ffn import FFN, FFN_KINDS
from simulator.model.ffn.activation_sparse import ActivationSparseFFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.hash_moe import HashMoEFFN
from simulator.model.ffn.kind import Visit
from simulator.model.ffn.kv_retrieval import KvRetrieval
from simulator.model.ffn.latent_moe import LatentMoEFFN
from simulator.model.ffn.lut_gemm import LutGemmFFN
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.near_far import NearFarFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.peer import Peer
from simulator.model.ffn.per_layer_embedding import PerLayerEmbedding
from simulator.model.ffn.product_key_memory import ProductKeyMemory
from simulator.model.ffn.residual_streams import ResidualStreams
from simulator.model.ffn.structured import StructuredFFN
from simulator.model.ffn.together import Together
from simulator.model.ffn.tree import TreeFFN
from simulator.model.number_format import Precision
from simulator.model.operation import Gather, Matmul, Operation, Vector
from simulator.model.parallelism import Parallelism
from simulator.quantity import Known

D, F = 1024, 4096
SHARE = Known
KINDS: dict[str, FFN] = {
    "dense": DenseFFN(F),
    "dense, two matrices": DenseFFN(F, 2),
    "moe": MoEFFN(16, 2, 512, shared_width=512),
    "hash_moe": HashMoEFFN(16, 2, 512, vocabulary=50_000),
    "latent_moe": LatentMoEFFN(16, 2, 512, shared_width=512, latent=256),
    "activation_sparse": ActivationSparseFFN(F, SHARE(0.1)),
    "activation_sparse, hot and cold": ActivationSparseFFN(F, SHARE(0.3), SHARE(0.25), 0),
    "product_key_memory": ProductKeyMemory(256, D),
    "product_key_memory, PKM": ProductKeyMemory(256, D, gated=False),
    "product_key_memory, UltraMemV2": ProductKeyMemory(256, 192, 1, 32, 192, pre_width=64),
    "peer": Peer(256),
    "ngram_table": NgramTable(100_000, 64, branches=4),
    "ngram_table, SCONE": NgramTable(100_000, D, match="longest", project=False),
    "per_layer_embedding": PerLayerEmbedding(vocabulary=50_000),
    "tree": TreeFFN(9),
    "lut_gemm": LutGemmFFN(F),
    "lut_gemm, MADDNESS": LutGemmFFN(F, "maddness"),
    "lut_gemm, PQ": LutGemmFFN(F, "pq"),
    "near_far": NearFarFFN(F, 128, 16, 4),
    "structured, low rank": StructuredFFN(F, "low_rank"),
    "structured, blocks": StructuredFFN(F, "block_low_rank", tile=256),
    "structured, Monarch": StructuredFFN(F, "monarch", blocks=32),
    "residual_streams": ResidualStreams(rank=320, mixers=2),
    "residual_streams, beside one": ResidualStreams(rank=320, wide=False, turns=3),
    "kv_retrieval": KvRetrieval(1_000_000, D),
    "kv_retrieval, RETRO": KvRetrieval(1_000_000, D, interval=64, attended=128, address="token"),
    "together": Together((MoEFFN(16, 2, 512), NgramTable(100_000, 64))),
}
LAYOUTS = [Parallelism(), Parallelism(tp=4), Parallelism(tp=2, dp=4), Parallelism(tp=2, dp=4, ep=8)]
LOOKED_UP = ("table", "store", "codes")


@pytest.fixture(params=KINDS, name="ffn")
def _ffn(request: pytest.FixtureRequest) -> FFN:
    return KINDS[request.param]


def visit(tokens: Any, parallelism: Parallelism = LAYOUTS[0]) -> Visit:
    return Visit(D, tokens / parallelism.dp, tokens, parallelism, Precision())


def matmuls(operations: list[Operation]) -> list[Matmul]:
    return [o for o in operations if isinstance(o, Matmul)]


def gathers(operations: list[Operation]) -> list[Gather]:
    return [o for o in operations if isinstance(o, Gather)]


def flops(ffn: FFN) -> float:
    return float(sum(2 * o.m * o.n * o.k for o in matmuls(ffn.operations(visit(1.0)))))


# --- every kind -------------------------------------------------------------------------------------------------------


def test_every_kind_is_tried() -> None:
    assert {ffn.kind for ffn in KINDS.values()} == {*FFN_KINDS, "together"}


def test_many_tokens_read_every_matrix_once(ffn: FFN) -> None:
    """Weights in products add up to the parameters, what is looked up and small vectors left out."""
    read = sum(float(np.asarray(o.groups * o.n * o.k)) for o in matmuls(ffn.operations(visit(1e7))))
    if isinstance(ffn, LutGemmFFN) and ffn.method != "bit_serial":
        assert read == 0
        return
    counts = {tensor: count for tensor, count in ffn.parameters(D).items() if tensor not in LOOKED_UP}
    assert read == pytest.approx(sum(counts.values()), rel=0.01)


def test_many_tokens_look_up_every_row_once(ffn: FFN) -> None:
    """Distinct rows add up to the tables at most, and for popular enough batches to nearly all of them."""
    stored = sum(count for tensor, count in ffn.parameters(D).items() if tensor in LOOKED_UP)
    if isinstance(ffn, LutGemmFFN) and ffn.method != "bit_serial":
        stored = ffn.parameters(D)["ffn"]
    found = gathers(ffn.operations(visit(1e11)))
    read = sum(float(o.unique_rows) * o.row_bytes / (1.0 if o.tensor == "codes" else 2.0) for o in found)
    assert read == pytest.approx(stored, rel=0.01)
    assert bool(found) == bool(stored)


def test_more_tokens_never_need_less(ffn: FFN) -> None:
    tokens = np.array([0.0, 1.0, 2.0, 7.0, 64.0, 4096.0])
    for layout in LAYOUTS:
        for operation in ffn.operations(visit(tokens, layout)):
            for name in ("m", "groups", "rows", "unique_rows", "flops", "bytes"):
                value = np.asarray(getattr(operation, name, 0.0), dtype=float)
                assert np.isfinite(value).all()
                assert (np.diff(np.atleast_1d(value)) >= -1e-9).all()
                if name in ("m", "rows", "unique_rows", "bytes") and np.ndim(value):
                    assert value[0] == 0


def test_a_batch_costs_what_its_tokens_cost_one_by_one(ffn: FFN) -> None:
    """One call for many batch compositions is as many calls."""
    many = ffn.operations(visit(np.array([1.0, 8.0, 300.0])))
    for at, tokens in enumerate((1.0, 8.0, 300.0)):
        for together, alone in zip(many, ffn.operations(visit(tokens)), strict=True):
            for name in ("m", "groups", "rows", "unique_rows", "flops", "bytes"):
                value = np.broadcast_to(np.asarray(getattr(together, name, 0.0)), (3,))[at]
                assert value == pytest.approx(getattr(alone, name, 0.0), rel=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
def test_chips_hold_the_whole_together(ffn: FFN, layout: Parallelism) -> None:
    if ffn.check(layout):
        pytest.skip("not a legal layout")
    if isinstance(ffn, StructuredFFN) and ffn.form == "monarch":
        pytest.skip("each chip's part of the width has smaller factors of its own")
    whole, one = ffn.parameters(D), ffn.parameters(D, layout)
    for tensor, count in one.items():
        assert count * layout.chips >= whole[tensor] * (1 - 1e-9)
        if tensor in LOOKED_UP:
            assert count * layout.chips == pytest.approx(whole[tensor])


def test_a_token_uses_no_more_than_there_is(ffn: FFN) -> None:
    whole = sum(ffn.parameters(D).values())
    assert 0 < ffn.active_parameters(D) <= whole
    assert 0 <= ffn.memory_parameters(D) <= whole
    assert ffn.shape()
    assert ffn.address_known in ("always", "token", "layer")


EXAMPLES = {
    "dense": "width: 4096, matrices: 2, dtype: int4",
    "moe": "experts: 16, top_k: 2, width: 1024, shared_width: 1024, popularity: {zipf: 0.5}",
    "hash_moe": "experts: 16, top_k: 2, width: 1024, weighted: false",
    "latent_moe": "experts: 16, top_k: 2, width: 1024, latent: 512",
    "activation_sparse": "width: 14336, active: 0.1, hot: 0.05, tier: ddr",
    "product_key_memory": "keys: 256, width: 1024, every: 8",
    "peer": "keys: 128, layers: [4]",
    "ngram_table": "rows: 1e5, width: 160, layers: [1, 14], tier: ddr",
    "per_layer_embedding": "width: 256, dtype: int8",
    "tree": "depth: 11, branching: 0.7",
    "lut_gemm": "width: 14336, bits: 2, dtype: int2",
    "near_far": "width: 14336, rank: 256, blocks: 64, top_k: 4",
    "structured": "width: 14336, form: monarch",
    "residual_streams": "rank: 320, mixers: 2",
    "kv_retrieval": "entries: 1e8, value_width: 1024, interval: 64, layers: [8], tier: ddr, address: token",
}


@pytest.mark.parametrize("kind", sorted(FFN_KINDS))
def test_every_kind_runs_from_a_scenario(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"model: {{base: llama-3.1-8b, ffn: [{{kind: {kind}, {EXAMPLES[kind]}}}]}}\n"
        "machines: [{hardware: h100-sxm-8, tp: 2}]\n"
        "limits: {max_num_seqs: 16, max_num_batched_tokens: 512}\n"
        "traffic: {concurrency: 4, isl: 100, osl: 10, requests: 8}\n"
    )
    summary = run(load(path)).runs[0].summary
    assert summary["requests_completed"] == 8
    assert summary["model"] == f"llama-3.1-8b + {kind}"


# --- formulas of single kinds -----------------------------------------------------------------------------------------


def test_activation_sparsity_dies_with_the_batch() -> None:
    """sparse-ffn.md 3.2: a tenth of the neurons active is 57 % of them at 8 tokens, 97 % at 32."""
    ffn = ActivationSparseFFN(F, SHARE(0.1))
    assert [round(float(ffn.cold_share(b)), 2) for b in (1, 8, 32)] == [0.1, 0.57, 0.97]
    assert flops(ActivationSparseFFN(F, SHARE(0.1), predictor_rank=0)) == pytest.approx(0.1 * flops(DenseFFN(F)))


def test_hot_neurons_are_read_always_and_cold_ones_seldom() -> None:
    ffn = ActivationSparseFFN(F, SHARE(0.3), SHARE(0.25), 0)
    read = {o.name: o.groups * o.n * o.k for o in matmuls(ffn.operations(visit(1.0)))}
    assert read["hot neurons up"] == 0.25 * 2 * F * D
    assert read["cold neurons up"] == pytest.approx(0.05 * 2 * F * D)


def test_peer_reads_two_vectors_for_each_expert() -> None:
    """sparse-ffn.md 3.3: H*m*2d values and 4*H*m*d FLOPs a token."""
    operations = Peer(1024, 8, 16).operations(visit(1.0))
    rows = gathers(operations)[0]
    assert rows.rows * rows.row_bytes == 8 * 16 * 2 * D * 2
    assert next(o.flops for o in operations if isinstance(o, Vector) and "products" in o.name) == 4 * 8 * 16 * D


def test_gemma_3n_s_table_is_as_large_as_published() -> None:
    """262,144 words x 35 layers x 256 values = 2.35e9, 17.9 KB a token."""
    layer = PerLayerEmbedding(vocabulary=262_144)
    assert 35 * layer.memory_parameters(2048) == pytest.approx(2.35e9, rel=2e-3)
    assert 35 * sum(o.rows * o.row_bytes for o in gathers(layer.operations(visit(1.0)))) == 17_920
    gated = PerLayerEmbedding(projected=False, vocabulary=262_144)
    assert sum(gated.parameters(2048).values()) - layer.memory_parameters(2048) == 2 * 2048 * 256


def test_a_tree_is_walked_one_node_after_the_other() -> None:
    """sparse-ffn.md 3.6: 12 of 4095 neurons; level l touches 2^l (1 - (1 - 2^-l)^B) nodes."""
    tree = TreeFFN(11)
    rows = gathers(tree.operations(visit(1.0)))[0]
    assert (tree.nodes, rows.rows, rows.dependent_hops) == (4095, 12, 12)
    assert rows.unique_rows == pytest.approx(12)
    for tokens in (7.0, 500.0):
        expected = sum(2**level * (1 - (1 - 2.0**-level) ** tokens) for level in range(12))
        assert tree.touched(tokens) == pytest.approx(expected)
        assert TreeFFN(11, SHARE(0.9)).touched(tokens) < expected


def test_look_ups_in_place_of_products_read_the_same_bytes_and_compute_less() -> None:
    """T-MAC: bits/group operations a weight in place of two FLOPs; MADDNESS: prototypes/subvector sums a weight."""
    assert flops(LutGemmFFN(F)) == pytest.approx(flops(DenseFFN(F)) * 2 / 4 / 2)
    assert LutGemmFFN(F).parameters(D) == DenseFFN(F).parameters(D)
    table = LutGemmFFN(F, "maddness", subvector=8, prototypes=16)
    assert table.parameters(D)["ffn"] == 2 * DenseFFN(F).parameters(D)["ffn"]
    read = sum(o.rows * o.row_bytes for o in gathers(table.operations(visit(1.0))))
    assert read == DenseFFN(F).parameters(D)["ffn"] / 8 * 2


def test_near_and_far_field_add_up() -> None:
    ffn = NearFarFFN(F, 128, 16, 4)
    router = D * 16
    assert sum(ffn.parameters(D).values()) == 3 * (128 * (D + F) + D * F) + router
    assert flops(ffn) == pytest.approx(2 * (3 * (128 * (D + F) + 4 / 16 * D * F) + router))


def test_structured_matrices_have_the_parameters_of_their_formulas() -> None:
    """sparse-ffn.md section 2, n = d = f: Monarch 2 n^1.5, block low rank n*t + 2*r*(n^2/t - n) a matrix."""
    n = 1024
    assert StructuredFFN(n, "monarch", blocks=32, matrices=2).parameters(n)["ffn"] == 2 * 2 * n**1.5
    blocks = StructuredFFN(n, "block_low_rank", rank=8, tile=128, matrices=2).parameters(n)["ffn"]
    assert blocks == 2 * (n * 128 + 2 * 8 * (n**2 / 128 - n))
    assert StructuredFFN(n, "low_rank", rank=8).parameters(n)["ffn"] == 3 * 8 * 2 * n


def test_retrieval_is_amortised_over_its_interval() -> None:
    every, seldom = (KvRetrieval(10**8, D, interval=n) for n in (1, 64))
    for one, other in zip(gathers(every.operations(visit(64.0))), gathers(seldom.operations(visit(64.0))), strict=True):
        assert one.rows == 64 * other.rows
    assert sum(o.rows * o.row_bytes for o in gathers(every.operations(visit(1.0)))) == 8192 * 64 + 8 * D * 2


def test_experts_in_a_latent_space_are_smaller_by_the_ratio_of_the_widths() -> None:
    wide, latent = MoEFFN(16, 2, 512), LatentMoEFFN(16, 2, 512, latent=D // 4)
    assert latent.parameters(D)["expert"] == wide.parameters(D)["expert"] / 4
    assert latent.parameters(D)["ffn"] == 2 * D * (D // 4)
    assert latent.parameters(D)["router"] == wide.parameters(D)["router"]
