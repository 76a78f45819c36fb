"""The times of every request, written by the replicas while they run."""

from __future__ import annotations

from array import array
from math import nan


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
