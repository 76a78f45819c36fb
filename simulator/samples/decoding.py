"""A language model that gives each sequence of a batch a token in every step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from simulator.cost.amount import Amount, add
from simulator.cost.layer_groups import hand_over, node_amounts, once
from simulator.cost.machine import Machine
from simulator.cost.placement import CapacitySheet
from simulator.cost.step import step_cost
from simulator.engine.batching import BatchLimits
from simulator.errors import CapacityError
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.quality import quality
from simulator.samples.case import Exits, SampleCase, iterations, step_of
from simulator.scenario import MachineChoice
from simulator.scenario.samples import Decode
from simulator.serve import placed

TRAINING_TOKENS = 1.5e13
"""For what is said of a language model's quality."""


def decoding(
    model: Decode, architecture: Architecture, choice: MachineChoice, machine: Machine
) -> Iterator[SampleCase]:
    """A language model that gives each sequence of a batch a token in every step, batch by batch."""
    precision = choice.precision.over(architecture.precision or Precision())
    most = max(model.batches)
    wanted = most * model.context
    sizes: dict[str, Any] = {"memory_utilization": 0.9, "max_tokens": most, "max_outputs": most}
    machine, sheet = placed(choice, architecture, precision, machine, float(wanted), block_size=16, **sizes)
    if sheet.kv_tokens < wanted:
        raise CapacityError(
            f"{most} sequences of {model.context} tokens do not fit the KV cache of {sheet.kv_tokens:,} tokens; "
            f"use a smaller batch or context\n{sheet.text()}"
        )
    priced = step_cost(architecture, precision, machine, most, most)
    windows = [float(model.context if w is None else min(model.context, w)) for w in priced.windows]
    expected = quality(architecture, precision, TRAINING_TOKENS)
    for batch in model.batches:
        at = np.array([0, batch])
        contexts = [price.at(at).times(at * keys) for price, keys in zip(priced.keys, windows, strict=True)]
        waiting = priced.waiting(at, [at * keys for keys in windows])
        work = add([priced.tokens.at(at), priced.outputs.at(at), *contexts, waiting])
        yield SampleCase(
            choice,
            machine,
            model,
            architecture.name,
            "token",
            precision,
            step_of(work, machine, priced.floor.seconds, 1),
            iterations(model.iterations),
            BatchLimits(1, 1),
            batch,
            batch,
            _exits(model, architecture, precision, machine, batch, sheet),
            expected.warnings,
        )


def _exits(
    model: Decode, architecture: Architecture, precision: Precision, machine: Machine, batch: int, sheet: CapacitySheet
) -> Exits | None:
    """The ways of the model's tokens, with what each run of their layers costs; in a pipeline cut into its stages. Keys
    that tokens which leave copy into the layers after are left out: less than 1 % of the time. Raise CapacityError
    where the caches of all sequences in flight do not fit."""
    paths = model.depth.paths(architecture.layer_count) if model.depth and model.events else None
    if paths is None or model.events is None:
        return None
    context, first = float(model.context), once(architecture, precision, machine, batch)
    stages: tuple[tuple[int, ...], ...] = tuple((node,) for node in range(len(paths.nodes)))
    if model.stages is not None:
        tables = node_amounts(architecture, precision, machine, paths.nodes, context, batch)
        loads = [
            [node.share * float(np.asarray(table.total_seconds)[-1]) / node.layers] * node.layers
            for node, table in zip(paths.nodes, tables, strict=True)
        ]
        loads[0][0] += float(np.asarray(first.total_seconds)[-1])
        paths, stages = paths.cut(loads, model.stages)
    held, room = model.held(batch), sheet.kv_tokens_over(len(stages) if model.events == "pipeline" else 1)
    if room < held * model.context:
        what = f"{held} sequences in flight of {model.context} tokens do not fit the KV cache of {room:,} tokens"
        raise CapacityError(f"{what}; write in_flight: {room // model.context} or less\n{sheet.text()}")
    amounts = node_amounts(architecture, precision, machine, paths.nodes, context, batch)
    amounts[0] = add([amounts[0], first])
    if model.events == "pipeline":
        home = {node: stage for stage, nodes in enumerate(stages) for node in nodes}
        onward = {a for _, way in paths.ways for a, b in pairwise(way) if home[a] != home[b]}
        sending = hand_over(architecture, machine, batch) if onward else Amount()
        amounts = [add([table, sending]) if node in onward else table for node, table in enumerate(amounts)]
    return Exits(paths, amounts, model.events, stages, held)
