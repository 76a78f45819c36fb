"""Paged KV cache: how many blocks the running sequences hold, and when the free ones run out.

A sequence with c tokens in the cache holds ceil(c / block_size) blocks, plus `fixed` blocks for what does not grow
with its context (sliding windows, recurrent state). While it decodes it takes one more block every block_size steps;
in which of them is a residue class, so that a run of k steps is accounted for without a look at any sequence.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class KvLimits:
    """The cache of one replica. `blocks` in all, `block_size` tokens each, `fixed` blocks a sequence besides; `swap`
    blocks of another memory, for the caches of preempted sequences."""

    blocks: int
    block_size: int
    fixed: int = 0
    swap: int = 0

    def held(self, tokens: int) -> int:
        """Blocks that a sequence with this many cached tokens holds."""
        return self.fixed - (-tokens // self.block_size) if tokens else 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that fits alone."""
        return max(0, (self.blocks - self.fixed) * self.block_size)


class BlockDemand:
    """Blocks that the decoding sequences will take, by iteration.

    A sequence with c cached tokens before iteration i needs a new block in iteration n >= i when c + (n - i) is a
    multiple of block_size, that is when n = i - c modulo block_size.
    """

    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._sequences = 0
        self._due = [0] * block_size

    def add(self, cached: int, iteration: int) -> None:
        self._due[(iteration - cached) % self._size] += 1
        self._sequences += 1

    def remove(self, cached: int, iteration: int) -> None:
        self._due[(iteration - cached) % self._size] -= 1
        self._sequences -= 1

    def over(self, iteration: int, steps: int) -> int:
        """Blocks taken in `steps` iterations from this one on."""
        size, due = self._size, self._due
        if steps == 1:
            return due[iteration % size]
        rounds, rest = divmod(steps, size)
        first = iteration % size
        last = first + rest
        taken = rounds * self._sequences + sum(due[first:last])
        return taken if last <= size else taken + sum(due[: last - size])

    def steps_within(self, iteration: int, free: int, most: int) -> int:
        """The largest number of steps, at most `most`, that needs no more than `free` blocks."""
        if self._sequences == 0 or self._sequences * (most // self._size + 1) <= free:
            return most
        steps = free // self._sequences * self._size
        free -= steps // self._size * self._sequences
        while steps < most:
            free -= self._due[(iteration + steps) % self._size]
            if free < 0:
                return steps
            steps += 1
        return most

    def prompt_steps_within(self, iteration: int, free: int, most: int, prompt: tuple[int, int], kv: KvLimits) -> int:
        """`steps_within` beside a prompt of (cached tokens, tokens a step). At least 1: the first step was admitted."""
        computed, tokens = prompt
        held = kv.held(computed)

        def fits(steps: int) -> bool:
            return kv.held(computed + steps * tokens) - held + self.over(iteration, steps) <= free

        if most == 1 or fits(most):
            return most
        # Demand only grows with the steps.
        return max(1, bisect_left(range(most), True, key=lambda steps: not fits(steps)) - 1)


class SwapSpace:
    """Room for the caches of preempted sequences, and the blocks that the step being decided moves there and back."""

    def __init__(self, blocks: int) -> None:
        self._free = blocks
        self.moved = 0

    def take(self, blocks: int) -> bool:
        """Whether there is room for a cache, which is then moved."""
        if blocks > self._free:
            return False
        self._free -= blocks
        self.moved += blocks
        return True

    def give_back(self, blocks: int) -> int:
        """A cache is moved back."""
        self._free += blocks
        self.moved += blocks
        return blocks
