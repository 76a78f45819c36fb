"""A stack's few numbers from one half of the requests of replays, judged on the other half.

Every run is simulated whole, so the load stays what it was; the errors of the even requests, in order of arrival, lead
the fit and those of the odd ones judge it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from simulator.validation.replay import METRICS, Latencies, Replay, simulate
from simulator.validation.stack_numbers import exchanged, fitted, present

FITTED, TESTED = slice(0, None, 2), slice(1, None, 2)
LED_BY = ("tpot", "e2el")  # an early ttft depends on where in a step the request came


def numbers_of(replays: Sequence[Replay]) -> list[str]:
    """Paths of the numbers that bound these runs: products and weights in their format, the cache, the host, the links.

    Overheads of a layer and of the step are left where they are: weights and overheads grow alike in one model.
    """
    paths = []
    for replay in replays:
        machine, precision = replay.case.machine, replay.case.precision
        paths += [f"matmul.{machine.profile.compute_format(precision.weights)}", f"streaming.{precision.weights}"]
        paths += ["kv_streaming", "sequence_overhead", "vocabulary_overhead"]
        if machine.parallelism.chips > 1:
            pcie = machine.profile.node.fabric.kind == "pcie" and machine.stack.collectives.pcie_bandwidth is not None
            paths.append("collectives.pcie_bandwidth" if pcie else "collectives.bandwidth")
    return present(replays[0].stack, list(dict.fromkeys(paths)))


def fit_half(replays: Sequence[Replay]) -> dict[str, float]:
    """The numbers of the one stack on one chip of these replays, from their even requests."""

    stack = replays[0].stack

    def errors(numbers: Mapping[str, float]) -> np.ndarray:
        changed, found = exchanged(stack, numbers), []
        for replay in replays:
            simulated = simulate(replay, changed)
            for metric in LED_BY:
                e = np.log(simulated[metric][FITTED] / replay.measured[metric][FITTED])
                found.append(e[np.isfinite(e)])
        return np.concatenate(found)

    return fitted(stack, numbers_of(replays), errors)


def half(latencies: Latencies, chosen: slice) -> Latencies:
    """The latencies of every other request."""
    return {metric: latencies[metric][chosen] for metric in METRICS}
