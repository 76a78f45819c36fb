"""Feed-forward networks, one kind a file. A new kind is one new file and one line in FFN_KINDS."""

from __future__ import annotations

from simulator.model.ffn.activation_sparse import ActivationSparseFFN
from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.hash_moe import HashMoEFFN
from simulator.model.ffn.kind import FFN, Visit
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
from simulator.model.ffn.tree import TreeFFN

__all__ = ["FFN", "FFN_KINDS", "Visit"]

FFN_KINDS: dict[str, type[FFN]] = {
    DenseFFN.kind: DenseFFN,
    MoEFFN.kind: MoEFFN,
    HashMoEFFN.kind: HashMoEFFN,
    LatentMoEFFN.kind: LatentMoEFFN,
    ActivationSparseFFN.kind: ActivationSparseFFN,
    ProductKeyMemory.kind: ProductKeyMemory,
    Peer.kind: Peer,
    NgramTable.kind: NgramTable,
    PerLayerEmbedding.kind: PerLayerEmbedding,
    TreeFFN.kind: TreeFFN,
    LutGemmFFN.kind: LutGemmFFN,
    NearFarFFN.kind: NearFarFFN,
    StructuredFFN.kind: StructuredFFN,
    KvRetrieval.kind: KvRetrieval,
    ResidualStreams.kind: ResidualStreams,
}
