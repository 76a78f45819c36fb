"""What a row of a serving configuration states: a client's closed loop over a deployment, read from its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.cost.machine import Machine
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.parallelism import Parallelism
from simulator.validation import aliases
from simulator.validation.question import Interpreter, Reason
from simulator.validation.rows import UNITS, Row

_FORMATS = re.compile(r"gemm (\S*), moe (\S*);")
_DATE = re.compile(r"measured (\S+);")

SHORTEST = 0.8
"""Lengths of the public benchmark are drawn evenly between this share of the stated ones and all of them
(InferenceX: its range ratio)."""

ROUNDS = 10
"""Requests of the public benchmark for each client; the first of each arrives in one burst."""


@dataclass(frozen=True)
class ServingRow(Row):
    """One metric of one deployment; `concurrency_or_batch` counts the clients of one attention rank."""

    mode: str
    attention_dp: str
    moe_tp: str
    moe_ep: str


@dataclass(frozen=True)
class Habits:
    """What an engine does in this loop beside its steps' cost (aliases/loops.csv).

    chunk       most prompt tokens of a step
    mixed       whether prompts share a step with decoding sequences
    poll        decode steps between two looks for new prompts, which then run together
    held        decode steps from there to the first token at the client, beside its own
    spare       clients that wait because the server's batch is smaller than the concurrency by so many
    drafts      tokens that a speculative step checks beside the next one
    """

    chunk: float
    mixed: bool
    poll: float
    held: float
    spare: float
    drafts: int
    limit: float


@dataclass(frozen=True)
class Loop:
    """A row that can be simulated: `clients` send a request, wait for all of its answer, and send the next."""

    row: ServingRow
    architecture: Architecture
    machine: Machine
    precision: Precision
    clients: float
    input_tokens: float  # mean of the drawn lengths
    output_tokens: float
    rounds: float
    habits: Habits
    assumed: str = ""

    @property
    def measured(self) -> float:
        """The row's value in seconds."""
        return self.row.value * UNITS[self.row.unit][0]


class Deployments(Interpreter):
    """Turns rows of serving configurations into loops."""

    def loop(self, row: ServingRow) -> Loop | Reason:
        """The loop of `row`, or the first reason why there is none."""
        if row.mode == "disagg":
            return Reason("disaggregated: prefill and decode in pools of their own")
        if row.metric not in ("tpot_ms", "ttft_ms"):
            return Reason(f"metric {row.metric} has no closed form")
        profile = self._profile(row)
        if isinstance(profile, Reason):
            return profile
        architecture = self._model(row)
        if isinstance(architecture, Reason):
            return architecture
        precision = checkpoint(row, architecture)
        if isinstance(precision, Reason):
            return precision
        stack, _, assumed = self._stack(row, profile)
        if isinstance(stack, Reason):
            return stack
        found = layout(row)
        if isinstance(found, Reason):
            return found
        parallelism, clients = found
        problems = parallelism.check(architecture)
        if problems:
            return Reason(f"layout cannot cut the model: {problems[0].what}")
        if parallelism.chips > profile.node.chips:
            return Reason(f"{parallelism.chips} chips, more than one {profile.name}")
        try:
            lengths = float(row.input_len), float(row.output_len)
        except ValueError:
            return Reason("lengths are not numbers")
        public = bool(row.attention_dp)
        mean = (1 + SHORTEST) / 2 if public else 1.0
        return Loop(
            row,
            architecture,
            self._machine(profile, stack, parallelism),
            precision,
            clients,
            mean * lengths[0],
            mean * lengths[1],
            ROUNDS,
            habits(row, architecture, parallelism, clients),
            assumed,
        )


def layout(row: ServingRow) -> tuple[Parallelism, float] | Reason:
    """The layout and the clients of all attention ranks.

    Rows copied from the public benchmark (those that state `attention_dp`) were written by a converter that took its
    columns TP and EP, which span the same chips, for factors: tp and n_chips (or attention_dp and n_chips) are
    TP * EP, moe_tp is TP. The same measurement stands in the file with n_chips = TP as well. With vLLM it wrote TP
    beside attention_dp = EP instead. Other rows state each factor for itself, and moe_tp * moe_ep chips.
    """
    try:
        chips, tp, moe_tp, moe_ep = (int(text) for text in (row.n_chips, row.tp, row.moe_tp, row.moe_ep))
        dp = int(row.attention_dp or 1)
        each = float(row.concurrency_or_batch)
    except ValueError:
        return Reason("layout or concurrency not stated")
    if not row.attention_dp:
        dp = max(chips, moe_tp * moe_ep) // tp
        return Parallelism(tp=tp, dp=dp, ep=moe_ep), each * dp
    clients = each * dp
    if moe_tp == moe_ep > 1 and chips == moe_tp * moe_ep:
        return (Parallelism(tp=moe_tp, ep=moe_ep) if dp == 1 else Parallelism(dp=moe_tp, ep=moe_ep)), clients
    if dp == tp > 1 and chips == moe_ep == dp * tp:
        return Parallelism(tp=tp, ep=tp), clients
    if chips != tp * dp:
        return Reason("degrees do not multiply to the chips")
    return Parallelism(tp=tp, dp=dp, ep=moe_ep), clients


def checkpoint(row: ServingRow, architecture: Architecture) -> Precision | Reason:
    """Number formats by tensor class, from what the note says of matrices and experts (aliases/checkpoints.csv)."""
    found = _FORMATS.search(row.note)
    gemm = found[1] if found else row.dtype_weights
    entries = [e for e in aliases.longest("checkpoints", model=architecture.name) if e["gemm"] == gemm]
    if not entries:
        return Reason(f"number format {gemm}")
    entry = entries[0]
    return Precision(
        weights=entry["weights"],
        kv=entry["kv"],
        experts=entry["experts"] or None,
        attention=entry["attention"] or None,
        embedding="bf16",
        head=entry["head"] or None,
    )


def habits(row: ServingRow, architecture: Architecture, parallelism: Parallelism, clients: float) -> Habits:
    """The first fitting entry of aliases/loops.csv; the more that it states the sooner it is tried."""
    date = _DATE.search(row.note)
    entry = max(
        (
            e
            for e in aliases.longest(
                "loops", engine=row.engine, chip=row.hardware, model=architecture.name, date=date[1] if date else ""
            )
            if e["layout"] in ("", str(parallelism)) and clients >= float(e["clients"])
        ),
        key=lambda e: (len(e["engine"]), len(e["chip"]), len(e["model"]), len(e["date"]), float(e["clients"])),
    )
    drafts = entry["drafts"] or "0"
    return Habits(
        float(entry["chunk"]),
        entry["mixed"] == "yes",
        float(entry["poll"]),
        float(entry["held"]),
        float(entry["spare"]),
        int(drafts if parallelism.dp == 1 else min(int(drafts), 1)),
        float(entry["limit"]),
    )
