"""What a measured row asks of the simulator: a machine, a model, a batch, a reading; or why it asks nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from simulator.cost.machine import Machine
from simulator.cost.place import Placement
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture
from simulator.model.number_format import FORMATS, Precision
from simulator.model.parallelism import Parallelism
from simulator.model.zoo import load_model, model_names
from simulator.stack.stack import Stack, Stacks
from simulator.validation import aliases, demand, mixed, sparse
from simulator.validation.layout import LayoutNotStatedError, layout_of, layouts_of_system, threads_of
from simulator.validation.load import Arrivals, Habits, Load, requests_held, requests_within
from simulator.validation.rows import UNITS, RefusedError, Row, amount, answered, whole

NO_READING = {
    "repeated": "repeats another row",
    "speculative": "speculative decoding",
}
"""Readings that are none, with the reason."""

LOAD = "load"
"""The reading of rows that the engine runs."""

STATIC = ("batch_latency", "batch_rate", "prefill")
"""Readings of batches that start at once."""

LAYOUT_CHOSEN = "layout not stated: the one that holds most requests, within the SLO if any, or the quickest with room"

HEADROOM = (1.2, 1.05)
"""What a layout must hold of the rate at which requests come, so that they do not queue: the first factor, or where no
layout does, the second."""

FULL = 0.92
"""Share of a GPU's memory that weights and cache may fill before the scheduler splits the batch (fit to rows of
LLM-Inference-Bench: beyond it static batches are no longer static)."""

_METRICS = re.compile(
    r"(latency_s|decode_|tpot_|tpot$|ttft_|prefill_|output_tokens|total_tokens|requests_per|(gpu_|system_)?power_w|j_per_)"
)
_UNIT_OF = (
    ("latency|tpot|ttft|decode_ms", "s"),
    ("requests", "req/s"),
    (".*power", "W"),
    ("j_per", "J/tok"),
    ("", "tok/s"),
)
"""How a metric begins -> the unit that its figures are kept in, the first that fits."""

_RUNNING = re.compile(r"running batch ([\d.]+)")
_STATIC_CACHE = re.compile(r"cache length (\d+)")  # every step reads all of its slots (JetStream)
_YEAR = re.compile(r"\b(20[12]\d)\b")


@dataclass(frozen=True)
class Question:
    """A row that can be simulated. `precisions`: shares of the layers in each; lengths in tokens per sequence."""

    row: Row
    architecture: Architecture
    machine: Machine
    precisions: tuple[tuple[float, Precision], ...]
    reading: str
    batch: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    context: float = 0.0  # mean over the decode steps
    chips: int = 1
    assumed: str = ""  # what was taken because the row does not say it
    load: Load | None = None  # what is run in the engine; `reading` is then one of its figures

    def on(self, stack: Stack) -> Question:
        """The same with another stack."""
        machine = replace(self.machine, stack=stack)
        return replace(self, machine=machine, load=self.load and replace(self.load, machine=machine))

    @property
    def measured(self) -> float:
        """The row's value in SI units."""
        return self.row.value * UNITS[self.row.unit][0]


class Interpreter:
    """Turns rows into questions. Profiles, stacks and models of `folders` come before the packaged ones."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._catalogue, stacks = Catalogue(folders), Stacks(folders)
        self._stacks = {name: stacks.load(name) for name in stacks.paths()}
        self._folders = tuple(folders)
        self._models: dict[str, Architecture] = {}
        self._known_models = set(model_names(folders))
        self._machines: dict[tuple[str, str, Parallelism, int | None, Habits], Machine] = {}
        self._profiles: dict[str, Profile | None] = {}
        self._most: dict[tuple[object, ...], int] = {}

    @answered
    def ask(self, row: Row) -> Question:
        """The question of `row`. RefusedError for the first reason why there is none."""
        reading = self._reading(row)
        profile = self._profile(row)
        architecture = mixed.with_experts(self._model(row), row)
        precisions = _precisions(row, architecture)
        stack, stages, assumed = self._stack(row, profile)
        if reading["reading"] == LOAD:
            return self._under_load(row, architecture, profile, stack, precisions, assumed)
        layout = layout_of(row, architecture, profile, stages, reading["reading"])
        batch, prompt, output = _sizes(row, reading["reading"])
        machine = self._machine(profile, stack, layout, threads_of(row, profile, layout))
        cache = _STATIC_CACHE.search(row.note)
        context = float(cache[1]) if cache else prompt + float(reading["growth"]) * output
        # A steady batch is as measured; one that starts at once must hold its sequences at their full length.
        static = reading["reading"] in STATIC
        longest = prompt + output if static else context
        placed = mixed.placed(machine, architecture, precisions[0][1], row, batch, longest)
        if placed is None:
            raise RefusedError("computes on a host that the row does not name")
        architecture, machine = sparse.in_host(architecture, precisions[0][1], placed, batch * longest)
        if static and not stages and _overfull(architecture, precisions[0][1], machine, batch, longest):
            if machine.placement != Placement():
                raise RefusedError("weights and KV cache do not fit")
            at_once = Arrivals(requests=ceil(batch))
            return self._under_load(row, architecture, profile, stack, precisions, assumed, at_once)
        return Question(
            row,
            architecture,
            machine,
            precisions,
            reading["reading"],
            batch,
            prompt,
            output,
            context,
            whole(row.n_chips) or layout.chips,
            assumed,
        )

    def _under_load(
        self,
        row: Row,
        model: Architecture,
        profile: Profile,
        stack: Stack,
        precisions: tuple[tuple[float, Precision], ...],
        assumed: str,
        arrivals: Arrivals | None = None,
    ) -> Question:
        """The question of a row that is run in the engine."""
        figure, system = demand.figure(row.metric), demand.system(row, model.name)
        known = demand.workload(row, model.name) | {name: text for name, text in system.items() if text}
        if figure is None:
            raise RefusedError(f"metric {row.metric} is none of a load")
        arrivals, lengths = arrivals or demand.arrivals(row, known), demand.lengths(row, known)
        if len(precisions) > 1:
            raise RefusedError("layers differ in their number formats")
        chips = whole(row.n_chips)
        try:
            layouts, unstated = [layout_of(row, model, profile, "", LOAD)], ""
        except LayoutNotStatedError:
            if not chips:
                raise
            layouts, unstated = layouts_of_system(model, profile, chips), LAYOUT_CHOSEN
            published = demand.layout(row, system)
            if published and chips % published.chips == 0:
                layouts, unstated = [published], ""
        chips = chips or layouts[0].chips
        metered = figure in demand.METERED
        loads = [
            Load(
                model,
                precisions[0][1],
                machine,
                chips // layout.chips,
                arrivals,
                *lengths,
                limits,
                metered,
                *demand.sweep(row, model.name, arrivals, layout.dp),
            )
            for layout in layouts
            for limits in [demand.limits(row, system, layout)]
            for machine in [self._machine(profile, stack, layout, habits=limits.habits)]
        ]
        if not loads:
            raise LayoutNotStatedError
        load = self._fittest(loads)
        assumed = "; ".join(filter(None, [assumed, unstated, demand.assumed(arrivals, known)]))
        return Question(row, model, load.machine, precisions, figure, chips=chips, assumed=assumed, load=load)

    def _fittest(self, loads: Sequence[Load]) -> Load:
        """Of several layouts the one that holds most requests when more are waiting, or within an SLO if there is one;
        at a rate, the one with most chips a replica, and so the quickest, among those with HEADROOM."""
        if len(loads) == 1:
            return loads[0]
        rate, slo = loads[0].arrivals.rate, loads[0].arrivals.slo
        key = tuple(replace(load, arrivals=Arrivals(rate=rate, slo=slo)).key for load in loads)
        if key not in self._most:
            held = [requests_within(load, slo) if slo else requests_held(load) for load in loads]
            roomy = [[i for i, most in enumerate(held) if rate and most >= room * rate] for room in HEADROOM]
            quick = next(filter(None, roomy), [])
            best = max(quick, key=lambda i: loads[i].machine.parallelism.chips) if quick else held.index(max(held))
            self._most[key] = best if held[best] > 0.0 else -1
        most = self._most[key]
        if most < 0:
            raise RefusedError("weights and KV cache do not fit")
        return loads[most]

    def place(self, row: Row) -> tuple[str, str]:
        """The family and the stack of a row, simulated or not; "-" where nothing is known."""
        family = stack = "-"
        with suppress(RefusedError):
            profile = self._profile(row)
            family = profile.family
            stack = self._stack(row, profile)[0].name
        return family, stack

    def profile_name(self, row: Row) -> str | None:
        """The profile that a row's chip stands for."""
        with suppress(RefusedError):
            return self._profile(row).name
        return None

    def _reading(self, row: Row) -> aliases.Entry:
        """How the metric of this engine is to be read."""
        if not _METRICS.match(row.metric):
            raise RefusedError(
                f"metric {row.metric} is no timing and no energy of inference, as latency_s or tpot_ms are"
            )
        if row.unit not in UNITS:
            raise RefusedError(f"unit {row.unit} is not one of {', '.join(UNITS)}")
        fit = next(unit for metric, unit in _UNIT_OF if re.match(metric, row.metric))
        if UNITS[row.unit][1] != fit:
            raise RefusedError(f"unit {row.unit} is none of {row.metric}, which is in {fit}")
        fitting = [e for e in aliases.longest("readings", engine=row.engine) if e["metric"] == row.metric]
        if row.request_rate or (not fitting and demand.figure(row.metric)):
            return {"reading": LOAD}
        if not fitting:
            raise RefusedError(f"metric {row.metric} has no closed form")
        if fitting[0]["reading"] in NO_READING:
            raise RefusedError(NO_READING[fitting[0]["reading"]])
        if fitting[0]["reading"] == "first" and (amount(row.concurrency_or_batch) or 0.0) > 1:
            return {"reading": LOAD}  # it depends on who waits for whom
        return fitting[0]

    def _profile(self, row: Row) -> Profile:
        if row.hardware not in self._profiles:
            known = aliases.exact("chips", "hardware", row.hardware)
            words = known["profile"] if known else row.hardware  # "i9-13900k + rtx-4090" is no profile's name
            self._profiles[row.hardware] = self._named(mixed.chip_of(words)) or mixed.joined(words, self._named)
        profile = self._profiles[row.hardware]
        if profile is None:
            raise RefusedError(f"no profile of {row.hardware}")
        return profile

    def _named(self, hardware: str) -> Profile | None:
        """The profile that words for a chip stand for."""
        known = self._catalogue.paths()
        entry = aliases.exact("chips", "hardware", hardware)
        wanted = entry["profile"] if entry else aliases.plain(hardware)
        if wanted not in known:
            # A user's file may name a profile without the number of its chips.
            close = [name for name in known if re.fullmatch(re.escape(wanted) + r"-\d+", name)]
            if len(close) != 1:
                return None
            wanted = close[0]
        return self._catalogue.load(wanted)

    def _model(self, row: Row) -> Architecture:
        # "meta-llama/Llama-3.1-8B": a table that does not know the owner may know the model.
        known = (aliases.exact("models", "model", name) for name in (row.model, row.model.rpartition("/")[2]))
        entry = next((entry for entry in known if entry), None)
        few = aliases.exact("sparse", "model", row.model)
        if few is not None:
            return sparse.sparse(load_model(few["zoo"], self._folders), few)
        if sparse.members(row):
            raise RefusedError("a mean over several models")
        name = entry["zoo"] if entry else aliases.plain(row.model).rpartition("/")[2]
        if name not in self._known_models:
            raise RefusedError(f"no model {row.model}")
        if name not in self._models:
            self._models[name] = load_model(name, self._folders)
        return self._models[name]

    def _stack(self, row: Row, profile: Profile) -> tuple[Stack, str, str]:
        """The stack, what it makes of stages (layout.py), and what was assumed."""
        hosted = profile.host is not None
        for entry in aliases.longest("engines", engine=row.engine, run=row.run, chip=row.hardware):
            stack = self._stacks.get(entry["stack"])
            if stack is None and entry["chip"]:
                raise RefusedError(f"no stack {entry['stack']}")
            if stack is not None and profile.family in stack.families and (stack.host is not None) == hosted:
                return stack, entry["stages"], ""
        stack = _nearest(row, profile, self._stacks.values())
        if stack is None:
            raise RefusedError(f"no stack runs on {profile.family}")
        engine = f"engine '{row.engine}'" if row.engine else "no engine stated"
        return stack, "", f"{engine} on {profile.family}: {stack.name}"

    def _machine(
        self, profile: Profile, stack: Stack, layout: Parallelism, threads: int | None = None, habits: Habits = ()
    ) -> Machine:
        key = profile.name, stack.name, layout, threads, habits
        if key not in self._machines:
            stack = stack.model_copy(update=dict(habits))
            self._machines[key] = Machine(profile, stack, layout, threads=threads)
        return self._machines[key]


def _nearest(row: Row, profile: Profile, stacks: Iterable[Stack]) -> Stack | None:
    """Of the stacks of this family, those of the same software if there are any, the one nearest in date; the default
    stack of the profile where the row has no date."""
    hosted = profile.host is not None
    fitting = [s for s in stacks if profile.family in s.families and (s.host is not None) == hosted]
    software = re.match(r"[a-z]*", aliases.plain(row.engine))
    same = [stack for stack in fitting if software and software[0] and stack.name.startswith(software[0])]
    years = [int(year) for year in _YEAR.findall(f"{row.engine} {row.note}")]
    pool = same or fitting
    if years:
        return min(pool, key=lambda stack: (abs(int(stack.date[:4]) - years[0]), stack.name), default=None)
    default = [stack for stack in pool if stack.name == profile.default_stack]
    return next(iter(default or sorted(pool, key=lambda stack: (-int(stack.date[:4]), stack.name))), None)


def _precisions(row: Row, model: Architecture) -> tuple[tuple[float, Precision], ...]:
    """Number formats by tensor class, with the share of the layers that have them."""
    wanted = aliases.plain(row.dtype_weights)
    if wanted in ("fp8", "fp4") and model.precision and model.precision.experts:
        wanted = model.precision.experts  # gpt-oss: of the activations; its weights come as they are
    entries = [e for e in aliases.longest("dtypes", engine=row.engine) if aliases.plain(e["dtype"]) == wanted]
    if not entries:
        raise RefusedError(f"number format {row.dtype_weights or 'not stated'}")
    chosen = [entry for entry in entries if entry["engine"] == entries[0]["engine"]]
    kv = aliases.exact("dtypes", "dtype", row.dtype_kv) if row.dtype_kv else None
    if row.dtype_kv and (kv is None or kv["weights"] not in FORMATS):
        raise RefusedError(f"number format of the cache {row.dtype_kv}")
    return tuple((float(entry["share"]), _precision(entry, kv["weights"] if kv else entry["kv"])) for entry in chosen)


def _precision(entry: aliases.Entry, kv: str) -> Precision:
    parts: dict[str, Any] = {name: entry[name] or None for name in ("experts", "attention", "embedding", "head")}
    return Precision(weights=entry["weights"], kv=kv, **parts)


def _sizes(row: Row, reading: str) -> tuple[float, float, float]:
    """Batch, prompt and output tokens of a sequence."""
    running = _RUNNING.search(row.note)
    batch = float(running[1]) if running else amount(row.concurrency_or_batch)
    if batch is None or batch <= 0:
        raise RefusedError("batch not stated")
    # A prompt's row may leave the output out, and a decode's row the prompt; some rows carry a guess.
    defaults = [
        e
        for e in aliases.longest("lengths", engine=row.engine)
        if aliases.plain(row.note).startswith(aliases.plain(e["note"])) and e["metric"] in ("", row.metric)
    ]
    lengths = []
    for name in ("input_len", "output_len"):
        stated = getattr(row, name)
        length = amount(stated)
        if defaults and defaults[0][name] and (length is None or stated == defaults[0]["guessed"]):
            length = float(defaults[0][name])
        lengths.append(length)
    prompt, output = lengths
    if prompt is None and row.input_len:
        raise RefusedError("lengths are not numbers")
    if prompt is None and not (output and reading in ("user_rate", "decode_rate")):
        raise RefusedError("lengths not stated")
    needs_output = reading.startswith(("batch", "steady"))
    if needs_output and not output:
        raise RefusedError("lengths not stated")
    if reading.startswith(("prefill", "first")) and not prompt:
        raise RefusedError("lengths not stated")
    return batch, prompt or 0.0, output or 0.0


def _overfull(model: Architecture, precision: Precision, machine: Machine, batch: float, tokens: float) -> bool:
    """Whether the batch at its full length does not fit the chips' memory all at once."""
    layout, tier = machine.parallelism, machine.memory
    held = model.weight_bytes_per_chip(precision, layout)
    weights = sum(size * machine.share_in_main(tensor) for tensor, size in held.items())
    sequence = tokens * model.kv_bytes_per_token(precision, layout) + model.kv_bytes_per_sequence(precision, layout)
    sequence *= machine.share_in_main("kv")
    return weights + batch / layout.dp * sequence > FULL * float(tier.capacity) * float(tier.usable)
