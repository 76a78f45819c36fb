"""Requests: when they come and how long they are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.quantity import Known, Rate, Ratio, Seconds, quantity
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]
Think = Annotated[Known, quantity("s", zero=True)]


class LogNormal(Strict):
    """Log-normal lengths: median in tokens, sigma of the logarithm."""

    lognormal: tuple[Ratio, Ratio]
    max: Count | None = None


class Uniform(Strict):
    """Lengths from low to high, all alike."""

    uniform: tuple[Count, Count]


Length = Count | LogNormal | Uniform


class Traffic(Strict):
    """Requests: exactly one of trace, request_rate, concurrency, offline says when they come."""

    trace: str | None = Field(None, description="Name of a packaged trace, or a path (Azure CSV, Mooncake JSONL, CSV).")
    speed: Ratio = Field(Known(1.0), description="Of a trace: 2.0 replays twice as fast.")
    jitter: Seconds | None = Field(None, description="Of a trace with coarse time stamps: spread over this tick.")
    request_rate: Rate | None = Field(None, description="Requests per second of an arrival process.")
    process: Literal["poisson", "gamma", "fixed"] | None = Field(None, description="Arrival process of request_rate.")
    burstiness: Ratio | None = Field(None, description="Shape of gamma arrivals: 1 is Poisson, below 1 burstier.")
    concurrency: Count | None = Field(None, description="Requests in flight in a closed loop.")
    think: Think = Field(Known(0.0), description="Of a closed loop: from an answer to the user's next request.")
    offline: Literal[True] | None = Field(None, description="All requests are there at the start.")
    isl: Length | None = Field(None, description="Input tokens of a request: a number, lognormal or uniform.")
    osl: Length | None = Field(None, description="Output tokens of a request: a number, lognormal or uniform.")
    requests: Count | None = Field(None, description="How many requests; of a trace, the first so many.")
    duration: Seconds | None = Field(None, description="For how long requests come, in the trace's own time.")
    longer: Literal["error", "drop", "truncate"] = Field(
        "error", description="What to do with requests longer than the model's context."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Traffic:
        ways = [w for w in ("trace", "request_rate", "concurrency", "offline") if getattr(self, w) is not None]
        if len(ways) != 1:
            given = " and ".join(ways) or "none of them"
            raise ValueError(f"traffic gives {given}; write one of trace, request_rate, concurrency, offline")
        way = ways[0]
        misplaced = {
            "trace": ("isl", "osl", "process", "burstiness", "think"),
            "request_rate": ("jitter", "speed", "think"),
            "concurrency": ("jitter", "speed", "process", "burstiness", "duration"),
            "offline": ("jitter", "speed", "process", "burstiness", "duration", "think"),
        }[way]
        for field in misplaced:
            if field in self.model_fields_set:
                raise ValueError(f"{field} means nothing beside {way}; remove it")
        if way != "trace":
            if self.isl is None or self.osl is None:
                raise ValueError(f"{way} needs the lengths of requests; write isl: 512 and osl: 128")
            if self.requests is None and self.duration is None:
                raise ValueError(f"{way} needs an end; write requests: 1000")
        if self.process == "gamma" and self.burstiness is None:
            raise ValueError("gamma arrivals need a shape; write burstiness: 0.5")
        if self.burstiness is not None and self.process != "gamma":
            raise ValueError("burstiness belongs to gamma arrivals; write process: gamma")
        return self
