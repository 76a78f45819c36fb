"""Limits of continuous batching, named as vLLM names them, and how the scheduler takes in what waits."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.stack.stack import Stack


@dataclass(frozen=True)
class BatchLimits:
    """max_num_seqs: sequences that run at once. max_num_batched_tokens: tokens in one step (chunked prefill).

    admission_interval: steps from one look at the waiting requests to the next; while nothing runs it looks.
    admission_delay: what passes before a request is seen, in steps as long as the one in progress when it comes.
    whole: a request waits until the cache has room for all of its tokens, and is then never preempted.
    tokenization: seconds for each token of a prompt before the scheduler sees it (front_end.py).
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    admission_interval: int = 1
    admission_delay: float = 0.0
    whole: bool = False
    tokenization: float = 0.0


def batch_limits(stack: Stack, max_num_seqs: int, max_num_batched_tokens: int, whole: bool = False) -> BatchLimits:
    """With the habits of a stack's scheduler."""
    interval, delay = round(stack.admission_interval), float(stack.admission_delay)
    tokenization = float(stack.tokenization)
    return BatchLimits(max_num_seqs, max_num_batched_tokens, interval, delay, whole, tokenization)
