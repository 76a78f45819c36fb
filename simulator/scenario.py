"""A scenario: which models, on which machines, under which traffic. The schema of the YAML that people write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simulator.errors import ScenarioError
from simulator.model.number_format import Precision
from simulator.quantity import Fraction, Known, Rate, Ratio, Seconds, quantity
from simulator.strict import Strict
from simulator.yaml_source import Source, read_yaml, validate

Count = Annotated[int, Field(gt=0)]
Format = Literal[
    "fp32", "bf16", "fp16", "fp8", "int8", "int4", "nvfp4", "mxfp4", "bfp8", "bfp4", "q8_0", "q6_k", "q4_k_m", "q4_0"
]
Think = Annotated[Known, quantity("s", zero=True)]


class PrecisionChoice(Strict):
    """Number formats by tensor class. What is left out follows the checkpoint, else bf16."""

    weights: Format | None = None
    kv: Format | None = None
    experts: Format | None = None
    attention: Format | None = None
    embedding: Format | None = None
    head: Format | None = None

    def over(self, precision: Precision) -> Precision:
        """`precision` with what is chosen here in place of its own."""
        chosen = self.model_dump(exclude_none=True)
        return Precision(**{**vars(precision), **chosen})


class MachineChoice(Strict):
    """A machine of the scenario: a hardware profile, how one replica is laid out on it, and how many replicas."""

    hardware: str = Field(description="Name of a hardware profile, or a path of one.")
    name: str | None = Field(None, description="What results call it; the profile's name when left out.")
    tp: Count | None = Field(None, description="Tensor parallelism; all chips of the machine when left out.")
    pp: Count = Field(1, description="Pipeline parallelism.")
    dp: Count = Field(1, description="Data parallelism of the attention inside a replica.")
    ep: Count = Field(1, description="Expert parallelism.")
    replicas: Count = Field(1, description="Copies of the model behind the router, each on chips of its own.")
    stack: str | None = Field(None, description="Software stack; the profile's default when left out.")
    precision: PrecisionChoice = Field(PrecisionChoice(), description="Overrides the scenario's.")


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


class Limits(Strict):
    """Limits of continuous batching, as vLLM names them."""

    max_num_seqs: Count = 256
    max_num_batched_tokens: Count = 8192
    block_size: Count = 16
    memory_utilization: Fraction = Known(0.9)

    @model_validator(mode="after")
    def _a_token_a_sequence(self) -> Limits:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) is below max_num_seqs ({self.max_num_seqs}); "
                "every running sequence needs a token in each step"
            )
        return self


class SloChoice(Strict):
    """Limits on latency that requests should keep."""

    ttft: Seconds | None = None
    tpot: Seconds | None = None
    e2el: Seconds | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.0

    @model_validator(mode="after")
    def _some_limit(self) -> SloChoice:
        if self.ttft is None and self.tpot is None and self.e2el is None:
            raise ValueError("an slo needs a limit; write ttft: 2 s, tpot: 100 ms or e2el: 30 s")
        return self


class Scenario(Strict):
    """Models x machines under one traffic."""

    task: Literal["serve"] = "serve"
    description: str = ""
    model: str | tuple[str, ...] = Field(description="Names from the zoo or paths of config.json files.")
    machines: tuple[MachineChoice, ...]
    precision: PrecisionChoice = PrecisionChoice()
    traffic: Traffic
    limits: Limits = Limits()
    router: Literal["round_robin", "least_outstanding"] = "least_outstanding"
    slo: str | SloChoice | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _something_to_run(self) -> Scenario:
        if not self.models:
            raise ValueError("model is an empty list; write model: llama-3.1-8b")
        if not self.machines:
            raise ValueError("machines is an empty list; write machines: [{hardware: h100-sxm-8}]")
        twice = [name for name in self.models if self.models.count(name) > 1]
        if twice:
            raise ValueError(f"model names '{twice[0]}' twice; write each model once")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """The models, one or several."""
        return (self.model,) if isinstance(self.model, str) else self.model


def read_scenario(path: Path | str, changes: tuple[str, ...] = ()) -> tuple[Scenario, Source]:
    """Read a scenario, with `--set`-like changes ("limits.max_num_seqs=64", "machines[0].tp=4") on top.

    Raise ScenarioError with everything that is wrong.
    """
    source = read_yaml(Path(path), error=ScenarioError)
    for change in changes:
        source = _changed(source, change)
    scenario: Scenario = validate(Scenario, source, error=ScenarioError)
    return scenario, source


def _changed(source: Source, change: str) -> Source:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ScenarioError(f"--set {change}: not a change; write KEY=VALUE, e.g. --set limits.max_num_seqs=64")
    location: list[Any] = []
    for part in key.strip().replace("[", ".").replace("]", "").split("."):
        location.append(int(part) if part.isdigit() else part)
    return source.replaced(tuple(location), value, f"--set {change}", ScenarioError)
