"""What a serving software reaches of a machine, and what it costs beside the machine: a handful of numbers each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simulator.errors import Problem, StackError, Where, unknown
from simulator.hardware.profile import Family
from simulator.provenance import Block, Fact, facts, weakest
from simulator.quantity import Fraction, Known, Label, Ratio, Share, quantity
from simulator.yaml_source import read_yaml, validate

Overhead = Annotated[Known, quantity("s", zero=True)]
Bytes0 = Annotated[Known, quantity("B", zero=True)]
NONE = Known(0.0)

FALLBACK = "default"
"""The entry of a table by number format that holds for every format not listed."""


class Collectives(Block):
    """What the communication library reaches of the fabric. Switch: reference forms of NCCL and of one-shot and
    two-shot all-reduce kernels. Torus and mesh: `launch` once, then the fabric's own latency for each hop."""

    launch: Overhead = Field(description="Fixed time of one collective.")
    one_shot: Overhead | None = Field(None, description="Fixed time of a one-shot all-reduce kernel; absent: none.")
    two_shot: Overhead | None = Field(None, description="Fixed time of a two-shot all-reduce kernel; absent: none.")
    one_shot_bandwidth: Fraction = Field(Known(0.6), description="Share of the link that the one-shot kernel reaches.")
    two_shot_bandwidth: Fraction = Field(Known(0.7), description="Share of the link that the two-shot kernel reaches.")
    kernel_limit: Bytes0 = Field(Known(8.0 * 2**20), description="Largest message of the one- and two-shot kernels.")
    bandwidth: Fraction = Field(description="Share of the link that long messages reach.")
    copy_bandwidth: Ratio | None = Field(None, description="Own part copied, as a share of the link; absent: free.")
    pipelining: Share = Field(Known(0.0), description="s of 2*s*sqrt(launch * streaming): chunks too few or too many.")
    steps: bool = Field(True, description="True: each step waits for the hop latency. False: `launch` has it.")
    fused: bool = Field(False, description="True: latencies are inside `layer_overhead`; only bytes cost time.")


class Stack(Block):
    """A dated software stack on one chip family. Fractions are of the hardware profile's peaks."""

    name: str
    title: str
    date: str = Field(description="Of the software, year or year and month.")
    families: tuple[Family, ...] = Field(min_length=1, description="Chip families that it runs on.")
    label: Label
    source: str = Field(min_length=1)
    streaming: dict[str, Fraction] = Field(description="Share of peak bandwidth for weights, by number format.")
    matmul: dict[str, Fraction] = Field(description="Share of peak FLOP/s of large products, by compute format.")
    expert_matmul: Fraction = Field(Known(1.0), description="Of `matmul`, what grouped expert products reach.")
    overlap: Ratio = Field(description="p of the p-norm that joins compute and memory: 1 adds, large takes the larger.")
    activation_streaming: Fraction = Field(Known(0.8), description="Share of peak bandwidth for activations.")
    kv_streaming: Fraction = Field(description="Share of peak bandwidth for keys and values in decode.")
    decode_attention: Fraction = Field(description="Share of the 16-bit peak that decode attention reaches.")
    prefill_attention: Fraction = Field(description="Share of the 16-bit peak that prefill attention reaches.")
    layer_overhead: Overhead = Field(description="Per layer, whatever the chip and the tensor parallelism.")
    thread_overhead: Overhead = Field(NONE, description="Per layer and core (barriers of CPU stacks).")
    expert_overhead: dict[str, Overhead] = Field(
        default_factory=dict, description="Per layer with experts, by number format of the experts."
    )
    prefill_layer_overhead: Overhead = Field(NONE, description="Per layer, more, in a step that holds a prompt.")
    step_overhead: Overhead = Field(NONE, description="Per step, added.")
    host_floor: Overhead = Field(NONE, description="Shortest step that the serving loop allows.")
    sequence_overhead: Overhead = Field(NONE, description="Per sequence that emits a token.")
    sequence_layer_overhead: Overhead = Field(NONE, description="Per sequence that emits a token and layer.")
    vocabulary_overhead: Overhead = Field(NONE, description="Per entry of the vocabulary and emitting sequence.")
    socket_scaling: Fraction = Field(Known(1.0), description="Share that each socket keeps when several work together.")
    expert_popularity: Annotated[Known, quantity("", zero=True)] = Field(
        NONE, description="Zipf exponent of the experts' popularity."
    )
    collectives: Collectives
    notes: str = ""

    def provenance(self) -> list[Fact]:
        """(path, value in SI, label, source) of every number that the stack states."""
        return facts(self)

    def weakest_label(self) -> str:
        """The weakest label among all numbers."""
        return weakest(fact.label for fact in self.provenance())


def of_format(table: dict[str, Known], name: str, stack: str, what: str) -> float:
    """The entry of a table by number format. Raise StackError when it is not there and no `default` is."""
    if name in table:
        return float(table[name])
    if FALLBACK in table:
        return float(table[FALLBACK])
    raise StackError(f"stack '{stack}' has no {what} for {name}; add it, or an entry '{FALLBACK}'")


class Stacks:
    """The stacks in some folders (NAME.stack.yaml, beside hardware profiles) and in ramwise itself. The first folder
    that has a name wins."""

    def __init__(self, folders: Sequence[Path | str] = ()) -> None:
        self._folders = (*(Path(folder) for folder in folders), Path(__file__).resolve().parent)
        missing = [folder for folder in self._folders if not folder.is_dir()]
        if missing:
            raise StackError(Problem(f"no such folder of stacks: {folder}") for folder in missing)

    def paths(self) -> dict[str, Path]:
        """Name -> file of every stack, in alphabetical order."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*.stack.yaml" if folder != self._folders[-1] else "*.yaml")):
                found.setdefault(path.name.removesuffix(".yaml").removesuffix(".stack"), path)
        return dict(sorted(found.items()))

    def load(self, name: str, where: Where | None = None) -> Stack:
        """The stack of that name. Raise StackError with everything that is wrong."""
        known = self.paths()
        if name not in known:
            raise StackError(unknown("stack", name, known, where))
        source = read_yaml(known[name], error=StackError, find=lambda other: known.get(Path(other).stem))
        stack: Stack = validate(Stack, source, error=StackError)
        return stack
