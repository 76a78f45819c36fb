"""The oracle: the same scheduling rules, one event an iteration, every sequence looked at in every step.

It shares no shortcut with `engine/replica.py`: sums are taken afresh, blocks are counted sequence by sequence. It is
slow and plain on purpose; tests demand that both leave the same times to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

from simulator.cost.piece import Line
from simulator.cost.ticks import SECONDS_PER_TICK
from simulator.engine.batching import BatchLimits
from simulator.engine.clock import ARRIVAL, BOUNDARY, Clock
from simulator.engine.journal import Journal
from simulator.engine.kv_cache import KvLimits, SwapSpace
from simulator.engine.request_log import RequestLog
from simulator.engine.sequence import Sequence
from simulator.engine.sharing import Sharing


class ExactReplica:
    """A replica that steps. `computed` counts cached tokens in prefill and in decode alike."""

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
        self._batch, self._kv, self._swap = batch, kv, SwapSpace(kv.swap)
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._decoding: list[Sequence] = []
        self._holding: list[Sequence] = []  # blocks, and take part in no step: their caches move
        self._joined: list[Sequence] = []  # decode for the first time, or after a pause
        self._busy = self._working = False
        self._paused = False  # decoding waits for the prompts of the step
        self._prompted = -1  # the iteration in which it last did
        self._iteration = 0
        self._plan: list[tuple[Sequence, int]] = []
        self._start = 0
        self._ticks = 0

    def arrive(self, sequence: Sequence, now: int) -> bool:
        """As `Replica.arrive`."""
        self.outstanding += 1
        self._log.replica[sequence.id] = self.number
        if self._batch.admission_delay and self._working:
            seen = now + round(self._batch.admission_delay * self._ticks)
            self._clock.at(seen, lambda _event: self._see(sequence, seen), ARRIVAL)
            return False
        self._waiting.append(sequence)
        idle, self._busy = not self._busy, True
        return idle

    def _see(self, sequence: Sequence, now: int) -> None:
        self._waiting.append(sequence)
        if not self._busy:
            self._busy = True
            self._clock.at(now, lambda _event: self.wake(now), BOUNDARY + self.number)

    def wake(self, now: int) -> None:
        """As `Replica.wake`."""
        self._step.work(self, now)
        self._begin(now)

    def reconsider(self, now: int) -> None:
        """Every step asks anew."""

    def _free(self) -> int:
        return self._kv.blocks - sum(self._kv.held(s.computed) for s in self._running + self._holding)

    def _wanted(self, sequence: Sequence, chunk: int) -> int:
        return self._kv.held(sequence.computed + chunk)

    def _promised(self) -> list[Sequence]:
        """Those for which the cache keeps room to their end, where whole requests are admitted."""
        return self._running

    def _whole_fits(self, sequence: Sequence) -> bool:
        together = [*self._promised(), sequence]
        return not self._batch.whole or sum(self._kv.held(s.prompt + s.output) for s in together) <= self._kv.blocks

    def _admit_others(self, free: int, preempted: bool, now: int) -> None:
        """Those that take blocks and no part in the step."""

    def _seated(self) -> int:
        return len(self._running)

    def _preempt(self, now: int) -> None:
        victim, kept = self._running.pop(), 0
        if victim in self._decoding:
            kept = victim.computed if self._swap.take(self._kv.held(victim.computed)) else 0
            self._decoding.remove(victim)
            if victim in self._joined:
                self._joined.remove(victim)
            else:
                victim.last_token = now
        victim.recompute(kept)
        self._log.preemptions[victim.id] += 1
        self._waiting.insert(0, victim)

    def _step_of(self, now: int) -> list[tuple[Sequence, int]]:
        """Who takes part in the next step, with how many tokens."""
        held, limits = self._kv.held, self._batch
        self._swap.moved = 0
        plan: list[tuple[Sequence, int]] = []
        tokens = limits.max_num_batched_tokens
        free = self._free()
        preempted = False
        place = 0
        while place < len(self._running):
            sequence = self._running[place]
            chunk = min(max(1, sequence.target - sequence.computed), tokens)
            more = self._wanted(sequence, chunk) - held(sequence.computed)
            while more > free and sequence in self._running:
                preempted = True
                free += held(self._running[-1].computed)
                self._preempt(now)
            if sequence in self._running:
                plan.append((sequence, chunk))
                free -= more
                tokens -= chunk if limits.chunked_prefill or sequence not in self._decoding else 0
                place += 1
        due = self._iteration % limits.admission_interval == 0 and len(self._waiting) >= limits.admission_least
        due = due and self._iteration != self._prompted
        looks = not preempted and (due or not self._running)
        while looks and self._waiting and tokens > 0 and self._seated() < limits.max_num_seqs:
            sequence = self._waiting[0]
            chunk = min(sequence.target - sequence.computed, tokens)
            if self._wanted(sequence, chunk) > free or not self._whole_fits(sequence):
                break
            self._running.append(self._waiting.pop(0))
            if sequence.generated:
                self._swap.give_back(held(sequence.computed))
            if self._log.scheduled_s[sequence.id] != self._log.scheduled_s[sequence.id]:
                self._log.scheduled_s[sequence.id] = now * SECONDS_PER_TICK
            plan.append((sequence, chunk))
            free -= self._wanted(sequence, chunk)
            tokens -= chunk
        self._admit_others(free, preempted, now)
        prompts = [(sequence, chunk) for sequence, chunk in plan if sequence not in self._decoding]
        self._paused = bool(prompts) and not limits.chunked_prefill
        if not self._paused:
            return plan
        self._prompted = self._iteration
        for sequence in self._decoding:
            if sequence not in self._joined:
                sequence.last_token = now
                self._joined.append(sequence)
        return prompts

    def _begin(self, now: int) -> None:
        plan = self._step_of(now)
        if not plan:
            self._busy = self._working = False
            self._step.rest(self, now)
            return
        self._plan, self._start, self._working = plan, now, True
        counts, keys, pairs = self._compose()
        decoding, prefill, outputs, _ = counts
        lines: list[list[Line]] = [[(number, 0) for number in numbers] for numbers in (keys, pairs)]
        pieces = self._step.at(self, now).pieces(
            decoding + prefill, outputs, lines[0], lines[1] if prefill else None, 1, self._swap.moved
        )
        self._ticks = pieces[0][1]
        joined = [] if self._paused else self._joined
        row = (1, *counts, len(joined), self._swap.moved, self._ticks, 0, *keys, *pairs)
        end = now + self._ticks
        for sequence in joined:
            self.journal.late_gap((end - sequence.last_token) * SECONDS_PER_TICK)
        self._joined = self._joined if self._paused else []
        self._clock.at(end, lambda _event: self._end(end, row), BOUNDARY + self.number)

    def _compose(self) -> tuple[tuple[int, ...], list[int], list[int]]:
        """Counts (decoding, prefill tokens, outputs, free blocks), keys and pairs: sums over the step's sequences."""
        decoders = [s for s, _ in self._plan if s in self._decoding]
        chunks = [(s, chunk) for s, chunk in self._plan if s not in self._decoding]
        outputs = sum(1 for s, chunk in self._plan if s.computed + chunk >= s.target)
        windows = [1 << 60 if window is None else window for window in self._step.windows]
        keys = [sum(min(s.computed + 1, window) for s in decoders) for window in windows]
        pairs = [
            sum(min(s.computed + j, window) for s, chunk in chunks for j in range(1, chunk + 1)) for window in windows
        ]
        return (len(decoders), sum(chunk for _, chunk in chunks), outputs, self._free()), keys, pairs

    def _end(self, now: int, row: tuple[int, ...]) -> None:
        self.journal.write(self._start * SECONDS_PER_TICK, row)
        self._iteration += not self._paused
        prefilled: list[Sequence] = []
        for sequence, chunk in self._plan:
            sequence.computed += chunk
            if sequence.computed < sequence.target:
                continue
            if sequence in self._decoding:
                sequence.generated += 1
                continue
            if sequence.generated == 0:
                self._log.first_token_s[sequence.id] = now * SECONDS_PER_TICK
            else:
                self.journal.late_gap((now - sequence.last_token) * SECONDS_PER_TICK)
            sequence.generated += 1
            prefilled.append(sequence)
        self.journal.book_free(self._free())
        finished = [s for s in prefilled if s.generated == s.output]
        finished += sorted((s for s in self._decoding if s.generated == s.output), key=lambda s: s.id)
        self._decoding += [s for s in prefilled if s not in finished]
        for sequence in finished:
            if sequence in self._decoding:
                self._decoding.remove(sequence)
            self._running.remove(sequence)
        self._holding += [s for s in finished if s.onward]
        for sequence in finished:
            self.outstanding -= 1
            self._on_finish(sequence, now)
        self._begin(now)
