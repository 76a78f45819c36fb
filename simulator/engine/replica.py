"""One replica of a model under continuous batching, with fast-forward.

The rules are vLLM's (V1 scheduler): running sequences first, in order, one token each or the next chunk of their
prompt; then waiting ones, first come first served, while tokens, seats and KV blocks last; when blocks run out the
sequence that joined last is preempted and recomputed later; or its cache waits in another memory, while there is room.

Between two changes of the batch nothing needs deciding, so a run of n steps is summed in closed form and slept in one
event. Time is in whole ticks, so the sum is the stepped one to the bit (`engine/exact.py` is the proof). An arrival
that could join cuts the run at the end of the step in which it falls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush

from simpy.events import Event

from simulator.cost.piece import Line, Piece, in_progress
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, BOUNDARY, Clock
from simulator.engine.context import ContextSum, pair_growth, pair_lines
from simulator.engine.journal import Journal
from simulator.engine.kv_cache import BlockDemand, KvLimits, SwapSpace
from simulator.engine.request_log import RequestLog
from simulator.engine.sequence import Sequence
from simulator.engine.sharing import Sharing

Chunk = tuple[Sequence, int]


class Replica:
    """One replica: a deque, a heap of finishing iterations, one armed event."""

    def __init__(
        self,
        number: int,
        clock: Clock,
        step: Sharing,
        batch: BatchLimits,
        kv: KvLimits,
        log: RequestLog,
        on_finish: Callable[[Sequence, int], None],
    ) -> None:
        self.number = number
        self.outstanding = 0
        self.journal = Journal(len(step.windows), kv.blocks)
        self._clock, self._step, self._log, self._on_finish = clock, step, log, on_finish
        self._table = step.at(self, 0) if step.alone else None  # the same at all times
        self._batch, self._kv, self._free = batch, kv, kv.blocks
        self._demand, self._swap = BlockDemand(kv.block_size), SwapSpace(kv.swap)
        self._keys = [ContextSum(window) for window in step.windows]
        self._bending = [keys for keys in self._keys if keys.window is not None]
        self._no_pairs: list[Line] = [(0, 0)] * len(step.windows)
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}  # in the order in which they joined
        self._finishing: list[tuple[int, int, int, Sequence]] = []
        self._decoding = 0
        self._seats = batch.max_num_seqs
        self._joined = 0  # decoding sequences whose first step of decoding begins the segment
        self._iteration = 0
        self._preempted = False  # in the step being decided
        self._partial: Sequence | None = None  # the one whose prompt is half computed; it joined last
        self._idle, self._working = True, False  # woken and not yet stepping: neither
        self._reserved = 0  # blocks that running sequences will need to their end, where whole requests are admitted
        # The segment in flight.
        self._armed: Event | None = None
        self._chunks: list[Chunk] = []
        self._pieces: tuple[Piece, ...] = ()
        self._steps = self._start = self._end = self._prefill = self._emitting = 0
        self._lines: list[Line] = []  # keys by window, then pairs by window
        self._joinable = False
        self._revisit = -1  # the segment before it ended then, and an arrival until then may join this one

    def arrive(self, sequence: Sequence, now: int) -> bool:
        """Take a request at `now`. It waits for the end of the current step, or for room.

        True when the replica was idle: `wake` it at the same instant, after all that arrives then.
        """
        self.outstanding += 1
        self._log.replica[sequence.id] = self.number
        delay = self._batch.admission_delay
        if not (delay and self._working):
            return self._see(sequence, now)
        seen = now + round(delay * in_progress(self._pieces, now - self._start)[2])
        self._clock.at(seen, lambda _event: self._see_late(sequence, seen), ARRIVAL)
        return False

    def _see(self, sequence: Sequence, now: int) -> bool:
        """The scheduler knows of a request. True when the replica was idle."""
        self._waiting.append(sequence)
        if self._idle:
            self._idle = False
            return True
        if self._joinable:
            self._joinable = False
            if self._fits(sequence):
                self._cut(now)
        elif now <= self._revisit:
            self._steps = 0
            self._rearm(self._revisit)
        return False

    def _see_late(self, sequence: Sequence, now: int) -> None:
        if self._see(sequence, now):
            self._clock.at(now, lambda _event: self.wake(now), BOUNDARY + self.number)

    def wake(self, now: int) -> None:
        """Decide the first step after an idle spell."""
        self._step.work(self, now)
        self._begin(now)

    def reconsider(self, now: int) -> None:
        """Others that share began or stopped at `now`: only the step in progress keeps its time."""
        if self._armed is not None and self._steps > 1:
            self._cut(now + 1)

    # The life of a segment

    def _rearm(self, end: int) -> None:
        """Be called at `end` instead."""
        if self._armed is not None:
            self._clock.cancel(self._armed)
        self._end = end
        self._revisit = -1
        self._armed = self._clock.at(end, self._boundary, BOUNDARY + self.number)

    def _boundary(self, _event: Event) -> None:
        self._armed = None
        self._joinable = False
        if self._steps:
            self._advance()
        self._begin(self._end)

    def _fits(self, sequence: Sequence) -> bool:
        """Whether the first chunk of a sequence could join the segment in flight. Blocks only become fewer in it."""
        tokens = self._batch.max_num_batched_tokens - self._decoding
        fits = tokens > 0 and self._wanted(sequence, min(sequence.target - sequence.computed, tokens)) <= self._free
        return fits and self._reserved + self._whole(sequence) <= self._kv.blocks

    def _whole(self, sequence: Sequence) -> int:
        """Blocks that are kept for a request to its end."""
        return self._kv.held(sequence.prompt + sequence.output) if self._batch.whole else 0

    def _cut(self, now: int) -> None:
        """End the segment with the step in progress at `now`."""
        steps, end, _ = in_progress(self._pieces, now - self._start)
        if steps < self._steps:
            self._steps = steps
            self._rearm(self._start + end)

    def _begin(self, now: int) -> None:
        """Decide the next batch and how long it stays as it is.

        A stretch of a long prompt in which nothing finishes changes nothing that others see. It is booked at once, and
        the step after it decided too: one event for both, where nobody shares. Who arrives during the stretch may join
        that step after all; then it is decided again.
        """
        revisit = -1
        while True:
            self._preempted, self._swap.moved = False, 0
            if self._decoding > self._free:  # each takes one block at most
                self._make_room(now)
            chunks = self._admit(now)
            emitting = decoding = tokens = self._decoding
            if not chunks and not decoding:
                self._idle, self._working = True, False
                self._step.rest(self, now)
                return
            lines = [(known.total, known.growing) for known in self._keys]
            pairs: list[Line] | None = None
            for sequence, chunk in chunks:
                tokens += chunk
                if sequence.computed + chunk == sequence.target:
                    emitting += 1
            # After a preemption nothing joins for one step; who shares keeps an old share for one.
            once = emitting > decoding or len(chunks) > 1 or self._preempted or self._step.changed_at == now
            steps = 1 if once else self._unchanged_steps(chunks)
            if chunks:
                pairs = pair_lines(chunks, steps, self._step.windows)
            times = self._table or self._step.at(self, now)
            pieces = times.pieces(tokens, emitting, lines, pairs, steps, self._swap.moved)
            end = now
            for count, first, increment in pieces:
                end += count * first + increment * (count * (count - 1) // 2)
            self._chunks, self._steps, self._start, self._end, self._pieces = chunks, steps, now, end, pieces
            self._prefill, self._emitting, self._lines = tokens - decoding, emitting, lines + (pairs or self._no_pairs)
            revisit = -1 if self._preempted else revisit
            if not chunks or emitting > decoding or self._table is None or self._batch.admission_delay:
                break
            after = self._after_stretch(steps)
            if after is None:
                break
            self._advance()
            now = end
            revisit = end if after else -1
        self._joinable = steps > 1 and not chunks and not self._waiting and len(self._running) < self._seats
        self._revisit, self._working = revisit, True
        self._armed = self._clock.at(end, self._boundary, BOUNDARY + self.number)

    def _after_stretch(self, steps: int) -> bool | None:
        """Whether who arrives during this stretch of a prompt may join the step after it; None: no telling before."""
        if self._decoding and self._finishing_at() <= self._iteration + steps:
            return None
        sequence, chunk = self._chunks[0]
        if sequence.target - sequence.computed - steps * chunk >= chunk:
            return False  # again the prompt takes all tokens
        return None if self._waiting else True

    def _unchanged_steps(self, chunks: list[Chunk]) -> int:
        """Steps for which the batch stays as it is, if nothing arrives; of one chunk at most, which is not the last."""
        iteration = self._iteration
        most = self._finishing_at() - iteration if self._decoding else 1 << 30
        for keys in self._bending:
            if keys.growing:
                most = min(most, keys.next_change() - iteration)
        if not chunks:
            interval = self._batch.admission_interval
            if interval > 1 and self._waiting and len(self._running) < self._seats and self._fits(self._waiting[0]):
                most = min(most, interval - iteration % interval)
            return self._demand.steps_within(iteration, self._free, most)
        # A long prompt that takes all tokens of every step: until its last chunk only a finishing sequence changes the
        # batch, provided that the blocks last.
        sequence, tokens = chunks[0]
        if tokens < self._batch.max_num_batched_tokens - self._decoding:
            return 1
        computed = sequence.computed
        most = min(most, (sequence.target - computed - 1) // tokens)
        for window in self._step.windows:
            most = min(most, pair_growth(computed, tokens, window)[1])
        return self._demand.prompt_steps_within(iteration, self._free, most, (computed, tokens), self._kv)

    def _advance(self) -> None:
        """The segment's steps are done: book them, emit tokens, let go of what has finished."""
        steps, now, iteration = self._steps, self._end, self._iteration
        batch = self._decoding, self._prefill, self._emitting, self._free
        self.journal.write_segment(
            self._start, self._pieces, steps, batch, (self._joined, self._swap.moved), self._lines
        )
        if self._decoding:
            self._free -= self._demand.over(iteration, steps)
        self._iteration = iteration = iteration + steps
        for keys in self._keys:
            keys.advance(iteration, steps)
        finished: list[Sequence] = []
        if self._chunks:
            self._partial = None
            finished = [s for s, tokens in self._chunks if self._prefilled(s, tokens * steps, now)]
        self.journal.book_free(self._free)
        for sequence in finished:
            if not sequence.onward:
                self._free += self._kv.held(sequence.computed)
        finishing = self._finishing
        while finishing and finishing[0][0] <= iteration:
            _, _, epoch, sequence = heappop(finishing)
            if sequence.epoch == epoch:
                self._leave(sequence)
                finished.append(sequence)
        for sequence in finished:
            self._finish(sequence, now)

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
        end = iteration + sequence.output - sequence.generated
        heappush(self._finishing, (end, sequence.id, sequence.epoch, sequence))

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

    def _finishing_at(self) -> int:
        """The iteration after which the next decoding sequence has finished."""
        finishing = self._finishing
        while finishing[0][3].epoch != finishing[0][2]:
            heappop(finishing)
        return finishing[0][0]

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
        tokens = self._batch.max_num_batched_tokens - self._decoding
        if partial is not None:
            chunk = min(partial.target - partial.computed, tokens)
            more = self._wanted(partial, chunk) - kv.held(partial.computed)
            if more > free:
                self._preempt(partial, now)
            else:
                chunks.append((partial, chunk))
                free -= more
                tokens -= chunk
        if self._preempted or (self._running and iteration % self._batch.admission_interval):
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
