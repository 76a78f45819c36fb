"""Feed-forward networks, one kind a file. A new kind is one new file and one line in FFN_KINDS."""

from __future__ import annotations

from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.hash_moe import HashMoEFFN
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.moe import MoEFFN
from simulator.model.ffn.ngram_table import NgramTable
from simulator.model.ffn.product_key_memory import ProductKeyMemory

__all__ = ["FFN", "FFN_KINDS", "Visit"]

FFN_KINDS: dict[str, type[FFN]] = {
    DenseFFN.kind: DenseFFN,
    MoEFFN.kind: MoEFFN,
    HashMoEFFN.kind: HashMoEFFN,
    ProductKeyMemory.kind: ProductKeyMemory,
    NgramTable.kind: NgramTable,
}
