"""What a row of a serving configuration states: clients in a closed loop with a deployment, read from its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from simulator.cost.machine import Machine
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.stack.stack import Stack
from simulator.validation import aliases
from simulator.validation.question import Interpreter
from simulator.validation.rows import UNITS, RefusedError, Row

METRICS = ("tpot_ms", "ttft_ms")

SHORTEST = 0.8
"""Lengths of the public benchmark are drawn evenly between this share of the stated ones and all of them
(InferenceX, its range ratio)."""

ROUNDS = 10
"""Requests of each client in the public benchmark; the first of all clients arrive in one burst."""

ATTENTION_CUT = ("vllm 0.17", "vllm 0.18")
"""Engines whose rows state data-parallel attention and had it cut: their measurements stand under attention_dp = 1
too."""

WIDEST = 8
"""Most chips over which a recipe cuts the attention: a wider decode pool has data-parallel attention, whose ranks its
rows count as TP (vLLM's recipes for Kimi-K2.5 on GB200, dep4-dep16, NVIDIA/srt-slurm)."""

PROMPTS_WHOLE = "vllm"
"""Engine whose recipes serve prompts with data-parallel attention over all chips of the experts, which its rows count
as TP (the same recipes)."""

_FORMATS = re.compile(r"gemm (\S*), moe (\S*);")
_DATE = re.compile(r"measured (\S+);")


@dataclass(frozen=True)
class ServingRow(Row):
    """One metric of one deployment; `concurrency_or_batch` counts the clients of one rank of the attention."""

    mode: str
    attention_dp: str
    moe_tp: str
    moe_ep: str
    prefill_num_workers: str
    prefill_tp_size: str
    prefill_attention_dp_size: str
    prefill_moe_ep_size: str
    decode_batch_size: str
    decode_num_workers: str
    decode_tp_size: str
    decode_attention_dp_size: str
    decode_moe_ep_size: str

    @property
    def decodes_alone(self) -> bool:
        """Whether prompts are served by chips of their own."""
        return self.mode == "disagg"

    @property
    def date(self) -> str:
        """When it was measured, "" where the note does not say."""
        found = _DATE.search(self.note)
        return found[1] if found else ""

    @property
    def public(self) -> bool:
        """Whether it was copied from the public benchmark, whose rows alone state `attention_dp`."""
        return bool(self.attention_dp)

    @property
    def doubt(self) -> str:
        """As of any row; or the columns do not state what was measured (aliases/doubts.csv)."""
        if self.decodes_alone and not self.decode_batch_size:
            return "prefill and decode in pools of their own: neither batches nor clients stated"
        fitting = aliases.longest(
            "doubts", engine=self.engine, chip=self.hardware, model=self.model, date=self.date, metric=self.metric
        )
        clients = _positive(self.concurrency_or_batch) or 0.0
        return next((e["reason"] for e in fitting if clients >= float(e["clients"])), super().doubt)


@dataclass(frozen=True)
class Habits:
    """What an engine does in a loop beside the cost of its steps (aliases/loops.csv, from the benchmark's recipes).

    chunk   most prompt tokens of a step
    mixed   prompts share steps with decoding sequences; else they run alone
    poll    decode steps between two looks for new prompts, which then run together
    held    decode steps from there to the first token at the client, beside the prompt's own
    spare   clients more than the server's batch, always in line
    kept    share of an answer's tokens for which the cache must have room when it starts
    memory  share of a chip's memory for weights and cache
    free    share of what the weights leave of it for the cache
    drafts  tokens that a speculative step checks beside the next one
    handover  seconds in which a prompt's cache is announced and fetched from pool to pool, beside its bytes (fit to the
              rows of two pools, one number an engine)
    powers  a worker that decodes alone holds a power of two of sequences, for which it captured a graph
    """

    chunk: float
    mixed: bool
    poll: float
    held: float
    spare: float
    kept: float
    memory: float
    free: float
    drafts: int
    handover: float = 0.0
    powers: bool = False


@dataclass(frozen=True)
class Side:
    """The workers of one pool."""

    machine: Machine
    workers: int


@dataclass(frozen=True)
class PoolLoop:
    """A row of two pools that can be simulated: `clients` as of a Loop. Lengths as stated, in tokens."""

    row: ServingRow
    architecture: Architecture
    precision: Precision
    prefill: Side
    decode: Side
    clients: int
    input_tokens: int
    output_tokens: int
    habits: Habits
    assumed: str = ""

    @property
    def decoding(self) -> Loop:
        """A worker that decodes, with its part of the clients: its time per output token in closed form."""
        each = max(1.0, self.clients / self.decode.workers)
        lengths = float(self.input_tokens), float(self.output_tokens)
        return Loop(self.row, self.architecture, self.decode.machine, self.precision, each, *lengths, self.habits)

    @property
    def deployment(self) -> tuple[object, ...]:
        """What runs of one recipe have in common."""
        sides = [
            (side.machine.profile.name, side.machine.stack.name, side.machine.parallelism, side.workers)
            for side in (self.prefill, self.decode)
        ]
        return self.architecture.name, self.precision, *sides, self.input_tokens, self.output_tokens, self.habits

    @property
    def configuration(self) -> tuple[object, ...]:
        """What rows of one run have in common."""
        return *self.deployment, self.clients


@dataclass(frozen=True)
class Loop:
    """A row that can be simulated: each of `clients` sends a request, waits for all of the answer, sends the next.

    Lengths are means, in tokens.
    """

    row: ServingRow
    architecture: Architecture
    machine: Machine
    precision: Precision
    clients: float
    input_tokens: float
    output_tokens: float
    habits: Habits
    assumed: str = ""

    def on(self, stack: Stack) -> Loop:
        """The same with another stack."""
        return replace(self, machine=replace(self.machine, stack=stack))

    @property
    def measured(self) -> float:
        """The row's value in seconds."""
        return self.row.value * UNITS[self.row.unit][0]


class Deployments(Interpreter):
    """Turns rows of serving configurations into loops."""

    def loop(self, row: ServingRow) -> Loop:
        """The loop of `row`. RefusedError for the first reason why there is none."""
        if row.decodes_alone and row.doubt:
            raise RefusedError(row.doubt)
        if row.metric not in METRICS or row.unit not in UNITS:
            raise RefusedError(f"metric {row.metric} in {row.unit} has no closed form")
        profile = self._profile(row)
        architecture = self._model(row)
        precision = checkpoint(row, architecture)
        stack, _, assumed = self._stack(row, profile)
        parallelism, clients = layout(row)
        problems = parallelism.check(architecture)
        if problems:
            raise RefusedError(f"layout cannot cut the model: {problems[0].what}")
        if parallelism.chips > profile.node.chips:
            raise RefusedError(f"{parallelism.chips} chips, more than one {profile.name}")
        prompt, output = _positive(row.input_len), _positive(row.output_len)
        if prompt is None or output is None:
            raise RefusedError("lengths not stated")
        drawn = (1 + SHORTEST) / 2 if row.public else 1.0
        return Loop(
            row,
            architecture,
            self._machine(profile, stack, parallelism),
            precision,
            clients,
            drawn * prompt,
            drawn * output,
            habits(row, architecture, parallelism, clients),
            assumed,
        )

    def pools(self, row: ServingRow) -> PoolLoop:
        """The pools of a row whose prompts are served by chips of their own. RefusedError as in `loop`."""
        decode = self.loop(row)
        degrees = _numbers(row, "prefill_tp_size", "prefill_attention_dp_size", "prefill_moe_ep_size")
        workers = _numbers(row, "prefill_num_workers", "decode_num_workers")
        if not degrees or not workers:
            raise RefusedError("layout or number of workers of the pools not stated")
        if decode.habits.drafts:
            raise RefusedError("speculative decoding in a pool of its own")
        tp, dp, ep = map(int, degrees)
        ranks = row.engine.startswith(PROMPTS_WHOLE) and dp == 1 and tp == ep
        parallelism = Parallelism(dp=tp, ep=ep) if ranks else Parallelism(tp=tp, dp=dp, ep=ep)
        problems = parallelism.check(decode.architecture)
        profile = decode.machine.profile
        if problems or parallelism.chips > profile.node.chips:
            raise RefusedError(f"layout of the prefill cannot be used: {parallelism} on {profile.name}")
        return PoolLoop(
            row,
            decode.architecture,
            decode.precision,
            Side(self._machine(profile, decode.machine.stack, parallelism), int(workers[0])),
            Side(decode.machine, int(workers[1])),
            round(decode.clients * workers[1]),
            round(decode.input_tokens),
            round(decode.output_tokens),
            decode.habits,
            decode.assumed,
        )


def _positive(text: str) -> float | None:
    """The number that a cell states, if it is above 0."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def _numbers(row: ServingRow, *columns: str) -> list[float]:
    """What the columns state; nothing if one of them states no number above 0."""
    found = [value for value in (_positive(getattr(row, column)) for column in columns) if value]
    return found if len(found) == len(columns) else []


def layout(row: ServingRow) -> tuple[Parallelism, float]:
    """The layout, and the clients of all ranks of the attention; of a decode pool, a worker's and its batch.

    The public benchmark states TP and EP over the same chips. Whoever copied its rows took them for factors: moe_tp is
    TP, moe_ep is EP, and n_chips and tp (or attention_dp, where the attention is data parallel) are TP * EP. The same
    measurements stand in the file with n_chips = TP as well, which shows it. For vLLM with data-parallel attention it
    took attention_dp = EP, tp = TP and moe_ep = n_chips = TP * EP. Rows of other origin have moe_tp * moe_ep chips.
    """
    if row.decodes_alone:
        degrees = _numbers(row, "decode_tp_size", "decode_attention_dp_size", "decode_moe_ep_size")
        batch = _numbers(row, "decode_batch_size")
        if not degrees or not batch:
            raise RefusedError("layout or batch of the decode pool not stated")
        tp, dp, ep = map(int, degrees)
        return Parallelism(tp=tp, dp=dp, ep=ep) if tp <= WIDEST else Parallelism(dp=tp * dp, ep=ep), batch[0]
    stated = _numbers(row, "n_chips", "tp", "moe_tp", "moe_ep", "concurrency_or_batch")
    ranks = _numbers(row, "attention_dp") if row.public else [1.0]
    if not stated or not ranks or min(stated[:4]) < 1:
        raise RefusedError("layout or concurrency not stated")
    chips, tp, moe_tp, moe_ep = map(int, stated[:4])
    dp, clients = int(ranks[0]), ranks[0] * stated[4]
    if not row.public:
        dp = max(chips, moe_tp * moe_ep) // tp
        return Parallelism(tp=tp, dp=dp, ep=moe_ep), dp * clients
    if moe_tp == moe_ep > 1 and chips == moe_tp * moe_ep:
        return Parallelism(tp=moe_tp, ep=moe_ep) if dp == 1 else Parallelism(dp=moe_tp, ep=moe_ep), clients
    if dp == tp > 1 and chips == moe_ep == dp * tp:
        cut = row.engine.startswith(ATTENTION_CUT)
        return Parallelism(tp=tp, ep=tp) if cut else Parallelism(dp=tp, ep=tp), clients
    if chips != tp * dp:
        raise RefusedError("degrees do not multiply to the chips")
    return Parallelism(tp=tp, dp=dp, ep=moe_ep), clients


def checkpoint(row: ServingRow, architecture: Architecture) -> Precision:
    """Number formats by tensor class, from what the note says of the matrices (aliases/checkpoints.csv)."""
    found = _FORMATS.search(row.note)
    stated = found[1] if found else row.dtype_weights
    fitting = aliases.longest("checkpoints", model=architecture.name, chip=row.hardware)
    entry = next((e for e in fitting if e["gemm"] == stated), None)
    if entry is None:
        raise RefusedError(f"number format {stated}")
    parts: dict[str, Any] = {name: entry[name] or None for name in ("experts", "attention", "head")}
    return Precision(weights=entry["weights"], kv=entry["kv"], embedding="bf16", **parts)


def habits(row: ServingRow, architecture: Architecture, parallelism: Parallelism, clients: float) -> Habits:
    """The entry of aliases/loops.csv that states most of what the row is; of those alike, of the most clients."""
    names = {"engine": row.engine, "chip": row.hardware, "model": architecture.name, "date": row.date}
    fitting = [
        entry
        for entry in aliases.longest("loops", **names)
        if fnmatchcase(str(parallelism), entry["layout"] or "*") and max(1.0, clients) >= float(entry["clients"])
    ]
    entry = max(fitting, key=lambda e: ([len(e[name]) for name in (*names, "layout")], float(e["clients"])))
    # With data-parallel attention the recipes of speculative runs draft one token.
    drafts = int(entry["drafts"]) if parallelism.dp == 1 else min(int(entry["drafts"]), 1)
    named = ("chunk", "poll", "held", "spare", "kept", "memory", "free", "handover")
    numbers = {name: float(entry[name]) for name in named}
    return Habits(mixed=entry["mixed"] == "yes", drafts=drafts, powers=entry["powers"] == "yes", **numbers)
