"""Limits of continuous batching, named as vLLM names them, and how the scheduler takes in what waits."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.stack.stack import Stack


@dataclass(frozen=True)
class BatchLimits:
    """max_num_seqs: sequences that run at once. max_num_batched_tokens: tokens in one step (chunked prefill).

    chunked_prefill: prompts share steps with sequences that decode; else they run in steps of their own, decoding
    waits, and no such step follows another before some decoding, but for the rest of a long prompt.
    admission_interval: steps of decoding from one look at the waiting requests to the next; if nothing runs it looks.
    admission_least: requests that must wait before any of them joins a running batch.
    admission_delay: what passes before a request is seen, in steps as long as the one in progress when it comes.
    whole: a request waits until the cache has room for all of its tokens, and is then never preempted.
    tokenization: seconds for each token of a prompt before the scheduler sees it (front_end.py).
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool = True
    admission_interval: int = 1
    admission_least: int = 1
    admission_delay: float = 0.0
    whole: bool = False
    tokenization: float = 0.0


def batch_limits(
    stack: Stack, max_num_seqs: int, max_num_batched_tokens: int, whole: bool = False, held: float = 0.0
) -> BatchLimits:
    """With the habits of a stack's scheduler. held: steps for which it holds a prompt back beside its own delay."""
    return BatchLimits(
        max_num_seqs,
        max_num_batched_tokens,
        stack.chunked_prefill,
        round(stack.admission_interval),
        round(stack.admission_least),
        float(stack.admission_delay) + held,
        whole,
        float(stack.tokenization),
    )
