"""What a model asks of one chip in one step: operations with explicit shapes, and no time in them.

Shapes are per chip: already divided by tensor, expert and data parallelism. Any quantity may be a NumPy array over
many batch compositions, so that one call describes many steps. `repeat` is how many layers do the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

Array = float | np.ndarray
"""A number, or one number for each batch composition."""


@dataclass(frozen=True)
class Batch:
    """The composition of a step (or of many steps, as arrays).

    tokens          tokens that pass through the layers (decode + prefill), whole replica
    outputs         sequences that emit a token in this step (they pass the head)
    decode_context  window (None = full attention) -> sum over decoding sequences of keys read, min(context, window)
    prefill_pairs   window -> sum over prompt tokens of keys they attend to (causal, cached prefix included)
    """

    tokens: Array
    outputs: Array = 0.0
    decode_context: Mapping[int | None, Array] = field(default_factory=dict)
    prefill_pairs: Mapping[int | None, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Matmul:
    """[m, k] x [k, n], `groups` distinct weight matrices touched, m rows in total over all groups.

    FLOPs 2*m*n*k; weight bytes groups*n*k*bytes(format). `tensor` names the class of the weights (for placement).
    Where tokens choose matrices, `chosen` of `choices` (on all chips) with a popularity rank^-zipf, a cache can hold
    the ones used most; choices = 0: every row uses every matrix. address_known, layers_before: of the choice, as of a
    Gather; hops: rounds in which a far tier is waited for once the choice is made. activation_bytes: of a value that
    goes in or comes out. Of experts that are spread over ranks, imbalance: matrices that the slowest rank reads over
    the mean rank's; load: rows of the busiest rank over the mean rank's.
    """

    name: str
    m: Array
    n: float
    k: float
    format: str
    tensor: str
    groups: Array = 1.0
    repeat: Array = 1.0
    imbalance: Array = 1.0
    load: float = 1.0
    choices: float = 0.0
    chosen: float = 0.0
    zipf: float = 0.0
    address_known: str = "layer"
    layers_before: float = 0.0
    hops: float = 0.0
    activation_bytes: float = 2.0


@dataclass(frozen=True)
class Attention:
    """Scores and values for one layer kind: `pairs` query-key pairs, `keys` key-value entries read from the cache.

    phase 'decode': one query a sequence, so pairs = keys = the batch's decode_context[window].
    phase 'prefill': pairs = prefill_pairs[window]; keys are read once per tile of queries.
    flops_per_pair and bytes_per_key are per chip and layer (4*heads*head_dim, and K plus V, or MLA's latent).
    copies: chips of the tensor-parallel group that hold the same keys. Of a decode step, sequences: how many there are;
    heads: query heads on one chip (0: not told). scan: it goes over the states of a recurrence (Mamba-2) in place of
    keys.
    """

    name: str
    phase: str
    pairs: Array
    keys: Array
    flops_per_pair: float
    bytes_per_key: float
    format: str
    repeat: Array = 1.0
    copies: float = 1.0
    sequences: Array = 0.0
    heads: float = 0.0
    scan: bool = False


@dataclass(frozen=True)
class Stream:
    """`bytes` of a tensor class read (or written) once, in order."""

    name: str
    tensor: str
    bytes: Array
    repeat: Array = 1.0


@dataclass(frozen=True)
class Gather:
    """`rows` look-ups of `row_bytes` each, `unique_rows` of them distinct, in `dependent_hops` rounds that wait for
    each other. address_known: 'token' when the token ids give the addresses, 'layer' when the layer's input does.

    layers_before: layers that the step computes before the one that needs the rows (the first of `repeat`): their time
    hides a prefetch of addresses known by the token. table_rows, zipf: rows on this chip to choose from (0: not told)
    and the exponent of their popularity, from which caches serve their share.
    """

    name: str
    tensor: str
    rows: Array
    unique_rows: Array
    row_bytes: float
    dependent_hops: float = 1.0
    address_known: str = "layer"
    repeat: Array = 1.0
    layers_before: float = 0.0
    table_rows: float = 0.0
    zipf: float = 0.0


@dataclass(frozen=True)
class Vector:
    """Element-wise work: norms, activations, rotary embedding, residual adds. FLOPs and bytes through the near tier.
    copies: chips of the tensor-parallel group that each do all of it, to the same values. written: of the bytes, those
    of new keys and values, which go to where the cache lies."""

    name: str
    flops: Array
    bytes: Array
    repeat: Array = 1.0
    copies: float = 1.0
    written: Array = 0.0


@dataclass(frozen=True)
class Collective:
    """A message between `group` chips. `bytes` is the full buffer on each chip (all-reduce: its size; all-gather: the
    gathered size; all-to-all: what one chip sends and receives in all; send-receive: the message that each of a chain
    of `group` chips hands to the next). `stride`: the members are every stride-th of the replica's chips, which fill
    one machine after the other; as many groups as that leaves room for talk at the same time. `chosen`: of an
    all-to-all of tokens to experts, how many a token chooses, where a rank and a machine get it once whatever it chose
    there; 0: they get a copy for each. `load`: bytes of the busiest chip over the mean one's. `of_all`: made of the
    tokens of all data-parallel copies, not of each one's own; `taking`: share of these copies that take part, where a
    batch has fewer tokens than there are."""

    name: str
    pattern: str  # all_reduce | all_gather | reduce_scatter | all_to_all | send_receive
    bytes: Array
    group: int
    repeat: Array = 1.0
    stride: int = 1
    row_bytes: float = 0.0  # of one token's vector, where the message is made of such
    chosen: float = 0.0
    load: float = 1.0
    of_all: bool = False
    taking: Array = 1.0


Operation = Matmul | Attention | Stream | Gather | Vector | Collective
