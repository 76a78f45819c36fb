"""One replica of a model under continuous batching, with fast-forward.

Who takes part in a step is decided in members.py. Between two changes of the batch nothing needs deciding, so a run of
n steps is summed in closed form and slept in one event. Time is in whole ticks, so the sum is the stepped one to the
bit (`engine/exact.py` is the proof). An arrival that could join cuts the run at the end of the step in which it falls.
"""

from __future__ import annotations

from collections.abc import Callable

from simpy.events import Event

from simulator.cost.piece import Line, Piece, first_apart, in_progress
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, BOUNDARY, Clock
from simulator.engine.context import pair_growth, pair_lines
from simulator.engine.kv_cache import KvLimits
from simulator.engine.members import Chunk, Members
from simulator.engine.request_log import RequestLog
from simulator.engine.sequence import Sequence
from simulator.engine.sharing import Sharing


class Replica(Members):
    """One replica: one armed event."""

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
        super().__init__(number, step.windows, batch, kv, log, on_finish)
        self._clock, self._step = clock, step
        self._table = step.at(self, 0) if step.alone else None  # the same at all times
        self._bending = [keys for keys in self._keys if keys.window is not None]
        self._no_pairs: list[Line] = [(0, 0)] * len(step.windows)
        self._joined = 0  # decoding sequences whose first step of decoding, or after a pause, begins the segment
        self._paused: list[tuple[int, int]] = []  # last token and number of those that wait for steps of prompts
        self._idle, self._working = True, False  # woken and not yet stepping: neither
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
        if self._joinable and len(self._waiting) >= self._batch.admission_least:
            self._joinable = False
            if self._fits(self._waiting[0]):
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
            pause = self._pauses(chunks)
            emitting = decoding = tokens = 0 if pause else self._decoding
            if not chunks and not decoding:
                self._idle, self._working = True, False
                self._step.rest(self, now)
                return
            lines = self._no_pairs if pause else [(known.total, known.growing) for known in self._keys]
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
            if not chunks or emitting > decoding or self._table is None or self._batch.admission_delay or pause:
                break
            after = self._after_stretch(steps)
            if after is None:
                break
            self._advance()
            now = end
            revisit = end if after else -1
        if self._paused and not pause:
            self._join_late(self._paused)
            self._paused = []
        few = len(self._waiting) < self._batch.admission_least
        self._joinable = steps > 1 and not chunks and few and len(self._running) < self._seats
        self._revisit, self._working = revisit, True
        self._armed = self._clock.at(end, self._boundary, BOUNDARY + self.number)

    def _join_late(self, groups: list[tuple[int, int]]) -> None:
        """Of each (last token, number of sequences), the next gap ends with the first step of the segment that begins,
        which stands alone in the journal."""
        self._joined += sum(count for _, count in groups)
        if groups:
            self._pieces = first_apart(self._pieces)
            end = self._start + self._pieces[0][1]
            for last, count in groups:
                self.journal.late_gap((end - last) * SECONDS_PER_TICK, count)

    def _after_stretch(self, steps: int) -> bool | None:
        """Whether who arrives during this stretch of a prompt may join the step after it; None: no telling before."""
        if self._decoding and self._finishing.next() <= self._iteration + steps:
            return None
        sequence, chunk = self._chunks[0]
        if sequence.target - sequence.computed - steps * chunk >= chunk:
            return False  # again the prompt takes all tokens
        return None if self._waiting else True

    def _unchanged_steps(self, chunks: list[Chunk]) -> int:
        """Steps for which the batch stays as it is, if nothing arrives; of one chunk at most, which is not the last."""
        iteration, most = self._iteration, 1 << 30
        if self._decoding and not self._pauses(chunks):
            most = self._finishing.next() - iteration
            for keys in self._bending:
                if keys.growing:
                    most = min(most, keys.next_change() - iteration)
        if not chunks:
            interval, enough = self._batch.admission_interval, len(self._waiting) >= self._batch.admission_least
            waits = interval > 1 or iteration == self._prompted
            if waits and enough and len(self._running) < self._seats and self._fits(self._waiting[0]):
                most = min(most, interval - iteration % interval)
            return self._demand.steps_within(iteration, self._free, most)
        # A long prompt that takes all tokens of every step: until its last chunk only a finishing sequence changes the
        # batch, provided that the blocks last.
        sequence, tokens = chunks[0]
        if tokens < self._prompt_tokens():
            return 1
        computed = sequence.computed
        most = min(most, (sequence.target - computed - 1) // tokens)
        for window in self._step.windows:
            most = min(most, pair_growth(computed, tokens, window)[1])
        return self._demand.prompt_steps_within(iteration, self._free, most, (computed, tokens), self._kv)

    def _advance(self) -> None:
        """The segment's steps are done: book them, emit tokens, let go of what has finished."""
        steps, now, iteration = self._steps, self._end, self._iteration
        pause = self._pauses(self._chunks)
        decoded = 0 if pause else steps
        batch = 0 if pause else self._decoding, self._prefill, self._emitting, self._free
        self.journal.write_segment(
            self._start, self._pieces, steps, batch, (self._joined, self._swap.moved), self._lines
        )
        self._joined = 0
        if pause:
            self._prompted = iteration
            since = self._decoding - sum(count for _, count in self._paused)
            self._paused += [(self._start, since)] if since else []
        elif self._decoding:
            self._free -= self._demand.over(iteration, steps)
        self._iteration = iteration = iteration + decoded
        for keys in self._keys:
            keys.advance(iteration, decoded)
        finished: list[Sequence] = []
        if self._chunks:
            self._partial = None
            finished = [s for s, tokens in self._chunks if self._prefilled(s, tokens * steps, now)]
        self.journal.book_free(self._free)
        for sequence in finished:
            if not sequence.onward:
                self._free += self._kv.held(sequence.computed)
        for sequence in self._finishing.until(iteration):
            self._leave(sequence)
            finished.append(sequence)
        for sequence in finished:
            self._finish(sequence, now)
