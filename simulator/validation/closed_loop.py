"""Closed forms of a client's closed loop: mean time per output token and mean time to first token.

With N sequences decoding, of `input` and `output` tokens, f = N * accepted / (output * groups) groups of prompts join
in a step (a group is one prompt for each attention rank). t_d is the step without a prompt, t_m with a group:

    step = (1 - f) t_d + f t_m        prompts share steps with decoding sequences
    step = t_d + f t_p                prompts run alone, and decoding waits
    time per output token = step / accepted

    time to first token, steady = step/2 + held * step + its own steps + waiting for other prompts (M/D/1)
    the first request of each client arrives in one burst: (clients + 1)/2 * time of a prompt in full steps

If the KV cache holds fewer sequences than there are clients, the others wait for (clients - held)/held of a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from simulator.cost.machine import Machine
from simulator.cost.placement import capacity
from simulator.errors import RamwiseError
from simulator.model.number_format import Precision
from simulator.validation.deployment import Loop
from simulator.validation.predict import Step, step_seconds
from simulator.validation.question import Reason

UTILIZATION = 0.9
BLOCK = 16
ACCEPTED = 0.75
ACCEPTED_GROWTH = 0.2
ROUNDS_OF_N = 3


def simulate(loops: Iterable[Loop]) -> dict[str, float | Reason]:
    """Row id -> seconds, or why the costs refuse it."""
    groups: dict[tuple[int, str, Precision], list[Loop]] = defaultdict(list)
    for loop in loops:
        groups[id(loop.machine), loop.architecture.name, loop.precision].append(loop)
    found: dict[str, float | Reason] = {}
    for members in groups.values():
        alike: dict[tuple[object, ...], list[Loop]] = defaultdict(list)
        for loop in members:
            alike[loop.clients, loop.input_tokens, loop.output_tokens, loop.habits].append(loop)
        try:
            values = _together([same[0] for same in alike.values()])
        except RamwiseError as error:
            found |= {loop.row.id: Reason(str(error).splitlines()[0]) for loop in members}
            continue
        for index, same in enumerate(alike.values()):
            found |= {loop.row.id: float(values[loop.row.metric][index]) for loop in same}
    return found


def _together(loops: Sequence[Loop]) -> dict[str, np.ndarray]:
    """Metric -> seconds of each loop; all of one model on one machine."""
    first = loops[0]
    architecture, precision, machine = first.architecture, first.precision, first.machine
    dp = machine.parallelism.dp

    def column(name: str) -> np.ndarray:
        return np.array([getattr(loop, name) for loop in loops], dtype=float)

    def habit(name: str) -> np.ndarray:
        return np.array([getattr(loop.habits, name) for loop in loops], dtype=float)

    clients, prompt, output = column("clients"), column("input_tokens"), column("output_tokens")
    chunk, poll, held, mixed, drafts = (habit(name) for name in ("chunk", "poll", "held", "mixed", "drafts"))
    mixed = mixed > 0
    room = _room(loops, prompt + output / 2)
    running = np.minimum(np.minimum(clients, np.maximum(room, 1.0)), habit("limit"))
    accept = 1 - (1 - ACCEPTED) * (output / 1024) ** -ACCEPTED_GROWTH
    accepted = np.sum([accept**k * (drafts >= k) for k in range(1, 4)], axis=0) + 1.0
    checked = 1.0 + drafts
    slower = 1.0 + drafts / architecture.layer_count
    pieces = np.ceil(prompt / chunk)
    together = np.maximum(1.0, np.floor(chunk / prompt))
    context = prompt + output / 2

    def seconds(decoding: np.ndarray, prompts: np.ndarray, length: np.ndarray) -> np.ndarray:
        steps = [
            Step(n * q, c / q, p, x)
            for n, q, c, p, x in zip(decoding, checked, context, prompts, length, strict=True)
        ]
        return step_seconds(architecture, precision, machine, steps)

    nothing, one = np.zeros(len(loops)), np.full(len(loops), float(dp))
    each_draft = float(machine.stack.step_overhead)
    full = seconds(nothing, dp * together, prompt / pieces) * pieces / (dp * together)
    decoding = running.copy()
    for _ in range(ROUNDS_OF_N):
        plain = seconds(decoding, nothing, nothing) * slower + drafts * each_draft
        joins = np.maximum(decoding - 1, 0.0) * accepted / (output * dp) * pieces
        group = np.clip(joins * poll, 1.0, together)
        alone = seconds(nothing, one * group, prompt / pieces) / group
        shared = seconds(decoding, one * np.maximum(1.0, joins), prompt / pieces) * slower + drafts * each_draft
        with_prompt = np.where(mixed, shared, alone + plain)
        share = np.minimum(1.0, joins)
        step = np.where(mixed, (1 - share) * plain + share * with_prompt, plain + joins * alone)
        own = np.where(mixed, with_prompt * pieces, alone * group * pieces)
        load = np.minimum(0.9, share * own / pieces / step)
        wait = np.where(poll > 1, 0.0, own * load / (2 * (1 - load)) * (clients - 1) / clients)
        steady = (0.5 * poll + held) * step + own + wait
        answer = output * step / accepted
        decoding = running * answer / (answer + steady)
    burst = (clients + 1) / 2 * full + (0.5 * poll + held) * step
    queued = np.maximum(clients / running - 1, 0.0) * (answer + steady)
    spare = habit("spare") * answer / clients
    rounds = column("rounds")
    to_first = burst / rounds + steady * (1 - 1 / rounds) + queued + spare
    return {"tpot_ms": step / accepted, "ttft_ms": to_first}


def _room(loops: Sequence[Loop], tokens: np.ndarray) -> np.ndarray:
    """Sequences of so many tokens that the KV cache of a replica holds."""
    first = loops[0]
    sheet = capacity(
        first.architecture,
        first.precision,
        first.machine,
        memory_utilization=UTILIZATION,
        block_size=BLOCK,
        max_tokens=int(max(loop.habits.chunk for loop in loops)),
        max_outputs=1,
    )
    return np.asarray(sheet.kv_blocks / (sheet.kv_fixed_blocks + tokens / sheet.block_size))
