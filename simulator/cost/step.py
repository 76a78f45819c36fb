"""What a step of a replica costs, tabulated once: by tokens, by emitting sequences, by key and by query-key pair.

    t_work = T[tokens] + O[outputs] + sum over windows (keys * k[outputs] + pairs * p)
             + (a prompt in the step ? P[tokens] : 0)
             + what prefetches leave to wait for: the largest of straight lines in the same (prefetch.py)
    t_step = max(norm(t_work, host floor), E / (cap - idle))

Everything in it is a sum over the operations of one chip (all of a replica's chips do the same), so a table and a few
slopes hold it exactly. The last term is the power limit: a chip whose work would draw more takes longer. Energy of a
step is min(cap * t, (idle + active) * t + E) with E the marginal joules of its FLOPs and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from simulator.cost.access import gather, stream, vector
from simulator.cost.amount import OVERHEAD, Amount, add
from simulator.cost.collective import collective
from simulator.cost.host_floor import HostFloor, host_floor
from simulator.cost.machine import Machine
from simulator.cost.matmul import attention, matmul
from simulator.cost.prefetch import Waits, free_seconds, here, prefetched
from simulator.cost.prefetch import waits as waits_of
from simulator.model.architecture import Architecture
from simulator.model.number_format import Precision
from simulator.model.operation import Array, Attention, Batch, Collective, Gather, Matmul, Operation, Stream
from simulator.stack.stack import of_format


@dataclass(frozen=True)
class StepCost:
    """Costs of one chip. tokens, outputs: tables indexed by their number; keys, pairs: per key and pair, by window (of
    keys by outputs too, where a stack has other kernels for few sequences).

    waits: by tokens, of steps without and with a prompt; a layer leaves free[tokens] seconds for each of them, and
    free_keys and free_pairs more for each key and pair.
    """

    windows: tuple[int | None, ...]
    tokens: Amount
    outputs: Amount
    keys: tuple[Amount, ...]
    pairs: tuple[Amount, ...]
    prefill: Amount  # once in a step that holds a prompt, by its tokens where prompts pass more than T counts
    floor: HostFloor
    waits: tuple[Waits, Waits] = (Waits(), Waits())
    free: tuple[Array, Array] = (0.0, 0.0)
    free_keys: tuple[float, ...] = ()
    free_pairs: tuple[float, ...] = ()
    swap: Amount = field(default_factory=Amount)  # of a KV block that is moved to another tier, or back
    prompt_floor: HostFloor | None = None  # in a step that holds a prompt; None: the same

    def joined(self, work: Array, prompts: Array) -> Array:
        """Seconds of steps of so much work; `prompts`: which of them hold some."""
        alone = self.floor.joined(work)
        return alone if self.prompt_floor is None else np.where(prompts, self.prompt_floor.joined(work), alone)

    def waiting(self, tokens: np.ndarray, keys: Sequence[Array], pairs: Sequence[Array] | None = None) -> Amount:
        """What steps wait for prefetches, beside what `tokens` holds: of so many tokens, keys and pairs by window."""
        prompt = pairs is not None
        waits, free = self.waits[prompt], self.free[prompt]
        if not waits.layers:
            return Amount()
        left = np.asarray(free)[tokens] + sum((n * f for n, f in zip(keys, self.free_keys, strict=True)), 0.0)
        if pairs is not None:
            left = left + sum((n * f for n, f in zip(pairs, self.free_pairs, strict=True)), 0.0)
        return waits.at(tokens).beyond(left)


def cost_of(operation: Operation, machine: Machine) -> Amount:
    """Seconds, FLOPs and bytes of one operation on one chip."""
    if isinstance(operation, Matmul):
        return matmul(operation, machine)
    if isinstance(operation, Attention):
        return attention(operation, machine)
    if isinstance(operation, Collective):
        return collective(operation, machine)
    if isinstance(operation, Gather):
        return gather(operation, machine)
    if isinstance(operation, Stream):
        return stream(operation, machine)
    return vector(operation, machine)


def cost_of_all(operations: Sequence[Operation], machine: Machine, layers: Amount, layer_count: int) -> Amount:
    """The operations one after the other; `layers`: the layers' overheads, which the result leaves out.

    Prefetches hide behind the layers before them, of which each takes the mean time.
    """
    costs, waits = _priced(operations, machine)
    total = add(cost for _, cost in costs)
    if not waits.layers:
        return total
    hiding = add([layers, *(cost for operation, cost in costs if not is_head(operation))])
    return add([total, waits.amount, waits.beyond(free_seconds(hiding, waits.tiers, machine) / layer_count)])


def _priced(operations: Sequence[Operation], machine: Machine) -> tuple[list[tuple[Operation, Amount]], Waits]:
    """Each operation with its cost, and the waits for those that are prefetched; of a prefetched product, its cost
    once its matrices are here."""
    costs: list[tuple[Operation, Amount]] = []
    early: list[Gather | Matmul] = []
    for operation in operations:
        if isinstance(operation, Gather | Matmul) and prefetched(operation, machine):
            early.append(operation)
            if isinstance(operation, Matmul):
                costs.append((operation, here(operation, machine)))
        else:
            costs.append((operation, cost_of(operation, machine)))
    return costs, waits_of(early, machine)


def step_cost(
    architecture: Architecture, precision: Precision, machine: Machine, max_tokens: int, max_outputs: int
) -> StepCost:
    """Tabulate a replica on `machine` for steps of up to max_tokens tokens of which max_outputs emit."""
    layout, stack = machine.parallelism, machine.stack
    windows = architecture.windows
    zipf = float(stack.expert_popularity)

    def price(
        model: Architecture, on: Machine, batch: Batch, wanted: Callable[[Operation], bool]
    ) -> tuple[Amount, Waits]:
        costs, waits = _priced([o for o in model.forward(batch, layout, precision, zipf) if wanted(o)], on)
        return add(cost for _, cost in costs), waits

    def of_tokens(model: Architecture, on: Machine) -> tuple[Amount, Waits, Array]:
        """A table of tokens, what its fetches are waited for, and the time that a layer leaves them."""
        layers = per_layer(model, precision, on, count)
        operations, waits = price(model, on, Batch(count), _is_of_layers)
        hiding = _slower(add([operations, layers]).times(count > 0), longest)
        waits = waits.times(longest * (count > 0))
        return add([hiding, waits.amount]), waits, free_seconds(hiding, waits.tiers, on) / model.layer_count

    def of_contexts(model: Architecture, many: float, kind: str) -> tuple[Amount, ...]:
        batches = [Batch(many, emitting, **{kind: one(window)}) for window in windows]
        return tuple(_slower(price(model, machine, batch, _is_attention)[0], longest) for batch in batches)

    def left(prices: Sequence[Amount], model: Architecture) -> tuple[float, ...]:
        return tuple(float(np.min(free_seconds(one, waits.tiers, machine))) / model.layer_count for one in prices)

    def one(window: int | None) -> dict[int | None, Array]:
        return {each: float(each == window) for each in windows}

    # A pipeline turns at the pace of its longest stage.
    longest = ceil(architecture.layer_count / layout.pp) * layout.pp / architecture.layer_count
    count = np.arange(max_tokens + 1, dtype=float)  # without a token there is no step: row 0 costs nothing
    many = float(layout.dp * layout.pp)  # a batch that keeps every stage and copy busy
    emitting = np.arange(max_outputs + 1, dtype=float)
    outputs, _ = price(architecture, machine, Batch(many, emitting), is_head)
    tokens, waits, free = of_tokens(architecture, machine)
    prompts = architecture.for_prompts()
    prefill, prompt_waits, prompt_free = Amount({OVERHEAD: per_prompt(prompts, machine)}), waits, free
    if prompts is not architecture or machine.for_prompts is not machine:
        whole, prompt_waits, prompt_free = of_tokens(prompts, machine.for_prompts)
        prefill = add([prefill, whole, tokens.times(-1.0)])
    keys, pairs = of_contexts(architecture, many, "decode_context"), of_contexts(prompts, many, "prefill_pairs")
    return StepCost(
        windows=windows,
        tokens=tokens,
        outputs=add([outputs, Amount({OVERHEAD: per_sequence(architecture, machine) * emitting})]),
        keys=keys,
        pairs=pairs,
        prefill=prefill,
        floor=floor_of(architecture, machine),
        waits=(waits, prompt_waits),
        free=(free, prompt_free),
        free_keys=left(keys, architecture),
        free_pairs=left(pairs, prompts),
        prompt_floor=floor_of(architecture, machine, prompts.layer_count) if stack.prefill_dispatch else None,
    )


def _is_attention(operation: Operation) -> bool:
    return isinstance(operation, Attention)


def is_head(operation: Operation) -> bool:
    """Whether it makes tokens of hidden vectors: those that emit pass it, not all of the step."""
    return operation.name == "head"


def _is_of_layers(operation: Operation) -> bool:
    return not (_is_attention(operation) or is_head(operation))


def _slower(amount: Amount, factor: float) -> Amount:
    """The same work in `factor` times the time."""
    seconds = {name: value * factor for name, value in amount.seconds.items()}
    return replace(amount, seconds=seconds)


def per_layer(architecture: Architecture, precision: Precision, machine: Machine, tokens: Array = 1.0) -> Amount:
    """Overheads of the layers that run and of the step."""
    stack = machine.stack
    per_layer = float(stack.layer_overhead) + float(stack.thread_overhead) * machine.cores
    seconds = float(stack.step_overhead) * architecture.cycles + architecture.layers_run(tokens) * per_layer
    if stack.expert_overhead:
        sparse = [layer for layer in architecture.layers if layer.ffn and layer.ffn.routed_experts]
        if sparse:
            what = "overhead of expert layers"
            each = of_format(stack.expert_overhead, precision.format_of("expert"), stack.name, what)
            seconds = seconds + sum(layer.count * layer.use.times(tokens) for layer in sparse) * each
    return Amount({OVERHEAD: seconds})


def per_sequence(architecture: Architecture, machine: Machine) -> float:
    """Seconds of each emitting sequence; each data-parallel copy has a serving loop of its own."""
    stack = machine.stack
    each = (
        float(stack.sequence_overhead)
        + float(stack.vocabulary_overhead) * architecture.vocab_size * architecture.sorted_sampling
        + float(stack.sequence_layer_overhead) * float(architecture.layers_run(1.0))
    )
    return each / machine.parallelism.dp


def per_prompt(prompts: Architecture, machine: Machine) -> float:
    """Seconds that a step with a prompt takes more; `prompts` is the architecture that prompts pass."""
    return prompts.layer_count * float(machine.stack.prefill_layer_overhead)


def floor_of(architecture: Architecture, machine: Machine, prompt_layers: float = 0.0) -> HostFloor:
    """The host's time beside a step, once for each pass through the layers, and for each of so many layers that
    prompts pass: their kernels are launched one by one, chip after chip, where decoding replays a captured graph."""
    stack = machine.stack
    launches = float(stack.prefill_dispatch) * prompt_layers * machine.parallelism.chips
    return replace(host_floor(stack), seconds=float(stack.host_floor) * architecture.cycles + launches)
