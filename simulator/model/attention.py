"""Attention kinds. A new kind is one new file and one line in ATTENTION_KINDS."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Protocol

from simulator.errors import Problem
from simulator.model.block_sparse_attention import BlockSparseAttention
from simulator.model.compressed_attention import CompressedAttention
from simulator.model.cross_attention import CrossAttention
from simulator.model.gated_delta import GatedDeltaNet
from simulator.model.mamba import Mamba2
from simulator.model.mamba1 import Mamba1
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Batch, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, ONE_CHIP, Parallelism, divisors, not_legal
from simulator.model.scores import ROTARY_FLOPS, scores
from simulator.model.sparse_attention import SparseLatentAttention


class AttentionKind(Protocol):
    """What every kind answers. `hidden` is the model's width; the object holds the rest of its shape."""

    kind: ClassVar[str]

    @property
    def window(self) -> int | None:
        """Tokens that are kept, and that a query reaches back to; None for all of them."""
        ...

    @property
    def reads(self) -> tuple[int | None, ...]:
        """The windows of a batch's contexts that its operations need."""
        ...

    def parameters(self, hidden: int, parallelism: Parallelism = ...) -> dict[str, float]:
        """Tensor class -> parameters on one chip of a stage, one layer; with Parallelism() the whole layer."""
        ...

    def kv_bytes_per_token(self, precision: Precision, tp: int = ...) -> float:
        """Cache bytes of one token in one layer on one of tp chips; 0 for kinds that keep no keys."""
        ...

    def state_bytes(self, precision: Precision, tp: int = ...) -> float:
        """Bytes of one sequence in one layer on one of tp chips that do not grow with its length."""
        ...

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """What keeps this shape from being cut that way."""
        ...

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """One chip's operations, projections included, collectives not. `batch` is one data-parallel rank's."""
        ...


@dataclass(frozen=True)
class GroupedQueryAttention:
    """Softmax attention with `heads` query heads over `kv_heads` key-value heads of `head_dim`.

    kv_heads = heads is multi-head, kv_heads = 1 multi-query attention. `window` limits how far back a query looks.
    tp cuts the heads; with more chips than key-value heads each chip keeps one, copied (as vLLM and Pope et al. do).
    """

    kind: ClassVar[str] = "grouped_query"

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False  # one learned score a head that takes attention away from the keys (gpt-oss)
    output_gate: bool = False  # a second query projection whose sigmoid scales the output (Qwen3.5)
    head_gate: bool = False  # one gate a head, projected from the input (Step 3.5)
    value_dim: int | None = None  # width of a value head where it is not head_dim (MiMo-V2)
    values_are_keys: bool = False  # values come from the projection of the keys; both are kept (Gemma 4)
    chunked: bool = False  # the window begins anew in every chunk; software keeps the keys of all of them (Llama 4)
    borrowed: bool = False  # keys and values are those of an earlier layer: no projection and no cache (Gemma 3n)

    @property
    def _value(self) -> int:
        """Width of a value head."""
        return self.value_dim or self.head_dim

    @property
    def _kept(self) -> int:
        """Values of the key and the value of one head."""
        return self.head_dim + self._value

    @property
    def reads(self) -> tuple[int | None, ...]:
        """Its window alone."""
        return (self.window,)

    def _cut(self, tp: int) -> tuple[int, int]:
        """Query and key-value heads on one chip."""
        return ceil(self.heads / tp), max(1, ceil(self.kv_heads / tp))

    def _projected(self, tp: int) -> tuple[int, int, int]:
        """Columns of queries with their gate, and of keys with values, on one chip; gates of heads."""
        heads, kv_heads = self._cut(tp)
        query = heads * self.head_dim * (2 if self.output_gate else 1)
        made = 0 if self.borrowed else self.head_dim if self.values_are_keys else self._kept
        return query, kv_heads * made, heads if self.head_gate else 0

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*(heads*head_dim + kv_heads*(head_dim + value_dim)) + heads*value_dim*hidden, heads as cut by tp;
        biases, sinks, norms.

        An output gate projects as many values again as the queries have, a gate of heads one value for each of them.
        """
        heads, _ = self._cut(parallelism.tp)
        query, key, gates = self._projected(parallelism.tp)
        count = hidden * (query + key + gates) + heads * self._value * hidden
        count += query + key if self.qkv_bias else 0
        count += hidden if self.output_bias else 0
        count += heads if self.sinks else 0
        normed = self.head_dim * (1.0 if self.borrowed else 2.0) if self.qk_norm else 0.0
        return {"attention": float(count), "norm": normed}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """kv_heads/tp * (head_dim + value_dim) * bytes, at least one key-value head a chip; 0 if borrowed."""
        return 0.0 if self.borrowed else self._bytes_read(precision, tp)

    def _bytes_read(self, precision: Precision, tp: int) -> float:
        """Of one key and its value."""
        return float(self._cut(tp)[1] * self._kept) * precision.bytes_of("kv")

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """Nothing but keys and values is kept."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the query heads, and divides the key-value heads or is a multiple of them."""
        both = [tp for tp in divisors(self.heads) if self.kv_heads % tp == 0 or tp % self.kv_heads == 0]
        return not_legal("tp", parallelism.tp, f"{self.heads} heads over {self.kv_heads} key-value heads", both)

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Fused query-key-value projection, rotary embedding with the cache write, attention, output projection.

        A query-key pair costs 2*heads/tp*(head_dim + value_dim) FLOPs; a key read from the cache costs its K and V.
        """
        heads, kv_heads = self._cut(parallelism.tp)
        stored = precision.format_of("attention")
        into = sum(self._projected(parallelism.tp))
        query, key = heads * self.head_dim, 0 if self.borrowed else kv_heads * self.head_dim
        read = self._bytes_read(precision, parallelism.tp)
        written = self.kv_bytes_per_token(precision, parallelism.tp)
        pair = 2.0 * heads * self._kept
        rotated = (query + key) * (2.0 if self.qk_norm else 1.0)
        return [
            Matmul("qkv projection", batch.tokens, into, hidden, stored, "attention", 1.0, repeat),
            Vector(
                "rotary",
                batch.tokens * (ROTARY_FLOPS * rotated),
                batch.tokens * (2 * (query + key) * ACTIVATION_BYTES + written),
                repeat,
                written=batch.tokens * written,
            ),
            *scores(
                batch,
                self.window,
                decode=(pair, read),
                prefill=(pair, read),
                format=precision.format_of("kv"),
                repeat=repeat,
                copies=max(1.0, parallelism.tp / self.kv_heads),
                heads=heads,
            ),
            Matmul("output projection", batch.tokens, hidden, heads * self._value, stored, "attention", 1.0, repeat),
        ]


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2): one compressed key-value vector a token, shared by all heads.

    Decode is absorbed (queries are carried into the latent space, the cache is read as it is); prefill expands keys
    and values per head. tp cuts the heads; the latent and the two compressions are copied to every chip.
    """

    kind: ClassVar[str] = "latent"

    heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None
    window: int | None = None
    output_gate: bool = False  # a gate as wide as the heads' values, projected from the input (Kimi K3)

    @property
    def reads(self) -> tuple[int | None, ...]:
        """Its window alone."""
        return (self.window,)

    def _columns(self, tp: int) -> tuple[int, int, int]:
        """Heads on one chip, and the widths of their queries and of their expanded keys and values."""
        heads = ceil(self.heads / tp)
        query = heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        return heads, query, heads * (self.qk_nope_head_dim + self.v_head_dim)

    def parameters(self, hidden: int, parallelism: Parallelism = ONE_CHIP) -> dict[str, float]:
        """hidden*(q_lora + kv_lora + rope) + q_lora*heads*(nope + rope) + kv_lora*heads*(nope + v) + heads*v*hidden,
        and once more heads*v*hidden of a gate."""
        heads, query, expanded = self._columns(parallelism.tp)
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        count = hidden * latent + self.kv_lora_rank * expanded
        count += heads * self.v_head_dim * hidden * (2 if self.output_gate else 1)
        if self.q_lora_rank is None:
            count += hidden * query
        else:
            count += self.q_lora_rank * (hidden + query)
        return {"attention": float(count), "norm": float(self.kv_lora_rank + (self.q_lora_rank or 0))}

    def kv_bytes_per_token(self, precision: Precision, tp: int = 1) -> float:
        """(kv_lora_rank + rope) * bytes on every one of the tp chips: one vector serves all heads."""
        return (self.kv_lora_rank + self.qk_rope_head_dim) * precision.bytes_of("kv")

    def state_bytes(self, precision: Precision, tp: int = 1) -> float:
        """Nothing but latents is kept."""
        return 0.0

    def check(self, parallelism: Parallelism) -> list[Problem]:
        """tp divides the heads."""
        return not_legal("tp", parallelism.tp, f"the {self.heads} attention heads", divisors(self.heads))

    def operations(
        self, hidden: int, batch: Batch, parallelism: Parallelism, precision: Precision, repeat: Array
    ) -> list[Operation]:
        """Compressions (fused), query expansion, latent expansion, attention, output projection.

        The [kv_lora_rank, heads*(nope + v)] matrix costs a token the same whether it expands the token's own latent
        (prefill) or is absorbed into its query and its output (decode). A pair costs 2*heads*(2*kv_lora + rope) FLOPs
        absorbed and 2*heads*(nope + rope + v) expanded. Expanding a cached prefix again is not counted.
        """
        heads, query, expanded = self._columns(parallelism.tp)
        stored = precision.format_of("attention")
        latent = self.kv_lora_rank + self.qk_rope_head_dim
        tokens, cached = batch.tokens, self.kv_bytes_per_token(precision, parallelism.tp)
        # Without a query compression the queries come straight from the hidden vector, beside the latent.
        into = latent + (query if self.q_lora_rank is None else self.q_lora_rank)
        into += heads * self.v_head_dim if self.output_gate else 0
        operations: list[Operation] = [
            Matmul("qkv compression", tokens, into, hidden, stored, "attention", 1.0, repeat),
        ]
        if self.q_lora_rank is not None:
            operations.append(
                Matmul("query expansion", tokens, query, self.q_lora_rank, stored, "attention", 1.0, repeat)
            )
        rotated = (heads + 1) * self.qk_rope_head_dim
        normed = self.kv_lora_rank + (self.q_lora_rank or 0)
        pair = self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim
        return [
            *operations,
            Vector(
                "rotary",
                tokens * (ROTARY_FLOPS * (rotated + normed)),
                tokens * (2 * (rotated + normed) * ACTIVATION_BYTES + cached),
                repeat,
                written=tokens * cached,
            ),
            Matmul("latent expansion", tokens, expanded, self.kv_lora_rank, stored, "attention", 1.0, repeat),
            *scores(
                batch,
                self.window,
                decode=(2.0 * heads * (latent + self.kv_lora_rank), cached),
                prefill=(2.0 * heads * pair, heads * pair * ACTIVATION_BYTES),
                format=precision.format_of("kv"),
                repeat=repeat,
            ),
            Matmul("output projection", tokens, hidden, heads * self.v_head_dim, stored, "attention", 1.0, repeat),
        ]


ATTENTION_KINDS: dict[str, type[AttentionKind]] = {
    GroupedQueryAttention.kind: GroupedQueryAttention,
    LatentAttention.kind: LatentAttention,
    GatedDeltaNet.kind: GatedDeltaNet,
    Mamba2.kind: Mamba2,
    Mamba1.kind: Mamba1,
    SparseLatentAttention.kind: SparseLatentAttention,
    CompressedAttention.kind: CompressedAttention,
    BlockSparseAttention.kind: BlockSparseAttention,
    CrossAttention.kind: CrossAttention,
}
