"""Who waits and who runs on a replica, and the blocks of KV cache that they hold.

The rules are vLLM's (V1 scheduler): running sequences first, in order, one token each or the next chunk of their
prompt; then waiting ones, first come first served, while tokens, seats and KV blocks last; when blocks run out the
sequence that joined last is preempted and recomputed later; or its cache waits in another memory, while there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.context import ContextSum
from simulator.engine.endings import Endings
from simulator.engine.journal import Journal
from simulator.engine.kv_cache import BlockDemand, KvLimits, SwapSpace
from simulator.engine.request_log import RequestLog
from simulator.engine.sequence import Sequence

Chunk = tuple[Sequence, int]


class Members:
    """The sequences of one replica, decided step by step; how long a step takes is not known here."""

    def __init__(
        self,
        number: int,
        windows: tuple[int | None, ...],
        batch: BatchLimits,
        kv: KvLimits,
        log: RequestLog,
        on_finish: Callable[[Sequence, int], None],
    ) -> None:
        self.number = number
        self.outstanding = 0
        self.journal = Journal(len(windows), kv.blocks)
        self._log, self._on_finish = log, on_finish
        self._batch, self._kv, self._free = batch, kv, kv.blocks
        self._demand, self._swap = BlockDemand(kv.block_size), SwapSpace(kv.swap)
        self._keys = [ContextSum(window) for window in windows]
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}  # in the order in which they joined
        self._finishing = Endings()
        self._decoding = 0
        self._seats = batch.max_num_seqs
        self._iteration = 0
        self._preempted = False  # in the step being decided
        self._partial: Sequence | None = None  # the one whose prompt is half computed; it joined last
        self._prompted = -1  # the iteration before which prompts ran in a step of their own, last
        self._reserved = 0  # blocks that running sequences will need to their end, where whole requests are admitted

    def _fits(self, sequence: Sequence) -> bool:
        """Whether the first chunk of a sequence could join the segment in flight. Blocks only become fewer in it."""
        tokens = self._prompt_tokens()
        fits = tokens > 0 and self._wanted(sequence, min(sequence.target - sequence.computed, tokens)) <= self._free
        return fits and self._reserved + self._whole(sequence) <= self._kv.blocks

    def _prompt_tokens(self) -> int:
        """Tokens of prompts that a step has room for."""
        return self._batch.max_num_batched_tokens - (self._decoding if self._batch.chunked_prefill else 0)

    def _pauses(self, chunks: list[Chunk]) -> bool:
        """Whether decoding waits for a step."""
        return bool(chunks) and not self._batch.chunked_prefill

    def _whole(self, sequence: Sequence) -> int:
        """Blocks that are kept for a request to its end."""
        return self._kv.held(sequence.prompt + sequence.output) if self._batch.whole else 0

    # Prompts and tokens

    def _prefilled(self, sequence: Sequence, tokens: int, now: int) -> bool:
        """`tokens` more of a prompt are cached; after its last one the sequence emits a token and decodes.

        True when that token was its only one.
        """
        held = self._kv.held
        before = held(sequence.computed)
        sequence.computed += tokens
        self._free -= held(sequence.computed) - before
        if sequence.computed < sequence.target:
            self._partial = sequence
            return False
        if sequence.generated:
            self.journal.late_gap((now - sequence.last_token) * SECONDS_PER_TICK)
        else:
            self._log.first_token_s[sequence.id] = now * SECONDS_PER_TICK
        sequence.generated += 1
        if sequence.generated == sequence.output:
            return True
        self._decode(sequence)
        return False

    def _decode(self, sequence: Sequence) -> None:
        """One that has its cache and its first token decodes from the next step on."""
        iteration = self._iteration
        sequence.context, sequence.joined = sequence.computed, iteration
        self._decoding += 1
        self._demand.add(sequence.context, iteration)
        for keys in self._keys:
            keys.add(sequence)
        self._finishing.add(iteration + sequence.output - sequence.generated, sequence)

    # Sequences leave

    def _leave(self, sequence: Sequence) -> None:
        """Take a sequence out of the decoders and free its blocks."""
        iteration = self._iteration
        cached = sequence.cached(iteration)
        sequence.epoch += 1
        self._decoding -= 1
        self._demand.remove(cached, iteration)
        for keys in self._keys:
            keys.remove(cached)
        self._free += self._kv.held(cached)

    def _finish(self, sequence: Sequence, now: int) -> None:
        del self._running[sequence.id]
        self.outstanding -= 1
        self._reserved -= self._whole(sequence)
        self._on_finish(sequence, now)

    def _preempt(self, sequence: Sequence, now: int) -> None:
        """Back to the front of the queue; its tokens so far become part of the prompt to recompute, or are swapped."""
        del self._running[sequence.id]
        self._reserved -= self._whole(sequence)
        if sequence is self._partial:
            self._partial = None
            self._free += self._kv.held(sequence.computed)
            sequence.recompute()
        else:
            cached = sequence.cached(self._iteration)
            self._leave(sequence)
            sequence.generated += self._iteration - sequence.joined
            sequence.last_token = now
            sequence.recompute(cached if self._swap.take(self._kv.held(cached)) else 0)
        self._preempted = True
        self._log.preemptions[sequence.id] += 1
        self._waiting.appendleft(sequence)

    # Sequences join

    def _wanted(self, sequence: Sequence, chunk: int) -> int:
        """Blocks that a sequence must hold for its next chunk."""
        return self._kv.held(sequence.computed + chunk)

    def _admit(self, now: int) -> list[Chunk]:
        """Prompt chunks of the next step, in what the tokens of the decoding sequences leave."""
        waiting, partial, kv, iteration = self._waiting, self._partial, self._kv, self._iteration
        chunks: list[Chunk] = []
        if partial is None and not waiting:
            return chunks
        free = self._free - self._demand.over(iteration, 1)
        tokens = self._prompt_tokens()
        if partial is not None:
            chunk = min(partial.target - partial.computed, tokens)
            more = self._wanted(partial, chunk) - kv.held(partial.computed)
            if more > free:
                self._preempt(partial, now)
            else:
                chunks.append((partial, chunk))
                free -= more
                tokens -= chunk
        limits = self._batch
        early = iteration % limits.admission_interval or len(waiting) < limits.admission_least
        early = early or iteration == self._prompted
        if self._preempted or (self._running and early):
            return chunks
        running, scheduled_s, seats = self._running, self._log.scheduled_s, self._seats
        while waiting and tokens > 0 and len(running) < seats:
            sequence = waiting[0]
            chunk = min(sequence.target - sequence.computed, tokens)
            more, whole = self._wanted(sequence, chunk), self._whole(sequence)
            if more > free or self._reserved + whole > kv.blocks:
                break
            waiting.popleft()
            self._reserved += whole
            held = kv.held(sequence.computed)  # found in the cache, or swapped and brought back
            self._free -= self._swap.give_back(held) if sequence.generated else held
            running[sequence.id] = sequence
            if scheduled_s[sequence.id] != scheduled_s[sequence.id]:
                scheduled_s[sequence.id] = now * SECONDS_PER_TICK
            chunks.append((sequence, chunk))
            free -= more
            tokens -= chunk
        return chunks

    def _make_room(self, now: int) -> None:
        """Preempt from the end of the running ones until every decoding sequence before them has its next block."""
        iteration, size = self._iteration, self._kv.block_size
        if self._demand.over(iteration, 1) <= self._free:
            return
        order = list(self._running.values())
        given = place = 0
        while place < len(order):
            sequence = order[place]
            place += 1
            if sequence is self._partial or sequence.cached(iteration) % size:
                continue
            while self._free - given < 1 and len(order) >= place:
                self._preempt(order.pop(), now)
            if len(order) >= place:
                given += 1
