"""Recorded traffic: the Azure, Mooncake and Vidur trace formats, and what may be done to a trace before it is replayed.

Formats, recognised by the first line:
    Azure 2023      TIMESTAMP,ContextTokens,GeneratedTokens      wall clock, 100 ns digits   (Azure/AzurePublicDataset)
    plain, Vidur's  arrived_at,num_prefill_tokens,num_decode_tokens, or arrival_s,input_tokens,output_tokens    seconds
    Mooncake        one JSON object a line: timestamp (ms), input_length, output_length, hash_ids (optional)
Columns stand in any order, further ones are passed over.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.random import Generator

from simulator.engine.traffic import MOST_TOKENS, Workload
from simulator.errors import Problem, ScenarioError, TraceError, Where, nearest

TIME, INPUT, OUTPUT = "time", "input tokens", "output tokens"

CSV_COLUMNS = {
    "timestamp": TIME,
    "arrived_at": TIME,
    "arrival_s": TIME,
    "contexttokens": INPUT,
    "num_prefill_tokens": INPUT,
    "input_tokens": INPUT,
    "generatedtokens": OUTPUT,
    "num_decode_tokens": OUTPUT,
    "output_tokens": OUTPUT,
}
"""Header (lower case) -> what the column holds. A `timestamp` is a wall clock, the other times are seconds."""

JSON_KEYS = {"timestamp": TIME, "input_length": INPUT, "output_length": OUTPUT}

EXPECTED = (
    "expected TIMESTAMP,ContextTokens,GeneratedTokens or arrival_s,input_tokens,output_tokens, "
    'or JSON lines {"timestamp": ms, "input_length": ..., "output_length": ...}'
)

SHOWN = 5
"""Bad rows that a message names; it counts the rest."""

_CLOCK = re.compile(r"(?:19|20|21)\d\d-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_SECONDS = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?\s*", re.ASCII)
_TOKENS = re.compile(r"\s*[+-]?\d{1,15}(?:\.0*)?\s*", re.ASCII)

Place = Callable[[int], Where]
"""Row number -> where its value stands."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A trace as recorded. arrival_s: [n] s since its first request; line: [n] line of the file, from 1.

    prefix_blocks: for each request the ids of its prompt's blocks of 512 tokens, where asked for and recorded; equal
    ids are equal prefixes.
    """

    file: str
    arrival_s: np.ndarray
    input_tokens: np.ndarray
    output_tokens: np.ndarray
    line: np.ndarray
    prefix_blocks: tuple[tuple[int, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.arrival_s)


def from_trace(
    path: str | os.PathLike[str],
    *,
    speed: float = 1.0,
    requests: int | None = None,
    duration_s: float | None = None,
    jitter_s: float | None = None,
    rng: Generator | None = None,
) -> Workload:
    """Read a trace for replay. In this order:

    requests, duration_s: only its first n requests, only those of its first seconds (the trace's own time).
    jitter_s: the width of the recording's tick (3 s in Mooncake's conversation trace, whose 12,031 requests share 1,180
        time stamps). Each request moves later by a uniform draw from [0, jitter_s), or up to the next time stamp where
        that comes sooner; their order stays. Needs `rng`.
    speed: 2.0 replays twice as fast.
    Raises TraceError: see `read_trace`; a limit that the trace cannot meet. ScenarioError: an option out of its range.
    """
    for name, value in (("speed", speed), ("duration", duration_s), ("jitter", jitter_s)):
        if value is not None and not (isfinite(value) and value > 0):
            raise ScenarioError(Problem(f"traffic: {name} is {value:g}", mend="write a value above 0, or leave it out"))
    if requests is not None and requests < 1:
        raise ScenarioError(Problem(f"traffic: requests is {requests}", mend="write 1 or more, or leave it out"))
    trace = read_trace(path)
    if requests is not None and requests > len(trace):
        raise TraceError(
            Problem(
                f"{requests:,} requests were asked for and the trace holds {len(trace):,}",
                Where(trace.file),
                f"write requests: {len(trace)}, or leave it out",
            )
        )
    count = len(trace) if requests is None else requests
    if duration_s is not None:
        count = min(count, int(np.searchsorted(trace.arrival_s, duration_s, side="left")))
    arrival_s = trace.arrival_s[:count]
    notes = [] if count == len(trace) else [f"the first {count:,} of {len(trace):,} requests"]
    if jitter_s is not None:
        if rng is None:
            raise ValueError("jitter_s needs rng")
        arrival_s = _jitter(arrival_s, jitter_s, rng)
        notes.append(f"arrivals spread over {jitter_s:g} s ticks")
    if speed != 1.0:
        arrival_s = arrival_s / speed
        notes.append(f"replayed {speed:g} times as fast")
    return Workload(
        arrival_s,
        trace.input_tokens[:count],
        trace.output_tokens[:count],
        note=", ".join(notes) or "as recorded",
        file=trace.file,
        line=trace.line[:count],
    )


def _jitter(arrival_s: np.ndarray, tick_s: float, rng: Generator) -> np.ndarray:
    stamps, which = np.unique(arrival_s, return_inverse=True)
    width = np.minimum(np.diff(stamps, append=np.inf), tick_s)
    # Sorting only moves requests within their tick: the ticks do not overlap.
    return np.sort(arrival_s + rng.random(len(arrival_s)) * width[which])


def read_trace(path: str | os.PathLike[str], *, prefix_blocks: bool = False) -> Trace:
    """Read a trace file of any known format.

    Raises TraceError with file:line:column: no such file, not text, empty, an unknown header or a missing column,
    a truncated line, a value that is no number, a length below 1, a request before the one above it.
    """
    file = os.fspath(path)
    text = _text(file)
    lines = text.rstrip().split("\n")
    if not lines[0].strip():
        what = "the trace is empty" if len(lines) == 1 else "the first line is blank"
        raise TraceError(Problem(what, Where(file, 1), EXPECTED))
    return _read_json(file, lines, prefix_blocks) if lines[0].lstrip().startswith("{") else _read_csv(file, lines)


def _text(file: str) -> str:
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return stream.read()
    except FileNotFoundError:
        folder = Path(file).parent
        close = nearest(Path(file).name, os.listdir(folder)) if folder.is_dir() else None
        mend = f"did you mean '{folder / close}'?" if close else "give the path of a trace"
        raise TraceError(Problem("no such trace", Where(file), mend)) from None
    except UnicodeDecodeError:
        raise TraceError(Problem("this is not UTF-8 text", Where(file), "unpack it first, if it is packed")) from None
    except OSError as error:
        raise TraceError(Problem(f"cannot be read: {error.strerror}", Where(file))) from None


def _read_csv(file: str, lines: list[str]) -> Trace:
    header = [name.strip() for name in lines[0].split(",")]
    columns = _columns(file, header)
    width, rows, short = len(header), [], []
    for number, text in enumerate(lines[1:], 2):
        row = text.split(",")
        if len(row) != width:
            what = f"{len(row)} columns where the header has {width}" if text.strip() else "a blank line"
            cut = "the file is cut short here: " if number == len(lines) and len(row) < width else ""
            short.append(Problem(cut + what, Where(file, number, 1), "mend the line or remove it"))
        rows.append(row)
    _raise(short)
    if not rows:
        raise TraceError(Problem("the trace has a header and no request", Where(file, 1), "write one request a line"))

    def place(column: int) -> Place:
        return lambda row: Where(file, row + 2, 1 + sum(len(cell) + 1 for cell in rows[row][:column]))

    texts = {kind: [row[column] for row in rows] for kind, column in columns.items()}
    places = {kind: place(column) for kind, column in columns.items()}
    clock = header[columns[TIME]].lower() == "timestamp"
    times = (_CLOCK, "a time such as 2023-11-16 18:15:46.6805900") if clock else (_SECONDS, "a time in seconds")
    tokens = (_TOKENS, "a whole number of tokens")
    _raise(*(_mismatches(texts[kind], *(times if kind == TIME else tokens), places[kind]) for kind in columns))
    arrival_s = _clock(texts[TIME], places[TIME]) if clock else np.array(texts[TIME], dtype=np.float64)
    line = np.arange(2, len(rows) + 2)
    lengths = {kind: np.array([int(float(text)) for text in texts[kind]], dtype=np.int64) for kind in (INPUT, OUTPUT)}
    return _checked(file, arrival_s, lengths, line, places)


def _columns(file: str, header: list[str]) -> dict[str, int]:
    """What -> which column; every one must be there, once."""
    columns: dict[str, int] = {}
    position, positions = 1, []
    for number, name in enumerate(header):
        positions.append(position)
        position += len(name) + 1
        kind = CSV_COLUMNS.get(name.lower())
        if kind in columns:
            what = f"a second column of {kind}, '{name}' beside '{header[columns[kind]]}'"
            raise TraceError(Problem(what, Where(file, 1, position), "keep one of them"))
        if kind is not None:
            columns[kind] = number
    if not columns:
        shown = ",".join(header)
        raise TraceError(
            Problem(f"unknown header '{shown[:60]}{'...' if len(shown) > 60 else ''}'", Where(file, 1, 1), EXPECTED)
        )
    problems = []
    for kind in (TIME, INPUT, OUTPUT):
        if kind not in columns:
            names = [name for name, holds in CSV_COLUMNS.items() if holds == kind]
            close = next(
                (given for given in header if given.lower() not in CSV_COLUMNS and nearest(given, names)), None
            )
            where = Where(file, 1, positions[header.index(close)] if close else None)
            mend = f"is '{close}' meant for '{nearest(close, names)}'?" if close else f"write one of {', '.join(names)}"
            problems.append(Problem(f"no column of {kind}", where, mend))
    _raise(problems)
    return columns


def _mismatches(texts: Sequence[str], pattern: re.Pattern[str], wanted: str, place: Place) -> list[Problem]:
    match = pattern.fullmatch
    return [
        Problem(f"'{text.strip()[:40]}' is not {wanted}", place(row), "mend the line or remove it")
        for row, text in enumerate(texts)
        if not match(text)
    ]


def _clock(texts: list[str], place: Place) -> np.ndarray:
    """Wall-clock times as s since the first, exact to the ns."""
    zones = [match.group(1) or "" for match in map(_CLOCK.fullmatch, texts) if match]
    if len(set(zones)) > 1:
        row = next(row for row, zone in enumerate(zones) if zone != zones[0])
        what = f"the time zone changes from '{zones[0]}' to '{zones[row]}'"
        raise TraceError(Problem(what, place(row), "write every time in the same zone"))
    cut = len(zones[0])
    naive = [text[: len(text) - cut] for text in texts] if cut else texts
    try:
        since = np.array(naive, dtype="datetime64[ns]")
    except ValueError:
        _raise(_not_a_date(naive, place))
        raise
    return np.asarray((since - since[0]).astype(np.int64) / 1e9)


def _not_a_date(texts: list[str], place: Place) -> Iterable[Problem]:
    for row, text in enumerate(texts):
        try:
            np.datetime64(text, "ns")
        except ValueError:
            yield Problem(f"'{text}' is not a date and time that exists", place(row), "mend the line or remove it")


def _read_json(file: str, lines: list[str], prefix_blocks: bool) -> Trace:
    values: dict[str, list[float]] = {key: [] for key in JSON_KEYS}
    blocks: list[tuple[int, ...]] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            cut = "the file is cut short here: " if number == len(lines) and number > 1 else ""
            where = Where(file, number, getattr(error, "colno", 1))
            problems.append(Problem(f"{cut}not a JSON object ({error})", where, "mend the line or remove it"))
            continue
        if not isinstance(entry, dict):
            problems.append(Problem("not a JSON object", Where(file, number, 1), EXPECTED))
            continue
        for key, column in values.items():
            value = entry.get(key)
            if _is_number(value, whole=JSON_KEYS[key] != TIME):
                column.append(value)
            else:
                problems.append(_bad_entry(key, entry, Where(file, number, max(line.find(f'"{key}"'), 0) + 1)))
        if prefix_blocks and isinstance(entry.get("hash_ids"), list):
            blocks.append(tuple(entry["hash_ids"]))
    _raise(problems)
    place = {kind: _place_of_key(file, lines, key) for key, kind in JSON_KEYS.items()}
    arrival_s = np.array(values["timestamp"], dtype=np.float64) / 1e3
    lengths = {
        INPUT: np.array(values["input_length"], dtype=np.int64),
        OUTPUT: np.array(values["output_length"], dtype=np.int64),
    }
    trace = _checked(file, arrival_s, lengths, np.arange(1, len(lines) + 1), place)
    return replace(trace, prefix_blocks=tuple(blocks)) if len(blocks) == len(lines) else trace


def _place_of_key(file: str, lines: list[str], key: str) -> Place:
    return lambda row: Where(file, row + 1, lines[row].find(f'"{key}"') + 1)


def _is_number(value: object, whole: bool) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e15 < value < 1e15:
        return False
    return not whole or value == int(value)


def _bad_entry(key: str, entry: dict[str, Any], where: Where) -> Problem:
    if key in entry:
        wanted = "a time in ms" if JSON_KEYS[key] == TIME else "a whole number of tokens"
        return Problem(f"{key} is {json.dumps(entry[key])[:40]}, not {wanted}", where, "mend the line or remove it")
    close = nearest(key, (name for name in entry if name not in JSON_KEYS))
    return Problem(f"no {key}", where, f"is '{close}' meant for it?" if close else EXPECTED)


def _checked(
    file: str, time_s: np.ndarray, lengths: dict[str, np.ndarray], line: np.ndarray, places: dict[str, Place]
) -> Trace:
    """The trace, if its times are in order and its lengths within reason."""
    problems = [
        Problem(
            f"this request comes {time_s[row - 1] - time_s[row]:g} s before the one above it",
            places[TIME](row),
            "sort the lines by time",
        )
        for row in (np.flatnonzero(np.diff(time_s) < 0) + 1).tolist()
    ]
    for kind, tokens in lengths.items():
        problems += [
            Problem(
                f"{tokens[row]:,} {kind}", places[kind](row), f"a request has 1 to {MOST_TOKENS:,}; remove the line"
            )
            for row in np.flatnonzero((tokens < 1) | (tokens > MOST_TOKENS)).tolist()
        ]
    _raise(problems)
    return Trace(file, time_s - time_s[0], lengths[INPUT], lengths[OUTPUT], line)


def _raise(*found: Iterable[Problem]) -> None:
    """Raise what was found, in the order of the lines; the first few by name."""
    problems = [problem for some in found for problem in some]
    if not problems:
        return
    problems.sort(key=_position)
    if len(problems) > SHOWN:
        file = problems[0].where.file if problems[0].where else ""
        problems = [*problems[:SHOWN], Problem(f"and {len(problems) - SHOWN:,} more lines like these", Where(file))]
    raise TraceError(problems)


def _position(problem: Problem) -> tuple[int, int]:
    where = problem.where
    return (where.line or 0, where.column or 0) if where else (0, 0)
