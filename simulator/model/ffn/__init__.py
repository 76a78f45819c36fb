"""Feed-forward networks, one kind a file. A new kind is one new file and one line in FFN_KINDS."""

from __future__ import annotations

from simulator.model.ffn.dense import DenseFFN
from simulator.model.ffn.kind import FFN, Visit
from simulator.model.ffn.moe import MoEFFN

__all__ = ["FFN", "FFN_KINDS", "Visit"]

FFN_KINDS: dict[str, type[FFN]] = {
    DenseFFN.kind: DenseFFN,
    MoEFFN.kind: MoEFFN,
}
