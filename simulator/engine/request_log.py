"""The times of every request, written by the replicas while they run."""

from __future__ import annotations

from array import array
from math import nan

from simulator.cost.ticks import SECONDS_PER_TICK


class RequestLog:
    """Columns by request number; times in seconds, NaN until they happen."""

    def __init__(self, requests: int) -> None:
        self.arrival_s = array("d", [nan]) * requests
        self.scheduled_s = array("d", [nan]) * requests
        self.first_token_s = array("d", [nan]) * requests
        self.finish_s = array("d", [nan]) * requests
        self.preemptions = array("i", [0]) * requests
        self.replica = array("i", [-1]) * requests
        self.finished = 0

    def finish(self, request: int, now: int) -> None:
        """Its last token came at `now` (ticks)."""
        self.finish_s[request] = now * SECONDS_PER_TICK
        self.finished += 1


class MovedLog:
    """The same of caches that move: from which of the `replicas` that prefill, and when."""

    def __init__(self, requests: int, replicas: int) -> None:
        self.replicas = replicas
        self.replica = array("i", [-1]) * requests
        self.prefilled_s = array("d", [nan]) * requests
        self.sent_s = array("d", [nan]) * requests
        self.arrived_s = array("d", [nan]) * requests
