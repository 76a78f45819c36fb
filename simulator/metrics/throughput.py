"""Work done per second, over the makespan: from the first arrival to the last finish."""

from __future__ import annotations

import numpy as np

from simulator.engine.records import RequestRecords
from simulator.metrics.slo import Slo


def makespan_s(requests: RequestRecords) -> float | None:
    """First arrival to last finish, s; None when nothing finished."""
    done = requests.completed
    if not done.any():
        return None
    return float(requests.finish_s[done].max() - np.nanmin(requests.arrival_s))


def throughput(requests: RequestRecords) -> dict[str, float | None]:
    """makespan_s; request_throughput (req/s), output_throughput and total_token_throughput (tokens/s).

    All of finished requests; None when nothing finished.
    """
    done, span = requests.completed, makespan_s(requests)
    outputs = int(requests.output_tokens[done].sum())
    inputs = int(requests.input_tokens[done].sum())
    return {
        "makespan_s": span,
        "request_throughput": _rate(int(done.sum()), span),
        "output_throughput": _rate(outputs, span),
        "total_token_throughput": _rate(inputs + outputs, span),
    }


def goodput(requests: RequestRecords, slo: Slo | None) -> dict[str, float | None]:
    """request_goodput: finished requests per second that met every limit; slo_attainment: their share of all requests.

    None without an SLO.
    """
    if slo is None or not len(requests):
        return {"request_goodput": None, "slo_attainment": None}
    met = int(slo.met(requests).sum())
    span = makespan_s(requests)
    return {
        "request_goodput": 0.0 if span is None else _rate(met, span),
        "slo_attainment": met / len(requests),
    }


def most_waiting(requests: RequestRecords) -> int:
    """The largest number of requests that waited for their first step at one time."""
    times = np.concatenate([requests.arrival_s, requests.scheduled_s])
    change = np.repeat([1, -1], len(requests))
    order = np.lexsort((change, times))  # at one instant those who leave go first
    return int(np.cumsum(change[order]).max(initial=0))


def _rate(count: int, span: float | None) -> float | None:
    return count / span if span else None
