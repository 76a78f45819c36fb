"""Studies: a scenario, and what varies in it. The schema of the YAML that people write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from simulator.errors import Problem, ScenarioError, Where
from simulator.hardware.catalogue import packaged_folder
from simulator.hardware.grid_carbon import grid_carbon
from simulator.quantity import Known, Ratio, Seconds, Watts, quantity
from simulator.report.plain import plain
from simulator.scenario import LinkChoice, PrecisionChoice, find_scenario
from simulator.strict import Strict
from simulator.study.axes import Ends, Values
from simulator.study.equal_loss import EqualLoss
from simulator.yaml_source import Source, as_yaml, parse_yaml, read_yaml, validate

MEANS = ("output_throughput", "ttft_mean_ms", "tpot_mean_ms", "energy_per_output_token_j", "cost_per_mtok_usd")
TAILS = ("output_throughput", "ttft_p99_ms", "tpot_p50_ms", "energy_per_output_token_j", "cost_per_mtok_usd")
"""Metrics of a study of serving that names none: of steady states, and of events."""

Column = Annotated[tuple[Any, ...], Field(min_length=1)]


class Common(Strict):
    """What every study says: which scenario it changes, and how points are evaluated."""

    description: str = ""
    scenario: str = Field(description="A scenario file beside the study, or the name of a packaged one.")
    evaluate: Literal["events", "steady"] = Field(
        "events",
        description="Every point as a run of the event engine, or its steady state in closed form. Of serving: "
        "training and samples are run.",
    )
    samples: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="Draws of all numbers with ranges (efficiencies, prices), the same for machines that share them."
    )
    at_equal_loss: EqualLoss | None = Field(
        None, description="Resizes one dimension of each model until all are predicted to have the same loss."
    )
    derived: dict[str, str] = Field(
        default_factory=dict, description="New column -> arithmetic on columns: output_throughput / average_power_w."
    )


class Study(Common):
    """Which keys of a scenario vary, and what is asked of the runs."""

    study: Literal["sweep"] = "sweep"
    axes: dict[str, Values] = Field(
        default_factory=dict, description="Key of the scenario -> its values; all combinations."
    )
    together: tuple[dict[str, Column], ...] = Field((), description="Groups of keys whose values go side by side.")
    beside: dict[str, str] = Field(
        default_factory=dict,
        description="Name -> another study, whose row of the same model stands beside each row, as columns NAME_...",
    )
    given: dict[str, Values] = Field(
        default_factory=dict, description="Numbers that formulas alone use; all combinations, for every row."
    )
    replications: Annotated[int, Field(gt=0, le=10_000)] = Field(
        1, description="Runs of each point with the seeds seed, seed + 1, ...: the same ones for every point."
    )
    keep: str | None = Field(None, description="Condition on columns; only rows that meet it are shown and plotted.")
    metrics: tuple[str, ...] | None = Field(None, description="Columns of the table and plots; the files hold all.")

    @model_validator(mode="after")
    def _something_varies(self) -> Study:
        keys = [*self.given, *self.axes, *(key for group in self.together for key in group)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice:
            raise ValueError(f"{twice} varies twice; write it in one place")
        for group in self.together:
            if len({len(column) for column in group.values()}) > 1:
                lengths = ", ".join(f"{key} {len(column)}" for key, column in group.items())
                raise ValueError(f"columns that go together are equally long, not {lengths}")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        """The metrics of the table and of the plots."""
        if self.metrics is not None:
            return self.metrics
        return MEANS if self.evaluate == "steady" else TAILS


class Confirm(Strict):
    """Places along the borders of a map at which the event engine is asked too; a number alone says how many."""

    points: Annotated[int, Field(gt=0, le=1000)] = Field(description="Places, far from each other.")
    replications: Annotated[int, Field(gt=1, le=100)] = Field(3, description="Seeds of each run.")
    requests: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Requests of each run; the scenario's when left out. A few are no steady state."
    )

    @model_validator(mode="before")
    @classmethod
    def _number(cls, written: Any) -> Any:
        return {"points": written} if isinstance(written, int) else written


class Crossover(Common):
    """Who wins over two axes: every model on every machine of the scenario is a contender."""

    study: Literal["crossover"]
    axes: dict[str, Ends] = Field(
        min_length=2, max_length=2, description="Two keys of the scenario, each a range or a log range."
    )
    metric: str = Field("cost_per_mtok_usd", description="What decides.")
    within: str | None = Field(
        None, description="Condition on columns that a contender must meet to count: tpot_mean_ms <= 50."
    )
    grid: Annotated[int, Field(gt=1, le=257)] = Field(9, description="Points on each axis to begin with.")
    refine: Annotated[int, Field(ge=0, le=8)] = Field(3, description="How often cells with two winners are halved.")
    evaluate: Literal["events", "steady"] = "steady"
    confirm: Confirm | None = Field(None, description="Asks the event engine along the borders: 8, or a block.")

    @model_validator(mode="after")
    def _asked_once(self) -> Crossover:
        if self.confirm is not None and self.evaluate == "events":
            raise ValueError("evaluate: events asks the event engine everywhere; leave out confirm")
        return self

    @property
    def shown(self) -> tuple[str, ...]:
        """The column that decides."""
        return (self.metric,)


MOST_TARGET = 1.0 - 1e-9
"""No number of spares is enough for all of the time."""


class Availability(Strict):
    """Spare nodes, so that enough of them are up: each is down for the share repair / (repair + time to failure)."""

    target: Annotated[Known, quantity("", most=MOST_TARGET, example="0.999")] = Field(
        description="Share of the time in which the fleet is large enough, e.g. 0.999."
    )
    chip_hours: Seconds = Field(
        Known(57_500 * 3600.0, source="50-65 k GPU-hours between interruptions: Llama 3 and OPT training records"),
        description="Time of one chip between failures of its node.",
    )
    repair: Seconds = Field(Known(24 * 3600.0, label="estimated"), description="Until a failed node is back.")
    maintenance: Annotated[int, Field(ge=0)] = Field(0, description="Nodes that are always away for maintenance.")


Degree = Annotated[int, Field(gt=0, le=1_000_000)]
Weight = Annotated[float, Field(gt=0, le=1e6)]


class Layout(Strict):
    """How a replica is laid out on chips."""

    tp: Degree = 1
    pp: Degree = 1
    dp: Degree = 1
    ep: Degree = 1


Goal = Literal["cost", "energy", "chips", "carbon"]


class Plan(Common):
    """The best fleet for the scenario's traffic within its SLO."""

    study: Literal["plan"]
    machines: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto"] = Field(
        "auto", description="Hardware profiles; auto: all of them."
    )
    tp: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)] | Literal["auto"] = Field(
        "auto",
        description="auto: 1, 2, 4 ... chips of a node; experts cut and spread; several nodes for a large model.",
    )
    layouts: tuple[Layout, ...] = Field((), description="Layouts in the place of tp: [{tp: 8, pp: 2}, {dp: 8, ep: 8}].")
    stacks: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["default", "auto"] = Field(
        "default", description="Software; default: each profile's. auto: all that have numbers of the chip."
    )
    precision: tuple[PrecisionChoice, ...] = Field((PrecisionChoice(),), min_length=1)
    max_num_seqs: tuple[Annotated[int, Field(gt=0)], ...] = Field((32, 128, 512), min_length=1)
    max_num_batched_tokens: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="Tokens of a step, and so the chunks of prompts; the scenario's when left out."
    )
    placement: Literal["main", "auto"] = Field(
        "main", description="auto: beside all in the main memory, the hottest bytes nearest where there are more tiers."
    )
    pools: bool = Field(
        True,
        description="Beside machines that do both: one kind for the prompts, one (or the same) for the answers.",
    )
    link: LinkChoice | None = Field(
        None, description="Moves KV caches between them; left out: the `scale_out` of machines that have one."
    )
    mixed: bool = Field(
        True, description="Beside fleets of one kind: one for the base load, another for what exceeds it."
    )
    objective: Goal | Annotated[dict[Goal, Weight], Field(min_length=1)] = Field(
        "cost",
        description="USD, joules, chips, or CO2e of the electricity (machines left out): the least wins. Or weights of "
        "several, each in multiples of the least that any candidate takes: {cost: 0.7, energy: 0.3}.",
    )
    slo_by: Literal["goodput", "percentiles"] = Field(
        "goodput",
        description="goodput: the SLO's share of requests keeps all limits. percentiles: each latency's percentile "
        "keeps its own, as MLPerf judges (50, 90 or 99).",
    )
    grid: str = Field("world-2023", description="Whose electricity: world-2023, us-2023, france-2023 ...")
    carbon_intensity: Annotated[Known, quantity("kg/J", zero=True)] | None = Field(
        None, description="CO2e of the electricity, in the grid's place: 0.4 kg/kWh."
    )
    growth: Ratio = Field(Known(1.0), description="Factor on the traffic.")
    day: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (), description="Load of each hour of a day, relative; the traffic is its mean, the fleet is made for its peak."
    )
    headroom: Ratio = Field(Known(1.0), description="Factor on the peak that the fleet must hold.")
    standby: Literal["on", "off"] = Field(
        "on", description="Machines that an hour does not need: on they draw idle power; off none, and cost no rent."
    )
    availability: Availability | None = None
    spares: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="Spare nodes of each kind (N + k), where no availability says how many."
    )
    power: Watts | None = Field(None, description="Most that the site can draw.")
    rack_power: Watts | None = Field(None, description="Most that a rack can draw: how many nodes fit in one.")
    racks: Annotated[int, Field(gt=0)] | None = Field(None, description="Most racks.")
    nodes: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict, description="Most nodes, by profile.")
    verify: Annotated[int, Field(gt=0, le=50)] = Field(4, description="How many are simulated by events at once.")
    replications: Annotated[int, Field(gt=0, le=100)] = Field(1, description="Seeds that all must keep the SLO.")

    @model_validator(mode="after")
    def _decides(self) -> Plan:
        if "carbon" in self.goals and self.carbon_intensity == 0.0:
            raise ValueError("electricity without CO2e makes all fleets equal; write carbon_intensity: 0.4 kg/kWh")
        if self.headroom < 1.0:
            raise ValueError("a fleet below its peak does not carry the traffic; write headroom: 1.2, or a growth")
        if self.layouts and self.tp != "auto":
            raise ValueError("layouts say tp themselves; write tp in each of them and not beside them")
        if self.availability is not None and self.spares:
            raise ValueError("availability says how many spares there are; write one of the two")
        if self.racks is not None and self.rack_power is None:
            raise ValueError("racks hold as many nodes as they can feed; write rack_power: 40 kW")
        if self.day and not any(self.day):
            raise ValueError("the day has no load in any hour; write day: [1, 2, 4, 2]")
        for field in ("evaluate", "derived", "samples"):
            if field in self.model_fields_set:
                raise ValueError(f"{field} means nothing in a plan; remove it")
        return self

    @property
    def goals(self) -> dict[Goal, float]:
        """What is made small -> its weight."""
        return {self.objective: 1.0} if isinstance(self.objective, str) else dict(self.objective)

    def intensity(self, where: Where | None = None) -> Known:
        """kg of CO2e a joule. Raise ProfileError for a grid that nobody knows."""
        return self.carbon_intensity if self.carbon_intensity is not None else grid_carbon().of(self.grid, where)


KINDS: dict[str, type[Common]] = {"sweep": Study, "crossover": Crossover, "plan": Plan}
"""What a study's `study:` says, which is also its command."""

S = TypeVar("S", bound=Common)


def read_study(path: Path | Mapping[str, Any], kind: type[S]) -> tuple[S, Source, Path]:
    """The study, where it was read, and the file of its scenario. What would stand in a file may be given itself; its
    scenario then lies in the folder that the program runs in. Raise ScenarioError with everything that is wrong."""
    if isinstance(path, Mapping):
        named = next(name for name, each in KINDS.items() if each is kind)
        source = parse_yaml(as_yaml({"study": named, **plain(path)}), named, ScenarioError)
    else:
        source = read_yaml(path, error=ScenarioError)
    if isinstance(source.data, dict) and "scenario" not in source.data and {"model", "machines"} & set(source.data):
        mend = f"run it: ramwise run {source.path}"
        raise ScenarioError(Problem("this is a scenario and no study", source.where(), mend))
    written = _kind(source)
    if written in KINDS and KINDS[written] is not kind:
        raise ScenarioError(
            Problem(f"this is a {written}", source.where(("study",)), f"ramwise {written} {Path(source.path).name}")
        )
    study: S = validate(kind, source, error=ScenarioError)
    beside = Path(source.path).resolve().parent / study.scenario
    return study, source, beside if beside.is_file() else find_scenario(study.scenario, source.where(("scenario",)))


def packaged_studies() -> dict[str, Path]:
    """Name -> file of every study that ships; the scenarios of each lie in `cases` beside them."""
    return {found.stem: found for found in sorted((packaged_folder("scenarios") / "studies").glob("*.yaml"))}


def kind_of(path: Path) -> str:
    """What a study's file says it is: sweep, plan or crossover. Raise ScenarioError when it cannot be read."""
    return _kind(read_yaml(path, error=ScenarioError))


def _kind(source: Source) -> str:
    return str(source.data.get("study", "sweep")) if isinstance(source.data, dict) else "sweep"


def find_study(name: str, where: Where | None = None) -> Path:
    """A file, or the name of a packaged study. Raise ScenarioError when it is neither."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = packaged_studies()
    if path.stem in packaged and path.suffix in ("", ".yaml"):
        return packaged[path.stem]
    raise ScenarioError(Problem(f"no study '{name}'", where, "packaged studies: " + ", ".join(packaged)))
