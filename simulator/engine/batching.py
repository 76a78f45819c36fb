"""Limits of continuous batching, named as vLLM names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """max_num_seqs: sequences that run at once. max_num_batched_tokens: tokens in one step (chunked prefill)."""

    max_num_seqs: int
    max_num_batched_tokens: int
