"""Points in closed form: steady states of all points of one model on one machine at once, no events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np

from simulator.cost.amount import Amount
from simulator.cost.steady import Replica, SteadyState
from simulator.errors import RamwiseError
from simulator.metrics.money import money_summary
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
        alike = point.serving.model_dump_json(exclude={"traffic", "seed"}, exclude_none=True)
        groups.setdefault(alike + _odd_lengths(point), {})[key] = point
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
    plain = isinstance(traffic.isl, int) and isinstance(traffic.osl, int) and traffic.longer == "error"
    return "" if plain else traffic.model_dump_json(include={"trace", "isl", "osl", "longer", "requests", "duration"})


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
    loads = [_load(point) for point in points]
    prompt, output = (np.array([load[name] for load in loads]) for name in ("prompt", "output"))
    limits = points[0].serving.limits
    most = np.minimum(float(limits.max_num_seqs), case.sheet.kv_tokens / (prompt + output / 2))
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
        for place, index in enumerate(chosen):
            found[index] = {**_summary(case, state, place, float(output[index])), "quality": expected}
    return found


def _summary(case: Case, state: SteadyState, at: int, output: float) -> dict[str, Any]:
    """The figures of one point: of all replicas, and per output token."""
    machine, replicas = case.machine, case.choice.replicas
    chip, node = machine.profile.chip, machine.profile.node
    chips = machine.parallelism.chips * replicas
    rate = float(state.rate[at]) * replicas
    tokens = rate * output
    power = chips * (float(chip.power.idle) + float(state.joules[at]) + float(node.power.base) / node.chips)
    power *= float(node.power.pue)
    steady = not bool(state.saturated[at])
    seconds = {name: _at(value, at) for name, value in state.step.seconds.items()}
    whole = sum(seconds.values())
    money = money_summary(
        case.hourly,
        case.terms,
        seconds=HOUR_S,
        nodes=chips / node.chips,
        joules=power * HOUR_S,
        output_tokens=max(1, round(tokens * HOUR_S)),
    )
    step_s = float(state.step_s[at])
    return {
        "hardware": machine.profile.name,
        "family": machine.profile.family,
        "stack": machine.stack.name,
        "chips": chips,
        "layout": str(machine.parallelism),
        "saturated": not steady,
        "sustainable_rate": None if steady else rate,
        "request_throughput": rate,
        "output_throughput": tokens,
        "output_throughput_per_chip": tokens / chips,
        "ttft_mean_ms": float(state.first_s[at]) * 1e3 if steady else None,
        "tpot_mean_ms": step_s * 1e3,
        "e2el_mean_ms": (float(state.first_s[at]) + (output - 1) * step_s) * 1e3 if steady else None,
        "running_mean": float(state.batch[at]) * replicas,
        "utilisation": float(state.busy[at]),
        "average_power_w": power,
        "energy_per_output_token_j": power / tokens if tokens else None,
        "cost_per_mtok_usd": money["cost_per_mtok_usd"],
        "bound_by": max(seconds, key=lambda name: seconds[name]) if whole else None,
        "mbu": _moved(state.step, at) / step_s * float(state.busy[at]) / float(machine.memory.bandwidth),
    }


def _at(value: Any, index: int) -> float:
    return float(value[index]) if np.ndim(value) else float(value)


def _moved(step: Amount, index: int) -> float:
    return sum(_at(value, index) for value in step.bytes.values())


def _load(point: Point) -> dict[str, Any]:
    """Mean lengths, and the load: requests a second, or requests that are always there."""
    traffic = point.serving.traffic
    if traffic.trace is not None or not (_plain(traffic.isl) and _plain(traffic.osl)):
        requests = prepare(point.serving, point.source, point.folders)[0].requests
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
