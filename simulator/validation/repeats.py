"""Prompts that a benchmark sends again, and what a prefix cache still has of them.

A client that draws prompts from one seed sends the same ones in every run: prompt i of a run begins as prompt i of the
runs before it, however long. The cache keeps what fits, drops the least recently used first, and of a sequence its end
before its beginning (vLLM frees the blocks of a sequence from the last one on).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sent:
    """A run of `requests` requests, all of `prompt` and `output` tokens."""

    requests: int
    prompt: int
    output: int


def hits(earlier: Iterable[Sent], now: Sent, room: int, block: int) -> np.ndarray:
    """[requests] tokens at the start of each prompt of a run that the cache has when it comes, whole blocks. `room`:
    tokens of the cache. The last token of a prompt is always computed."""
    cache = _PrefixCache(room)
    for run in earlier:
        _send(cache, run)
    found = np.minimum(_send(cache, now), now.prompt - 1)
    return np.asarray(found // block * block)


def _send(cache: _PrefixCache, run: Sent) -> np.ndarray:
    return np.array([cache.take(request, run.prompt, run.output) for request in range(run.requests)], dtype=np.int64)


class _PrefixCache:
    """Tokens kept of each numbered prompt and of its last answer, the least recently used first."""

    def __init__(self, room: int) -> None:
        self._room, self._held = room, 0
        self._kept: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def take(self, number: int, prompt: int, output: int) -> int:
        """A request: the tokens of its prompt that are there. Then all of it is."""
        before = self._kept.pop(number, (0, 0))
        self._held -= sum(before)
        over = self._held + prompt + output - self._room
        while over > 0 and self._kept:
            oldest, (start, end) = self._kept.popitem(last=False)
            rest = start + end - over
            self._held -= min(over, start + end)
            over -= start + end
            if rest > 0:
                self._kept[oldest] = min(start, rest), max(0, rest - start)
                self._kept.move_to_end(oldest, last=False)
        self._kept[number] = prompt, output
        self._held += prompt + output
        return min(before[0], prompt)
