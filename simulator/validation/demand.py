"""What a row says of its requests: when they come, how many, how long they are, and what the software allows."""

from __future__ import annotations

import itertools
import re
from math import sqrt

from simulator.errors import RamwiseError
from simulator.metrics.slo import preset
from simulator.model.parallelism import Parallelism
from simulator.quantity import Known
from simulator.validation import aliases
from simulator.validation.drafting import Drafting
from simulator.validation.load import Arrivals, Lengths, Limits
from simulator.validation.repeats import Sent
from simulator.validation.rows import RefusedError, Row, amount, whole

UNSTATED = 600.0
"""Seconds of a run whose end a row does not state; MLPerf's runs last as long."""

ROUNDS = 10
"""Requests of a closed loop for each one in flight, as vLLM's and InferenceX's benchmarks are run."""

_AT_ONCE = re.compile(r"(inf|offline)\b", re.IGNORECASE)
_RATE = re.compile(r"([\d.]+)\s*(?:qps|req/s|/s)\b", re.IGNORECASE)
_LARGEST = re.compile(r"max rate|SLO-limited", re.IGNORECASE)
_TIGHTER = re.compile(r"tighter", re.IGNORECASE)
_SPREAD = re.compile(r"lengths \+-(\d+)%")
_COUNT = re.compile(r"\b(\d[\d,]*) requests\b")
_ROUND = re.compile(r"MLPerf (?:Inference )?(v[\d.]+)")
_SCENARIO = re.compile(r"\b(Offline|Server|Interactive)\b")
_DEGREE = re.compile(r"(tp|pp|dp|ep)(\d+)")
_LATENCY = re.compile(r"(ttft|tpot|e2el)(?:_ms|_s)?(?:_(mean|p50|p90|p95|p99))?")
_RATES = {
    "output_tokens_per_s_total": "output_rate",
    "output_tokens_per_s_per_chip": "output_rate",
    "total_tokens_per_s": "total_rate",
    "requests_per_s": "request_rate",
    "latency_s": "makespan",
    "system_power_w": "wall_watts",
    "j_per_token": "wall_joules",
}
METERED = ("wall_watts", "wall_joules")
"""Figures of what a system draws: those of MLPerf are read at the wall."""


def figure(metric: str) -> str | None:
    """What a metric is called in the figures of a load; None when no load has it. A bare latency is its mean."""
    found = _LATENCY.fullmatch(metric)
    return f"{found[1]}_{found[2] or 'mean'}" if found else _RATES.get(metric)


def workload(row: Row, model: str) -> aliases.Entry:
    """The entry of the benchmark, the model (by its name in the zoo) and its weights; an empty one where there is
    none."""
    found = aliases.longest("workloads", run=row.run, model=model, weights=row.dtype_weights)
    return found[0] if found else {}


def arrivals(row: Row, known: aliases.Entry) -> Arrivals:
    """When requests come, by the row and what is known of its benchmark and of its system. Without a rate
    `concurrency_or_batch` of them are kept in flight."""
    words = row.request_rate
    count = _COUNT.search(row.note)
    requests = int(count[1].replace(",", "")) if count else None
    seconds = None if requests else float(known.get("seconds") or UNSTATED)
    least = int(known.get("queries_a_chip") or 0) * (whole(row.n_chips) or 1) or int(known.get("queries") or 1)
    rate = _RATE.search(words)
    if _AT_ONCE.match(words):
        return Arrivals(requests=requests, seconds=seconds, least=least, to_the_end=bool(known.get("seconds")))
    if rate:
        return Arrivals(rate=float(rate[1]), requests=requests, seconds=seconds, least=least)
    if _LARGEST.search(words):
        return _within_slo(known, "interactive" if _TIGHTER.search(words) else "server", seconds)
    if words:
        raise RefusedError(f"arrivals '{words}'")
    concurrency = amount(row.concurrency_or_batch)
    if not concurrency or concurrency != int(concurrency):
        raise RefusedError("batch not stated")
    return Arrivals(concurrency=int(concurrency), requests=requests or ROUNDS * int(concurrency))


def assumed(arrivals: Arrivals, known: aliases.Entry) -> str:
    """What was taken because neither the row nor its benchmark says it."""
    return f"length of the run not stated: {UNSTATED:.0f} s" if arrivals.seconds and not known.get("seconds") else ""


def _within_slo(known: aliases.Entry, scenario: str, seconds: float | None) -> Arrivals:
    if not known.get("slo"):
        raise RefusedError("limits of the latency not known")
    if known["speculative"] == scenario:
        raise RefusedError("speculative decoding")
    try:
        return Arrivals(slo=preset(f"{known['slo']}-{scenario}"), seconds=seconds)
    except RamwiseError as error:
        raise RefusedError(str(error)) from None


def lengths(row: Row, known: aliases.Entry) -> tuple[Lengths, Lengths]:
    """Tokens of prompts and answers: means from the row, else from the benchmark; spreads from the benchmark. Where
    run logs tell how long the answers were, that counts in the place of the data set's mean. Lengths drawn evenly
    between a few percent below and above the mean have the deviation of that, spread / sqrt(3)."""
    found, drawn = [], _SPREAD.search(row.note)
    even = int(drawn[1]) / 100.0 / sqrt(3.0) if drawn else 0.0
    for name in ("input", "output"):
        mean = amount(getattr(row, f"{name}_len"))
        if mean is None and known.get(f"{name}_len"):
            mean = float(known[f"{name}_len"])
        if not mean:
            raise RefusedError("lengths not stated")
        if name == "output" and known.get("answered"):
            mean = float(known["answered"])
        longest = known.get(f"{name}_max")
        found.append(Lengths(mean, float(known.get(f"{name}_sigma") or even), int(longest) if longest else None))
    inputs, outputs = found
    return inputs, outputs


def sweep(row: Row, model: str, arrivals: Arrivals, dp: int) -> tuple[tuple[Sent, ...], Drafting | None]:
    """The runs of the row's benchmark before it, if they sent the same prompts to the same server, and how the server
    drafts. Ranks of a data-parallel attention have a cache each, and a prompt rarely meets its own again."""
    entries = aliases.longest("sweeps", engine=row.engine, model=model)
    prompt, output = amount(row.input_len), amount(row.output_len)
    if not entries or not prompt or not output or not arrivals.concurrency:
        return (), None
    drafting = Drafting(int(entries[0]["drafts"]), float(entries[0]["kept"])) if entries[0]["drafts"] else None
    earlier: list[Sent] = []
    for prompts, clients in (part.split(":") for part in entries[0]["runs"].split(";")):
        for run in itertools.product(map(int, prompts.split()), map(int, clients.split())):
            if run == (round(prompt), arrivals.concurrency):
                return tuple(earlier) if dp == 1 else (), drafting
            earlier.append(Sent(ROUNDS * run[1], run[0], round(output)))
    return (), drafting


def system(row: Row, model: str) -> aliases.Entry:
    """How the submission of a benchmark's round set up the model (by its name in the zoo) for the row's scenario, by
    the configurations published with its results; an empty entry where none is known."""
    round_, scenario = _ROUND.search(row.run), _SCENARIO.search(row.run)
    if not round_:
        return {}
    words = {"round": round_[1], "scenario": scenario[0] if scenario else ""}
    found = aliases.longest("systems", engine=row.engine, chip=row.hardware, model=model, **words)
    return found[0] if found else {}


def layout(row: Row, known: aliases.Entry) -> Parallelism | None:
    """The layout that is published of the row's system ("tp2 pp2") or in the settings of its software, if any."""
    degrees = {name: int(degree) for name, degree in _DEGREE.findall(known.get("layout", ""))}
    tp = _limits(row)["tp"]
    return Parallelism(**degrees) if degrees else Parallelism(tp=int(tp)) if tp else None


def limits(row: Row, known: aliases.Entry, over: Parallelism) -> Limits:
    """Those of the row's system, of each rank of the attention and stage of the layout `over`; or else those of its
    software in the run."""
    if known:
        ranks = over.dp * over.pp
        tokens = ranks * int(known["max_num_batched_tokens"])
        seqs = min(ranks * int(known["max_num_seqs"]), tokens)  # each takes a token of a step
        return Limits(seqs, tokens, float(known["memory"]), of_free=True, held=float(known["held"]))
    entry = _limits(row)
    habits = [(name, Known(float(entry[name]))) for name in ("admission_interval", "admission_least") if entry[name]]
    return Limits(
        int(entry["max_num_seqs"]),
        int(entry["max_num_batched_tokens"]),
        float(entry["memory"]),
        entry["of_free"] == "yes",
        entry["whole"] == "yes",
        tuple(habits),
        entry["of_rank"] == "yes",
    )


def _limits(row: Row) -> aliases.Entry:
    return aliases.longest("limits", run=row.run, chip=row.hardware, model=row.model, engine=row.engine)[0]
