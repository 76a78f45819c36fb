"""Points in closed form: steady states of all points of one model on one machine at once, no events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np

from simulator.cost.amount import NETWORK
from simulator.cost.money import MTOK
from simulator.cost.steady import Replica, SteadyState
from simulator.errors import RamwiseError
from simulator.metrics.messages import message_summary
from simulator.model.quality import quality
from simulator.scenario import Length, LogNormal, Uniform
from simulator.serve import Case, prepare
from simulator.study.point import Point
from simulator.study.steady_pools import pool_figures, pools_of

HOUR_S = 3600.0


def steady_summaries(points: Mapping[str, Point]) -> Iterator[tuple[str, dict[str, Any] | RamwiseError]]:
    """(key, figures) of each point, by the keys of a run's summary as far as a steady state has them.

    Latencies are means (ttft without waiting for a place in the batch); a saturated point has none. Points that differ
    in their traffic alone are computed together.
    """
    groups: dict[str, dict[str, Point]] = {}
    for key, point in points.items():
        groups.setdefault(point.alike + _odd_lengths(point), {})[key] = point
    for group in groups.values():
        first = min(group.values(), key=_longest)
        try:
            case = prepare(first.serving, first.source, first.folders)[0]
        except RamwiseError as error:
            yield from ((key, error) for key in group)
            continue
        fitting = {key: point for key, point in group.items() if _fits(point, case)}
        yield from zip(fitting, _together(case, list(fitting.values())) if fitting else (), strict=True)
        for key in group.keys() - fitting.keys():
            yield key, _refusal(group[key])


def _odd_lengths(point: Point) -> str:
    """What sets a point's lengths apart, where they are not two plain numbers; its group is then prepared with them."""
    traffic = point.serving.traffic
    if isinstance(traffic.isl, int) and isinstance(traffic.osl, int) and traffic.longer == "error":
        return ""
    lengths = traffic.model_dump_json(include={"trace", "isl", "osl", "longer", "requests", "duration"})
    return f"{lengths} {point.serving.seed}"


def _longest(point: Point) -> int:
    """Tokens of a point's requests where all are alike; 0 where its group is checked as a whole."""
    traffic = point.serving.traffic
    return 0 if _odd_lengths(point) else int(traffic.isl) + int(traffic.osl)  # type: ignore[arg-type]


def _fits(point: Point, case: Case) -> bool:
    """Whether the point's requests fit the context and the caches of its case, which another point has made."""
    longest = _longest(point)
    prompt = longest and int(point.serving.traffic.isl)  # type: ignore[arg-type]
    within = case.prefill is None or prompt <= case.prefill.room
    return within and longest <= min(case.architecture.max_context, case.room)


def _refusal(point: Point) -> RamwiseError:
    """Why a point whose requests are too long cannot run, as its own run says it."""
    try:
        prepare(point.serving, point.source, point.folders)
    except RamwiseError as error:
        return error
    raise AssertionError("requests longer than the context or the cache were let through")


def _together(case: Case, points: Sequence[Point]) -> list[dict[str, Any]]:
    loads = [_load(point, case) for point in points]
    prompt, output = (np.array([load[name] for load in loads]) for name in ("prompt", "output"))
    limits = points[0].serving.limits
    most = np.minimum(float(limits.max_num_seqs), case.requests_held(prompt, output))
    replicas = case.choice.replicas
    expected = quality(case.architecture, case.precision, float(points[0].serving.training_tokens)).summary()
    found: list[dict[str, Any]] = [{} for _ in points]
    for by_rate in (True, False):
        chosen = np.array([index for index, load in enumerate(loads) if load["by_rate"] == by_rate], dtype=int)
        if not len(chosen):
            continue
        replica = Replica(case.architecture, case.precision, case.machine, prompt[chosen], output[chosen], most[chosen])
        load = np.array([loads[index]["load"] for index in chosen])
        if case.prefill is not None:
            both = pools_of(case, prompt[chosen], output[chosen])
            halves = both.at_rate(load) if by_rate else both.at_users(load)
            for place, index in enumerate(chosen):
                figures = pool_figures(case, both, halves, place, float(output[index]))
                found[index] = {**figures, "quality": expected}
            continue
        load = load / replicas
        state = replica.at_rate(load) if by_rate else replica.at_batch(load)
        for index, figures in zip(chosen, _summaries(case, state, output[chosen]), strict=True):
            found[index] = {**figures, "quality": expected}
    return found


def _summaries(case: Case, state: SteadyState, output: np.ndarray) -> Iterator[dict[str, Any]]:
    """The figures of each point: of all replicas, and per output token."""
    machine, replicas = case.machine, case.choice.replicas
    chip, node = machine.profile.chip, machine.profile.node
    chips = machine.parallelism.chips * replicas
    rate = state.rate * replicas
    tokens = rate * output
    power = chips * (float(chip.power.idle) + state.joules + float(node.power.base) / node.chips)
    power = power * float(node.power.pue)
    seconds = _columns(state.step.seconds, len(rate))
    bounds = np.array([*seconds, None], dtype=object)
    most = np.argmax(np.stack(list(seconds.values())), axis=0)
    idle = np.sum(list(seconds.values()), axis=0) == 0
    moved = np.sum(list(_columns(state.of_all.bytes, len(rate)).values()), axis=0)
    nothing = np.full(len(rate), None, dtype=object)
    held = ~state.saturated
    money: list[Any] = [None] * len(rate)
    if case.hourly is not None:
        spent = sum(case.hourly.of(HOUR_S, chips / node.chips, power * HOUR_S).values())  # type: ignore[arg-type]
        money = (spent / np.maximum(1, np.round(tokens * HOUR_S)) * MTOK).tolist()
    same = {
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "stack": machine.stack.name,
        "chips": chips,
        "layout": str(machine.parallelism),
    }
    columns = {
        "saturated": state.saturated,
        "sustainable_rate": np.where(held, nothing, rate),
        "request_throughput": rate,
        "output_throughput": tokens,
        "output_throughput_per_chip": tokens / chips,
        "ttft_mean_ms": np.where(held, state.first_s * 1e3, nothing),
        "tpot_mean_ms": state.token_s * 1e3,
        "e2el_mean_ms": np.where(held, (state.first_s + (output - 1) * state.token_s) * 1e3, nothing),
        "running_mean": state.batch * replicas,
        "utilisation": state.busy,
        "average_power_w": power,
        "energy_per_output_token_j": np.where(tokens > 0, power / np.maximum(tokens, 1e-300), nothing),
        "cost_per_mtok_usd": money,
        "bound_by": bounds[np.where(idle, -1, most)],
        "mbu": moved / state.step_s * state.busy / float(machine.memory.bandwidth),
    }
    rows, messages = _rows(columns), _rows(_messages(case, state, output))
    for index, row in enumerate(rows):
        yield {**same, **row, "messages": messages[index] if machine.parallelism.chips > 1 else None}


def _messages(case: Case, state: SteadyState, output: np.ndarray) -> dict[str, Any]:
    """Of the mean step of one replica, and of the time that it stands for."""
    span = state.step_s / state.busy
    network = np.asarray(state.step.seconds.get(NETWORK, 0.0))
    found = message_summary(state.of_all, network, state.step_s, span, state.rate * output * span, case.machine)
    return _columns(found, len(state.rate))


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A dict for each entry of the columns."""
    listed = [value.tolist() if isinstance(value, np.ndarray) else value for value in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*listed, strict=True)]


def _columns(parts: Mapping[str, Any], count: int) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.asarray(value, dtype=float), (count,)) for name, value in parts.items()}


def _load(point: Point, case: Case) -> dict[str, Any]:
    """Mean lengths, and the load: requests a second, or requests that are always there. Lengths that are drawn are
    those of the case, unless it depends on the load how many there are."""
    traffic = point.serving.traffic
    if traffic.trace is not None or not (_plain(traffic.isl) and _plain(traffic.osl)):
        alike = traffic.trace is None and traffic.duration is None
        requests = case.requests if alike else prepare(point.serving, point.source, point.folders)[0].requests
        prompt, output = float(requests.input_tokens.mean()), float(requests.output_tokens.mean())
        span = float(requests.arrival_s[-1] - requests.arrival_s[0]) if len(requests) > 1 else 0.0
    else:
        prompt, output, span = _mean(traffic.isl), _mean(traffic.osl), 0.0
    lengths = {"prompt": prompt, "output": max(1.0, output)}
    if traffic.concurrency is not None:
        return {**lengths, "by_rate": False, "load": float(traffic.concurrency)}
    if traffic.offline:
        return {**lengths, "by_rate": False, "load": float("inf")}
    if traffic.request_rate is not None:
        return {**lengths, "by_rate": True, "load": float(traffic.request_rate)}
    return {**lengths, "by_rate": True, "load": (len(requests) - 1) / span if span else float("inf")}


def _plain(length: Length | None) -> bool:
    """Whether a length has a mean in closed form."""
    return not (isinstance(length, LogNormal) and length.max is not None)


def _mean(length: Length | None) -> float:
    if isinstance(length, LogNormal):
        median, sigma = length.lognormal
        return float(median) * exp(float(sigma) ** 2 / 2)
    if isinstance(length, Uniform):
        return sum(length.uniform) / 2
    return float(length or 0)
