"""What a run leaves behind: flat columns, an entry a request, a segment or a sample. Metrics are functions of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.cost.ticks import SECONDS_PER_TICK


@dataclass(frozen=True)
class RequestRecords:
    """One entry a request, in order of arrival. Times in seconds since the run began; NaN where it never happened."""

    arrival_s: np.ndarray
    scheduled_s: np.ndarray  # first time any of its tokens entered a step
    first_token_s: np.ndarray
    finish_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    preemptions: np.ndarray
    replica: np.ndarray

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def completed(self) -> np.ndarray:
        """Mask of requests that ran to their last token."""
        return np.asarray(np.isfinite(self.finish_s))


@dataclass(frozen=True)
class SegmentRecords:
    """One entry a segment: `steps` steps with an unchanged batch, whose durations grow evenly.

    keys[i, w]: keys read by decoding sequences, window w, summed over the segment's steps; pairs[i, w]: query-key
    pairs of prompt chunks, likewise.
    """

    replica: np.ndarray
    start_s: np.ndarray
    steps: np.ndarray
    decoding: np.ndarray
    prefill_tokens: np.ndarray  # in each step
    outputs: np.ndarray  # sequences that emit a token, in each step
    free_blocks: np.ndarray  # when the segment began
    joined: np.ndarray  # decoding ones whose gap in the first (and only) step is among the late ones
    swapped_blocks: np.ndarray  # moved to another memory and back, in the first (and only) step
    first_ticks: np.ndarray  # duration of the first step
    increment_ticks: np.ndarray  # from step to step
    keys: np.ndarray
    pairs: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """How long each segment lasted. In floats: 64 bits of ticks are 8,192 s, and a segment may last longer."""
        middle = self.steps * (self.steps - 1) // 2
        first_s, increment_s = self.first_ticks * SECONDS_PER_TICK, self.increment_ticks * SECONDS_PER_TICK
        return np.asarray(self.steps * first_s + middle * increment_s)

    @property
    def end_s(self) -> np.ndarray:
        """When each segment ended."""
        return np.asarray(self.start_s + self.seconds)

    def where(self, mask: np.ndarray) -> SegmentRecords:
        """Some of the segments."""
        return SegmentRecords(*(column[mask] for column in vars(self).values()))

    def step_seconds(self) -> np.ndarray:
        """Duration of every step of every segment, one after the other."""
        ahead = np.arange(self.steps.sum()) - np.repeat(np.cumsum(self.steps) - self.steps, self.steps)
        ticks = np.repeat(self.first_ticks, self.steps) + np.repeat(self.increment_ticks, self.steps) * ahead
        return np.asarray(ticks * SECONDS_PER_TICK)


@dataclass(frozen=True)
class TokenGaps:
    """Inter-token latencies as runs: `seconds[i]` was the gap of `count[i]` consecutive-token pairs.

    In runs of more than five million steps `seconds[i]` is the mean of a class of gaps (engine/gaps.py): percentiles
    are then within 1e-4 of theirs.
    """

    seconds: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Samples:
    """State at evenly spaced times, replica after replica."""

    time_s: np.ndarray
    replica: np.ndarray
    waiting: np.ndarray
    running: np.ndarray
    kv_used: np.ndarray  # fraction of the KV blocks


class Segment(NamedTuple):
    """A stretch of steps with an unchanged batch, for the timeline."""

    replica: int
    start_s: float
    end_s: float
    steps: int
    decoding: int
    prefill_tokens: int


@dataclass(frozen=True)
class TransferRecords:
    """One entry a request where prompts and decoding have pools of their own: which of the prefill replicas (the first
    `replicas` of the run), and when the prompt was done, its cache began to move, and was there (s; NaN: it never did).
    """

    replica: np.ndarray
    prefilled_s: np.ndarray
    sent_s: np.ndarray
    arrived_s: np.ndarray
    replicas: int


@dataclass(frozen=True)
class RunRecords:
    """Everything that the engine knows after a run."""

    requests: RequestRecords
    steps: SegmentRecords
    gaps: TokenGaps
    samples: Samples
    segments: tuple[Segment, ...]
    end_s: float  # when the last request finished (never the clock's last event)
    events: int
    replicas: int
    kv_blocks: int  # of one replica; of one that decodes
    kv_used_max: float  # fraction
    windows: tuple[int | None, ...]
    transfers: TransferRecords | None = None
