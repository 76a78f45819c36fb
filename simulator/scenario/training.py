"""A training scenario: which models, on which machines, by which recipe, for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simulator.model.training.recipe import Graphs
from simulator.model.training.recompute import PartName
from simulator.quantity import (
    Bandwidth,
    Dollars,
    DollarsPerJoule,
    Fraction,
    Known,
    Ratio,
    Seconds,
    Share,
    Watts,
    quantity,
)
from simulator.scenario.model import ModelChoice
from simulator.scenario.money import Money
from simulator.strict import Strict

Count = Annotated[int, Field(gt=0)]
Tokens = Annotated[Known, quantity("", example="3e11")]
Pause = Annotated[Known, quantity("s", zero=True)]
Spread = Annotated[Known, quantity("", most=1.0, zero=True, example="0.02")]


class ParallelismChoice(Strict):
    """The degrees of a run. dp follows from the chips when it is left out."""

    tp: Count = Field(1, description="Tensor parallelism.")
    pp: Count = Field(1, description="Pipeline stages.")
    dp: Count | None = Field(None, description="Replicas; chips / (tp pp cp) when left out.")
    ep: Count = Field(1, description="Expert parallelism, carved out of tp*cp*dp.")
    cp: Count = Field(1, description="Context parallelism.")
    vpp: Count = Field(1, description="Chunks of layers of an interleaved pipeline.")
    sequence_parallel: bool = Field(True, description="Norms and residuals cut over tp (no effect at tp 1).")
    zero: Annotated[int, Field(ge=0, le=3)] = Field(
        1, description="0 none, 1 optimiser, 2 gradients, 3 weights (FSDP)."
    )
    shard: Count | None = Field(
        None, description="Chips that share what `zero` cuts (hybrid sharding); all when left out."
    )
    slices: Count = Field(1, description="Groups of chips joined only by a data-centre network.")


class TrainingMachineChoice(Strict):
    """A machine of the scenario, so many chips of it, and how the run lies on them."""

    hardware: str = Field(description="Name of a hardware profile, or a path of one.")
    name: str | None = Field(None, description="What results call it; the profile's name when left out.")
    chips: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        description="Chips of the run; a list makes one run each."
    )
    parallelism: ParallelismChoice | Literal["auto"] = Field(
        "auto", description="Degrees, or auto: the fastest legal layout that fits."
    )
    stack: str | None = Field(None, description="Training stack; the newest for the chip when left out.")
    offload: tuple[Literal["optimizer", "activations", "table"], ...] = Field(
        (), description="What lies in the host's memory; tables also where the model says `tier`."
    )
    network: Bandwidth | None = Field(None, description="Per chip between machines, in place of the profile's.")
    global_batch: Count | None = Field(None, description="In place of the scenario's.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of chips, one run each."""
        return (self.chips,) if isinstance(self.chips, int) else self.chips


class BatchChoice(Strict):
    """What a step trains on."""

    global_batch: Count = Field(description="Sequences of a step.")
    micro_batch: Count | None = Field(
        None, description="Sequences that pass a pipeline together; what is fastest when left out."
    )
    sequence_length: Count = Field(description="Tokens of a sequence.")
    critical: Tokens | None = Field(
        None,
        description="Tokens of a batch at which a run needs twice the tokens of small ones (McCandlish et al. 2018).",
    )


class TrainingPrecision(Strict):
    """Number formats: the matrices of the layers; bytes of a parameter for what stands beside them."""

    matrices: Literal["bf16", "fp16", "fp8", "nvfp4", "int8"] = "bf16"
    gradients: Literal["fp32", "bf16"] = "fp32"
    master: Literal["fp32", "none"] = Field("fp32", description="Copy of the weights that the optimiser updates.")
    optimizer: Literal["adam", "adam_8bit", "adam_bf16", "sgd", "adafactor"] = "adam"
    tables: Literal["adam", "rowwise"] = Field(
        "adam", description="Optimiser of looked-up tables; rowwise: one number a row, updated on the chips."
    )

    @property
    def row_state_bytes(self) -> float:
        """Bytes of a value of a looked-up table that its optimiser keeps."""
        return 12.0 if self.tables == "adam" else 0.0

    @property
    def gradient_bytes(self) -> float:
        """Bytes of a gradient."""
        return 4.0 if self.gradients == "fp32" else 2.0

    @property
    def optimizer_bytes(self) -> float:
        """Bytes of a parameter for the master copy and what the optimiser keeps (adafactor: rows and columns only)."""
        moments = {"adam": 8.0, "adam_bf16": 4.0, "adam_8bit": 2.0, "sgd": 4.0, "adafactor": 0.0}[self.optimizer]
        return moments + (4.0 if self.master == "fp32" else 0.0)


LEAST_SHAPE, MOST_SHAPE = 0.2, 20.0
"""Far beyond what parts show (0.5 to 4); a smaller shape has nearly all of its failures at once."""


class Component(Strict):
    """A kind of part that fails: chip-hours between failures of the whole kind, and the shape of its Weibull law."""

    mtbf: Seconds = Field(
        description="Chip-time between interruptions that it causes: 60000 h means one chip, 60000 h."
    )
    shape: Ratio = Field(Known(1.0), description="Weibull shape: 1 is exponential, below 1 fails early.")

    @model_validator(mode="after")
    def _of_parts(self) -> Component:
        if not LEAST_SHAPE <= self.shape <= MOST_SHAPE:
            raise ValueError(
                f"a Weibull shape of {self.shape:g} is none of parts, which have {LEAST_SHAPE:g} to {MOST_SHAPE:g}; "
                "write shape: 0.8"
            )
        return self


class Failures(Strict):
    """Interruptions and what each one costs beside the work that is lost."""

    components: dict[str, Component] = Field(
        default_factory=lambda: {
            "any": Component(
                mtbf=Known(
                    57_500 * 3600.0,
                    "measured",
                    "Llama-3 405B: 50,700 chip-hours; BLOOM-176B: 64,500",
                    (50_700 * 3600.0, 64_500 * 3600.0),
                    "s",
                )
            )
        },
        description="Kinds of parts; any part, every 57,500 chip-hours, when left out.",
    )
    detection: Pause = Field(
        Known(180.0, "estimated", "a watchdog on steps"), description="Until a failure is noticed."
    )
    restart: Pause = Field(
        Known(420.0, "estimated", "start-up of the job; loading the checkpoint comes on top"), description="Start-up."
    )
    manual: Share = Field(Known(0.0), description="Share of failures that a person has to mend.")
    manual_time: Pause = Field(
        Known(7200.0, "estimated", "a person on call"), description="Until a person has mended it."
    )
    spares: Count | None = Field(None, description="Spare machines; always one left when left out.")
    repair: Pause = Field(Known(86_400.0, "estimated", "exchange of a part"), description="Until a machine is back.")


class Checkpoints(Strict):
    """Copies of weights and optimiser that a run restarts from."""

    interval: Seconds | Literal["auto"] = Field("auto", description="Work between two; auto: the optimal one.")
    mode: Literal["sync", "async"] = Field("async", description="sync: training stops until it is written.")
    bandwidth: Bandwidth = Field(
        Known(2e12, "measured", "Llama-3 405B: 2 TB/s sustained", None, "B/s"), description="Of the storage, whole run."
    )
    pause: Pause = Field(
        Known(5.0, "estimated", "copy to host memory"), description="Of async: training stops so long."
    )


class Stragglers(Strict):
    """A distribution of the chips' speed: normal, and a few slow ones."""

    deviation: Spread = Field(Known(0.0), description="Standard deviation of a chip's time, over the mean.")
    slow: Share = Field(Known(0.0), description="Share of chips that are slow.")
    slowdown: Ratio = Field(Known(1.0), description="Their time over that of others: 1.1 is ten per cent more.")

    @model_validator(mode="after")
    def _slower(self) -> Stragglers:
        if self.slowdown < 1.0:
            raise ValueError(f"slow chips take longer, and a slowdown of {self.slowdown:g} is faster; write 1.1")
        if (self.slow > 0.0) != (self.slowdown > 1.0):
            raise ValueError("slow chips are a share and a slowdown; write {slow: 0.005, slowdown: 1.1}")
        return self


class Bill(Strict):
    """A bill by hand: machines bought over their life, and their power. Printed beside what is simulated."""

    source: str
    machines: Count
    price: Dollars = Field(description="Of one machine.")
    life: Seconds
    duration: Seconds
    power: Watts = Field(description="Of one machine.")
    electricity: DollarsPerJoule


class ScriptChoice(Strict):
    """What a training script sets beside layout, batch and number formats."""

    graphs: Graphs = Field("none", description="Launched as captured graphs; partial: what comes before the experts.")
    exchange: Literal["copies", "once"] = Field(
        "copies", description="once: a rank and a machine get a token once (DeepEP), not for each of its experts."
    )
    overlap: bool = Field(True, description="The experts' exchange runs beside another micro-batch's computation.")
    predictors: Annotated[int, Field(ge=0, le=8)] = Field(0, description="Modules of multi-token prediction.")
    wide_layers: Annotated[int, Field(ge=0)] = Field(0, description="Layers kept in 16 bits.")
    adapters: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="Rank of LoRA; 0: all weights are trained.")


class TrainingScenario(Strict):
    """Models x machines, one recipe."""

    task: Literal["train"]
    description: str = ""
    model: str | ModelChoice | tuple[str | ModelChoice, ...] = Field(
        description="Names from the zoo, paths of config.json files, or models changed ({base, ffn})."
    )
    machines: tuple[TrainingMachineChoice, ...]
    batch: BatchChoice
    precision: TrainingPrecision = TrainingPrecision()
    recompute: Literal["none", "selective", "full", "auto"] | tuple[PartName, ...] = Field(
        "auto", description="auto: as little as fits. A list: these parts of a layer (Megatron's recompute_modules)."
    )
    script: ScriptChoice = ScriptChoice()
    schedule: Literal["auto", "gpipe", "1f1b", "interleaved", "zero_bubble", "dualpipe"] = Field(
        "auto", description="auto: interleaved where vpp is more than 1, else 1f1b."
    )
    tokens: Tokens | None = Field(None, description="Tokens of the whole run.")
    steps: Count | None = Field(None, description="Steps of the whole run, in place of `tokens`.")
    failures: Failures | None = Field(None, description="Left out: the run is never interrupted.")
    checkpoints: Checkpoints = Checkpoints()
    stragglers: Stragglers | Spread = Field(
        Known(0.0), description="Standard deviation of the chips' times, or a distribution with a few slow chips."
    )
    samples: Count = Field(32, description="Histories of failures that are drawn.")
    utilization: Fraction = Field(Known(0.96), description="Share of a chip's memory that a run may fill.")
    bill: Bill | None = None
    money: Money | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> TrainingScenario:
        if not self.models:
            raise ValueError("model is an empty list; write model: gpt3-175b")
        if not self.machines:
            raise ValueError("machines is an empty list; write machines: [{hardware: h100-sxm-8, chips: 1024}]")
        if any(isinstance(model, ModelChoice) and model.depth for model in self.models):
            raise ValueError("depth is not simulated in training; leave it out")
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("a run has an end; write tokens: 3e11, or steps: 100000")
        return self

    @property
    def speeds(self) -> Stragglers:
        """The distribution of the chips' speed."""
        given = self.stragglers
        return given if isinstance(given, Stragglers) else Stragglers(deviation=given)

    @property
    def models(self) -> tuple[str | ModelChoice, ...]:
        """The models, one or several."""
        return self.model if isinstance(self.model, tuple) else (self.model,)
