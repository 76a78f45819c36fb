"""Replays: a recorded run of a serving engine, request by request, against the same arrivals in the event engine.

One line of CSV a request: arrival_s, input_tokens, output_tokens, and what was measured, queued_ms, ttft_ms, e2el_ms.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from simulator.errors import Problem, Where, nearest
from simulator.metrics.latency import e2el_s, tpot_s, ttft_s
from simulator.scenario import Scenario, read_scenario
from simulator.serve import Case, execute, prepare
from simulator.stack.stack import Stack
from simulator.validation.rows import FOLDER, MeasurementError

METRICS = ("queue", "ttft", "tpot", "e2el")
MEASURED = ("queued_ms", "ttft_ms", "e2el_ms")
CONDITIONS = FOLDER / "replays" / "replay.yaml"
"""The scenario that a replay runs under, but for what its name says."""

_NAME = re.compile(r"(?P<hardware>[^_]+)_(?P<model>[^_]+)(?P<degrees>(?:_(?:tp|pp|dp|ep)[1-9]\d*)*)")
_DEGREE = re.compile(r"_(tp|pp|dp|ep)(\d+)")

Latencies = dict[str, np.ndarray]
"""Metric -> seconds, one entry a request in order of arrival; NaN where a request has none."""


@dataclass(frozen=True)
class Replay:
    """A recorded run: the scenario that repeats it, and what was measured."""

    name: str
    scenario: Scenario
    case: Case
    measured: Latencies

    @property
    def stack(self) -> Stack:
        """The stack, with its numbers on this chip."""
        return self.case.machine.stack


def shipped_replays() -> list[Path]:
    """The runs that come with ramwise."""
    return sorted((FOLDER / "replays").glob("*.csv"))


def read_replay(
    path: str | Path, changes: Sequence[str] = (), *, stack: str | None = None, profiles: Sequence[Path] = ()
) -> Replay:
    """The run in a CSV file called HARDWARE_MODEL_tpN.csv; `changes` ("limits.max_num_seqs=256") change its conditions.

    Raise MeasurementError, ScenarioError, TraceError with what is wrong in the file or in the conditions.
    """
    path = Path(path)
    stated = [f"traffic.trace={json.dumps(str(path.resolve()))}", *_named(path, changes)]
    stated += [f"machines[0].stack={stack}"] if stack else []
    scenario, source = read_scenario(CONDITIONS, (*stated, *changes))
    measured_ms = _columns(path)
    cases = prepare(scenario, source, profiles)
    if len(cases) != 1:
        raise MeasurementError(f"a replay is one model on one machine; these conditions make {len(cases)}")
    workload = cases[0].requests
    if len(workload) != len(measured_ms["e2el_ms"]):
        raise MeasurementError(f"{path}: {len(workload)} of its requests would be replayed; leave `traffic` as it is")
    ttft, e2el = measured_ms["ttft_ms"] / 1e3, measured_ms["e2el_ms"] / 1e3
    later = workload.output_tokens - 1
    tpot = np.full(len(later), np.nan)
    np.divide(e2el - ttft, later, out=tpot, where=later > 0)
    measured = {"queue": measured_ms["queued_ms"] / 1e3, "ttft": ttft, "tpot": tpot, "e2el": e2el}
    return Replay(path.stem, scenario, cases[0], measured)


def _named(path: Path, changes: Sequence[str]) -> list[str]:
    """What the file's name says, as changes of the conditions."""
    named = _NAME.fullmatch(path.stem)
    if named is None:
        given = {change.partition("=")[0].strip() for change in changes}
        if {"model", "machines[0].hardware"} <= given:
            return []
        raise MeasurementError(
            Problem(
                f"its name does not say what ran: '{path.name}'",
                Where(str(path)),
                "call it HARDWARE_MODEL_tpN.csv, or add --set model=MODEL --set machines[0].hardware=HARDWARE",
            )
        )
    degrees = [f"machines[0].{name}={value}" for name, value in _DEGREE.findall(named["degrees"])]
    return [f"machines[0].hardware={named['hardware']}", f"model={named['model']}", *degrees]


def _columns(path: Path) -> dict[str, np.ndarray]:
    """The measured columns, in ms. The trace reader checks the others."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            problems = [_missing(name, header, path) for name in MEASURED if name not in header]
            records = [] if problems else [(reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MeasurementError(Problem(f"cannot read a replay: {why}", Where(str(path)))) from error
    columns: dict[str, list[float]] = {name: [] for name in MEASURED}
    for line, record in records:
        if any(record.get(name) is None for name in MEASURED):
            continue  # a line that is cut short: the trace reader tells
        queued, ttft, e2el = (_number(record.get(name)) for name in MEASURED)
        if not 0.0 <= queued <= ttft <= e2el or ttft == 0.0:
            what = ", ".join(f"{name} {record.get(name)}" for name in MEASURED)
            mend = "each is a time in ms, none is shorter than the one before it"
            problems.append(Problem(f"these cannot be times of one request: {what}", Where(str(path), line), mend))
            continue
        for name, value in zip(MEASURED, (queued, ttft, e2el), strict=True):
            columns[name].append(value)
    if problems:
        raise MeasurementError(problems)
    return {name: np.array(values) for name, values in columns.items()}


def _missing(name: str, header: Sequence[str], path: Path) -> Problem:
    close = nearest(name, header)
    mend = (
        f"is '{close}' meant?" if close else "a replay has arrival_s,input_tokens,output_tokens," + ",".join(MEASURED)
    )
    return Problem(f"no column '{name}'", Where(str(path), 1), mend)


def _number(text: str | None) -> float:
    """NaN, which no comparison holds for, where there is none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return float("nan")
    return value if isfinite(value) else float("nan")


def simulate(replay: Replay, stack: Stack | None = None, slower: float = 1.0) -> Latencies:
    """The engine's latencies for the same arrivals; `stack` in place of the replay's own.

    slower: every step takes so many times as long. In units of a step that is the same run with arrivals that much
    closer, so the arrivals are divided and the latencies multiplied.
    """
    case = replay.case
    if stack is not None:
        case = replace(case, machine=replace(case.machine, stack=stack))
    if slower != 1.0:
        case = replace(case, requests=replace(case.requests, arrival_s=case.requests.arrival_s / slower))
    requests = execute(case, replay.scenario, None).records.requests
    queue = requests.scheduled_s - requests.arrival_s
    found = {"queue": queue, "ttft": ttft_s(requests), "tpot": tpot_s(requests), "e2el": e2el_s(requests)}
    return {metric: slower * seconds for metric, seconds in found.items()}
