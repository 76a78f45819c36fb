"""What a training run comes to: the whole run with its failures, and the figures of its summary."""

from __future__ import annotations

from math import ceil
from typing import Any

from simulator.cost.training.power import Power
from simulator.cost.training.step import StepTime
from simulator.engine.failures import FailureKind, LongRunPlan, mean_between, optimal_interval
from simulator.engine.pipeline import PipelineRecord
from simulator.engine.stragglers import Stragglers
from simulator.errors import Problem, ScenarioError
from simulator.metrics.long_run import long_run_summary
from simulator.metrics.training import HFU, MFU, step_rates
from simulator.model.training.recompute import recompute_text
from simulator.progress import Progress
from simulator.provenance import label_counts, weakest
from simulator.scenario import TrainingScenario
from simulator.train.case import TrainingCase

DAY_S, HOUR_S = 86_400.0, 3600.0
HOPELESS = 3.0
"""Failures in the time of one checkpoint from which a run gets nowhere: one interval in 20 would be kept."""


def whole_run(scenario: TrainingScenario, case: TrainingCase, work: float, progress: Progress) -> dict[str, Any]:
    """Wall time with checkpoints and failures: mean over the drawn histories, and the middle 90 % of them."""
    given, checkpoints, chips = scenario.failures, scenario.checkpoints, case.machine.chips
    size = case.architecture.total_parameters() * (case.recipe.weight_bytes + case.recipe.optimizer_bytes)
    write = size / float(checkpoints.bandwidth)
    pause = write if checkpoints.mode == "sync" else float(checkpoints.pause)
    kinds = (
        {name: FailureKind(float(part.mtbf) / chips, float(part.shape)) for name, part in given.components.items()}
        if given
        else {}
    )
    restart = (float(given.restart) if given else 0.0) + write
    detection = float(given.detection) if given else 0.0
    best = optimal_interval(pause, write, mean_between(kinds), detection + restart) if kinds else work
    interval = best if checkpoints.interval == "auto" else float(checkpoints.interval)
    cycle, between = interval + max(write, pause), mean_between(kinds)
    if cycle > HOPELESS * between:
        what = (
            f"a failure every {between:.3g} s lets no checkpoint through, which takes {cycle:.3g} s with its interval"
        )
        raise ScenarioError(Problem(what, None, "use a larger mtbf, fewer chips, or a shorter checkpoints.interval"))
    plan = LongRunPlan(
        work,
        max(min(interval, work), 1e-6),
        pause,
        max(write, pause),
        kinds,
        detection,
        restart,
        float(given.manual) if given else 0.0,
        float(given.manual_time) if given else 0.0,
        given.spares if given else None,
        float(given.repair) if given else 0.0,
    )
    title = f"histories of {case.title}"
    return long_run_summary(plan, scenario.samples, scenario.seed, lambda done, of: progress(title, done, of)) | {
        "checkpoint_bytes": size,
        "optimal_interval_s": best if kinds else None,
    }


def summary(
    case: TrainingCase,
    cost: StepTime,
    record: PipelineRecord,
    slow: Stragglers | None,
    power: Power,
    steps: int,
    tokens: float,
    growth: float,
    whole: dict[str, Any],
) -> dict[str, Any]:
    machine, layout, recipe = case.machine, case.layout, case.recipe
    nodes = machine.chips / machine.profile.node.chips
    elapsed = whole["elapsed_s"]
    # Chips that wait for a restart idle; it is a small share, and counted at full power.
    joules = {name: getattr(power, name) * elapsed for name in ("chips", "nodes", "facility")}
    spent = case.hourly.of(elapsed, nodes, joules["facility"]) if case.hourly else None
    slowest = max(cost.stages, key=lambda stage: stage.both)
    parts = {name: seconds * cost.micro_batches for name, seconds in slowest.parts.items() if seconds}
    waits = cost.pipeline * (1.0 - 1.0 / slow.ratio) if slow else 0.0
    parts |= {"bubble": cost.pipeline - waits - cost.micro_batches * slowest.both, "stragglers": waits}
    parts |= {"gradients": cost.gradients, "slices": cost.slices, "optimizer": cost.optimizer, "jitter": cost.jitter}
    exposed = sum(parts.get(name, 0.0) for name in ("tp", "ep", "cp", "fsdp", "gradients", "slices"))
    return {
        "machine": case.name,
        "model": case.architecture.name,
        "stack": machine.stack.name,
        "labels": label_counts(machine.profile, machine.stack),
        "label": weakest((machine.profile.weakest_label(), machine.stack.weakest_label())),
        "chips": machine.chips,
        "nodes": ceil(nodes),
        "layout": str(layout),
        "schedule": case.schedule,
        "recompute": recompute_text(recipe.recompute),
        "global_batch": recipe.global_batch,
        "micro_batch": recipe.micro_batch,
        "sequence_length": recipe.length,
        "micro_batches": cost.micro_batches,
        "step_s": cost.seconds,
        **step_rates(case.architecture, recipe, cost, machine, cost.seconds),
        "mfu_convention": MFU,
        "hfu_convention": HFU,
        "bubble": record.bubble,
        "exposed_communication": exposed / cost.seconds,
        "step_by_part_s": {name: seconds for name, seconds in parts.items() if seconds},
        "stragglers": {"slowdown": slow.slowdown, "slowdown_p5_p95": list(slow.middle)} if slow else None,
        "memory_bytes": case.sheet.total,
        "memory_capacity_bytes": case.sheet.capacity,
        "memory_by_use_bytes": case.sheet.held,
        "chip_power_w": power.chips / machine.chips,
        "node_power_w": power.nodes / nodes,
        "facility_power_w": power.facility,
        "power_limited": power.throttled,
        "steps": steps,
        "tokens": tokens,
        "tokens_over_small_batches": growth,
        "days": elapsed / DAY_S,
        **whole,
        "chip_hours": machine.chips * elapsed / HOUR_S,
        "energy_chips_mwh": joules["chips"] / 3.6e9,
        "energy_nodes_mwh": joules["nodes"] / 3.6e9,
        "energy_facility_mwh": joules["facility"] / 3.6e9,
        "cost_usd": sum(spent.values()) if spent else None,
        "cost_by_component_usd": spent,
        "cost_terms": {**vars(case.terms), "price_date": case.hourly.date} if case.hourly else None,
        "layouts_tried": case.tried,
        "runners_up": [
            {
                "layout": str(other.layout),
                "micro_batch": other.recipe.micro_batch,
                "recompute": recompute_text(other.recipe.recompute),
                "step_s": other.seconds,
                "memory_bytes": other.sheet.total,
            }
            for other in case.runners_up
        ],
    }
