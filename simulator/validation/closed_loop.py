"""Closed forms of clients in a closed loop: the mean time per output token, and to the first one.

N sequences decode, with `input` and `output` tokens and `accepted` of them a step (1 without speculation), over dp
ranks of the attention, each of which takes one prompt at a time: J = N * accepted * pieces / (output * dp) pieces of
prompts join in a step. t_d is a step without a prompt, t_m one shared with a piece for each rank, t_p a piece alone:

    step = (1 - J) t_d + J t_m     or, where prompts run alone,  t_d + J t_p;  time per output token = step / accepted
    first token = (poll/2 + held) * step + the prompt's own steps + its wait for others (M/D/1, load J t_m / step)

The first requests of all clients arrive at once: their mean wait is (clients + 1)/2 prompts, in full steps. Where the
KV cache holds fewer sequences than there are clients, the others stand in line for (clients - N)/N of an answer.
A sequence is answering for answer / (answer + first token) of the time, which gives N. In a pool that only decodes no
prompts join.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from simulator.cost.placement import capacity
from simulator.errors import RamwiseError
from simulator.model.number_format import Precision
from simulator.validation.deployment import ROUNDS, Loop
from simulator.validation.rows import Reason
from simulator.validation.steps import Step, step_seconds

RESERVED = 3e9
"""Bytes of a chip for context, captured graphs and buffers of collectives (fit to rows whose cache is full)."""

BLOCK = 16
"""Tokens of a block of the cache."""

ACCEPTED = 0.75
"""Chance that a drafted token is kept, in an answer of 1,000 tokens (fit to rows of DeepSeek-R1)."""

ACCEPTED_GROWTH = 0.2
"""The chance of a refusal falls with the length of the answer to this power: long answers to random prompts repeat
themselves (fit to the same rows, answers of 1,000 and 8,000 tokens)."""

MOST_LOAD = 0.9
"""Load of the prompts above which the M/D/1 form is not followed: a closed loop has no queue without bound."""

REFINEMENTS = 3


def simulate(loops: Iterable[Loop]) -> dict[str, float | Reason]:
    """Row id -> seconds, or why the costs refuse it. Loops of one model on one machine are priced at once."""
    groups: dict[tuple[str, str, str, str, Precision], list[Loop]] = defaultdict(list)
    for loop in loops:
        machine = loop.machine
        names = machine.profile.name, machine.stack.name, str(machine.parallelism), loop.architecture.name
        groups[*names, loop.precision].append(loop)
    found: dict[str, float | Reason] = {}
    for members in groups.values():
        alike: dict[tuple[object, ...], list[Loop]] = defaultdict(list)
        for loop in members:
            row = loop.row
            kind = row.public, row.decodes_alone
            alike[loop.clients, loop.input_tokens, loop.output_tokens, loop.habits, kind].append(loop)
        try:
            seconds = _seconds([same[0] for same in alike.values()])
        except RamwiseError as error:
            found |= {loop.row.id: Reason(str(error).splitlines()[0]) for loop in members}
            continue
        for index, same in enumerate(alike.values()):
            found |= {loop.row.id: float(seconds[loop.row.metric][index]) for loop in same}
    return found


def _seconds(loops: Sequence[Loop]) -> dict[str, np.ndarray]:
    """Metric -> seconds of each loop; all are of one model on one machine."""
    first = loops[0]
    dp, layers = first.machine.parallelism.dp, first.architecture.layer_count

    def column(name: str) -> np.ndarray:
        return np.array([float(getattr(loop, name)) for loop in loops])

    def habit(name: str) -> np.ndarray:
        return np.array([float(getattr(loop.habits, name)) for loop in loops])

    clients, prompt, output = (column(name) for name in ("clients", "input_tokens", "output_tokens"))
    chunk, poll, held, drafts = (habit(name) for name in ("chunk", "poll", "held", "drafts"))
    mixed = habit("mixed") > 0
    kept = 1.0 - (1.0 - ACCEPTED) * (output / 1000.0) ** -ACCEPTED_GROWTH
    accepted = 1.0 + sum(kept**k * (drafts >= k) for k in range(1, int(drafts.max()) + 1))
    context = prompt + output / 2
    running = np.minimum(clients, np.maximum(_room(loops, prompt + habit("kept") * output), 1.0))
    pieces = np.ceil(prompt / chunk)
    piece, most = prompt / pieces, np.maximum(1.0, np.floor(chunk / prompt))

    def step_of(decoding: np.ndarray | float, prompts: np.ndarray | float) -> np.ndarray:
        """A step in which each decoding sequence has 1 + drafts tokens; a draft costs a layer and a start."""
        n, p = np.broadcast_to(decoding, clients.shape), np.broadcast_to(prompts, clients.shape)
        tokens = 1.0 + drafts
        steps = [
            Step(*step)
            for step in zip((n * tokens).tolist(), (context / tokens).tolist(), p.tolist(), piece.tolist(), strict=True)
        ]
        seconds = step_seconds(first.architecture, first.precision, first.machine, steps)
        drafting = drafts * (seconds / layers + float(first.machine.stack.step_overhead))
        return np.asarray(seconds + np.where(n > 0, drafting, 0.0))

    prompts_here = np.array([0.0 if loop.row.decodes_alone else 1.0 for loop in loops])
    decoding = running
    for _ in range(REFINEMENTS):
        plain = step_of(decoding, 0.0)
        joins = prompts_here * np.maximum(decoding - 1, 0.0) * accepted * pieces / (output * dp)
        group = np.clip(joins * poll, 1.0, most)
        alone = step_of(0.0, dp * group) / group
        shared = step_of(decoding, dp * np.maximum(joins, 1.0))
        share = np.minimum(joins, 1.0)
        step = np.where(mixed, (1.0 - share) * plain + share * shared, plain + joins * alone)
        own = pieces * np.where(mixed, shared, alone * group)
        load = np.minimum(MOST_LOAD, share * own / pieces / step)
        wait = np.where(poll > 1, 0.0, own * load / (2 * (1 - load)) * (clients - 1) / clients)
        seen = (poll / 2 + held) * step
        steady = seen + own + wait
        answer = output * step / accepted
        decoding = running * answer / (answer + prompts_here * steady)
    burst = seen + (clients + 1) / 2 * pieces * step_of(0.0, dp * most) / (dp * most)
    share = np.array([1.0 / ROUNDS if loop.row.public else 0.0 for loop in loops])
    line = np.maximum(clients / running - 1.0, 0.0) * (answer + steady) + habit("spare") / clients * answer
    return {"tpot_ms": step / accepted, "ttft_ms": share * burst + (1.0 - share) * steady + line}


def _room(loops: Sequence[Loop], tokens: np.ndarray) -> np.ndarray:
    """Sequences of so many tokens that the KV cache of a replica holds, of each loop."""
    found = []
    for loop, length in zip(loops, tokens, strict=True):
        sheet = capacity(
            loop.architecture,
            loop.precision,
            loop.machine,
            memory_utilization=loop.habits.memory - RESERVED / float(loop.machine.memory.capacity),
            block_size=BLOCK,
            max_tokens=int(loop.habits.chunk),
            max_outputs=1,
        )
        found.append(loop.habits.free * sheet.kv_blocks / (sheet.kv_fixed_blocks + length / sheet.block_size))
    return np.array(found)
