"""Service-level objectives: limits on latency, those of MLPerf by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.engine.records import RequestRecords
from simulator.errors import ScenarioError, Where, unknown
from simulator.metrics.latency import e2el_s, tpot_s, ttft_s


@dataclass(frozen=True)
class Slo:
    """Limits in s, None where there is none. `percentile` percent of the requests must meet each (`kept`)."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None
    percentile: float = 99.0
    name: str | None = None
    source: str | None = None

    def summary(self) -> dict[str, float | str]:
        """What is set, as a result shows it: name, {ttft,tpot,e2el}_ms, percentile."""
        limits = {"ttft_ms": self.ttft_s, "tpot_ms": self.tpot_s, "e2el_ms": self.e2el_s}
        return {
            **({"name": self.name} if self.name else {}),
            **{key: limit * 1e3 for key, limit in limits.items() if limit is not None},
            "percentile": self.percentile,
        }

    def met(self, requests: RequestRecords) -> np.ndarray:
        """[n] bool: the request finished and kept every limit. One output token keeps any tpot."""
        met = requests.completed.copy()
        for limit, seconds in self._limits(requests):
            # NaN, a latency that a finished request does not have, is above no limit.
            met &= ~(seconds > limit)
        return met

    def kept(self, requests: RequestRecords) -> bool:
        """Whether the percentile of every limited latency is within its limit, as MLPerf judges: each on its own.

        False when a request did not finish.
        """
        return self.excess(requests) <= 0.0

    def excess(self, requests: RequestRecords) -> float:
        """The largest of log(percentile of a latency / its limit): at most 0 where the limits are kept; inf when a
        request did not finish."""
        if not len(requests) or not requests.completed.all():
            return float("inf")
        known = [(limit, seconds[np.isfinite(seconds)]) for limit, seconds in self._limits(requests)]
        percentiles = [(limit, np.percentile(seconds, self.percentile)) for limit, seconds in known if len(seconds)]
        return max((float(np.log(value / limit)) for limit, value in percentiles if value > 0), default=float("-inf"))

    def _limits(self, requests: RequestRecords) -> list[tuple[float, np.ndarray]]:
        pairs = ((self.ttft_s, ttft_s), (self.tpot_s, tpot_s), (self.e2el_s, e2el_s))
        return [(limit, latency(requests)) for limit, latency in pairs if limit is not None]


_MLPERF = {
    "llama2-70b-server": (2000, 200),
    "llama2-70b-interactive": (450, 40),
    "mixtral-8x7b-server": (2000, 200),
    "llama3.1-405b-server": (6000, 175),
    "llama3.1-405b-interactive": (4500, 80),
    "llama3.1-8b-server": (2000, 100),
    "llama3.1-8b-interactive": (500, 30),
    "deepseek-r1-server": (2000, 80),
    "deepseek-r1-interactive": (1500, 15),
    "gpt-oss-120b-server": (3000, 80),
    "gpt-oss-120b-interactive": (2000, 15),
}
"""TTFT and TPOT limits of the Server scenario, ms, both at the 99th percentile."""

PRESETS = {
    f"mlperf/{name}": Slo(
        ttft_s=ttft_ms / 1e3,
        tpot_s=tpot_ms / 1e3,
        percentile=99.0,
        name=f"mlperf/{name}",
        source="mlcommons/inference, loadgen/mlperf.conf at b66003e1, 2026-08-20",
    )
    for name, (ttft_ms, tpot_ms) in _MLPERF.items()
}


def preset(name: str, where: Where | None = None) -> Slo:
    """The SLO of that name. Raises ScenarioError with the nearest name that exists."""
    if name not in PRESETS:
        raise ScenarioError(unknown("SLO", name, PRESETS, where))
    return PRESETS[name]
