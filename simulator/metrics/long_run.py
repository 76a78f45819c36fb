"""What long runs with failures come to: means over drawn histories, and the middle 90 % of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simulator.engine.failures import LongRunPlan, LongRunRecord, long_run, mean_between
from simulator.errors import Problem, ScenarioError

MOST_INTERRUPTIONS = 3_000_000
"""Of all histories together: about a minute of simulation."""


def long_run_summary(
    plan: LongRunPlan, samples: int, seed: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Keys of a summary: time, goodput (effective training time), interruptions, and what they cost.

    Raise ScenarioError for a run of more than MOST_INTERRUPTIONS in all its histories.
    """
    expected = plan.work / mean_between(plan.failures) * samples
    if expected > MOST_INTERRUPTIONS:
        what = f"about {expected:.3g} interruptions in {samples} histories are more than {MOST_INTERRUPTIONS:,}"
        raise ScenarioError(Problem(what, None, "train fewer tokens, use a larger mtbf, or fewer `samples`"))
    histories: list[LongRunRecord] = []
    for number in range(samples if plan.failures else 1):
        histories.append(long_run(plan, seed + number))
        progress(number + 1, samples)

    def mean(name: str) -> float:
        return float(np.mean([getattr(history, name) for history in histories]))

    goodputs = [history.goodput for history in histories]
    elapsed = [history.elapsed for history in histories]
    counts = [sum(history.interruptions.values()) for history in histories]
    return {
        "elapsed_s": mean("elapsed"),
        "elapsed_p5_p95_s": [float(np.quantile(elapsed, q)) for q in (0.05, 0.95)],
        "goodput": mean("goodput"),
        "goodput_p5_p95": [float(np.quantile(goodputs, q)) for q in (0.05, 0.95)],
        "interruptions": float(np.mean(counts)),
        "interruptions_by_component": {
            name: float(np.mean([history.interruptions.get(name, 0) for history in histories]))
            for name in plan.failures
        },
        "lost_work_s": mean("lost"),
        "checkpoint_s": mean("checkpoints"),
        "down_s": mean("down") + mean("waiting"),
        "checkpoint_write_s": plan.write,
        "checkpoint_interval_s": plan.interval,
        "histories": len(histories),
    }
