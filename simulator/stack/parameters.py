"""What a software reaches of a machine, and what it costs beside the machine: numbers that may differ by chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, Field, create_model

from simulator.provenance import Block
from simulator.quantity import Bandwidth, Fraction, Known, Label, Ratio, Share, quantity


def _at_least_one(order: Known) -> Known:
    if order < 1:
        raise ValueError("must be 1 (the times add) or more (larger: the longer one counts)")
    return order


Overhead = Annotated[Known, quantity("s", zero=True)]
Bytes0 = Annotated[Known, quantity("B", zero=True)]
Order = Annotated[Known, quantity(""), AfterValidator(_at_least_one)]
NONE = Known(0.0)
B = TypeVar("B", bound=Block)


class Collectives(Block):
    """What the communication library reaches of the fabric. Switch: reference forms of NCCL and of one-shot and
    two-shot all-reduce kernels. Torus and mesh: `launch` once, then the fabric's own latency for each hop."""

    launch: Overhead = Field(description="Fixed time of one collective.")
    one_shot: Overhead | None = Field(None, description="Fixed time of a one-shot all-reduce kernel; absent: none.")
    two_shot: Overhead | None = Field(None, description="Fixed time of a two-shot all-reduce kernel; absent: none.")
    one_shot_bandwidth: Fraction = Field(Known(0.6), description="Share of the link that the one-shot kernel reaches.")
    two_shot_bandwidth: Fraction = Field(Known(0.7), description="Share of the link that the two-shot kernel reaches.")
    kernel_limit: Bytes0 = Field(Known(8.0 * 2**20), description="Largest message of the one- and two-shot kernels.")
    in_switch: Overhead | None = Field(None, description="Fixed time of an all-reduce in the switch; absent: none.")
    in_switch_bandwidth: Fraction = Field(Known(0.58), description="Share of the link that it reaches.")
    exchange_steps: Ratio = Field(
        Known(1.0), description="Hops that an all-to-all over a switch waits for, for each doubling of its group."
    )
    bandwidth: Fraction = Field(description="Share of the link that long messages reach.")
    ring_bandwidth: Fraction | None = Field(
        None, description="The same both ways round a ring of a torus or mesh; absent: `bandwidth`."
    )
    pcie_bandwidth: Fraction | None = Field(None, description="The same over PCIe; absent: `bandwidth`.")
    copy_bandwidth: Ratio | None = Field(None, description="Own part copied, as a share of the link; absent: free.")
    exchange_copy: Ratio | None = Field(None, description="The same in an all-to-all; absent: `copy_bandwidth`.")
    pipelining: Share = Field(Known(0.0), description="s of 2*s*sqrt(launch * streaming): chunks too few or too many.")
    steps: bool = Field(True, description="True: each step waits for the hop latency. False: `launch` has it.")
    scale_out_bandwidth: Fraction = Field(
        Known(0.8, "estimated", "vidur h100_dgx send-receive 0.72, Calculon 0.9", (0.72, 0.9)),
        description="Share of the network between machines that long messages reach.",
    )
    fused: bool = Field(False, description="True: latencies are inside `layer_overhead`; only bytes cost time.")


class HostPart(Block):
    """What a stack reaches of the processors of a host, on which it computes where the weights lie."""

    tensors: tuple[str, ...] = Field(
        ("expert",), description="Tensor classes kept in the host's main memory when a scenario places them nowhere."
    )
    streaming: dict[str, Fraction] = Field(description="Share of the sockets' bandwidth, by number format.")
    matmul: dict[str, Fraction] = Field(
        default_factory=dict, description="Share of the sockets' matrix peak, by compute format."
    )
    vector: Ratio | None = Field(
        None, description="Of the vector units' fp32 peak, by kernels that use no matrix units; in place of `matmul`."
    )
    overlap: Ratio = Field(Known(4.0), description="p of the p-norm that joins compute and memory.")
    layerwise_bandwidth: Bandwidth | None = Field(
        None, description="What the host then feeds to all chips together; absent: what their links carry."
    )
    layerwise_from: Ratio | None = Field(
        None, description="Tokens of a step from which on the weights cross the link, layer by layer, to the chips."
    )
    socket_scaling: Fraction = Field(
        Known(1.0), description="Share of its bandwidth that each of several sockets keeps."
    )
    compute_scaling: Fraction = Field(Known(1.0), description="Share of its peak that each of several sockets keeps.")


class Tiles(Block):
    """Products cut into whole tiles of the chip's matrix units: cliffs where a wave of tiles is just not full."""

    unit_bandwidth: Bandwidth | None = Field(None, description="What one unit draws of the memory; absent: all of it.")
    wave: Overhead = Field(NONE, description="Per wave of tiles: fill and drain.")


class DecodeSplit(Block):
    """A second kernel for decode attention, for few sequences: it cuts the keys of each over more units."""

    blocks: Ratio = Field(description="Sequences times query heads on a chip up to which it is chosen.")
    attention: Fraction = Field(description="Share of the 16-bit peak that it reaches, as `decode_attention`.")


class Parameters(Block):
    """The numbers of a stack. Fractions are of the hardware profile's peaks."""

    streaming: dict[str, Fraction] = Field(description="Share of peak bandwidth for weights, by number format.")
    matmul: dict[str, Fraction] = Field(description="Share of peak FLOP/s of large products, by compute format.")
    matmul_half_width: Annotated[Known, quantity("", zero=True)] = Field(
        NONE, description="sqrt(n*k) on one chip at which a product reaches half of `matmul`; 0: no such loss."
    )
    tiles: Tiles | None = Field(
        None, description="For studies of shapes; absent: smooth, which fits whole steps as well (4.6 against 4.8 %)."
    )
    weight_operations: dict[str, Ratio] = Field(
        default_factory=dict,
        description="Operations for each weight and row of a product, by number format: more than two where a kernel "
        "unpacks weights first, fewer where it looks sums up; absent: two.",
    )
    unpacked_matmul: Fraction = Field(
        Known(1.0), description="Of `matmul`, what products reach whose narrower weights are unpacked to 16 bits."
    )
    expert_matmul: Fraction = Field(Known(1.0), description="Of `matmul`, what grouped expert products reach.")
    overlap: Ratio = Field(description="p of the p-norm that joins compute and memory: 1 adds, large takes the larger.")
    sharded: bool = Field(
        False,
        description="True: what tensor parallelism copies on its chips is cut over them: hidden vectors between "
        "products and, over the batch, keys of fewer heads than chips (in time; capacity counts copies).",
    )
    prefill_streaming: dict[str, Fraction] = Field(
        default_factory=dict,
        description="`streaming` in a step that holds a prompt, where other kernels multiply; absent: the same.",
    )
    tile_rows: Order = Field(Known(1.0), description="Rows of a tile: hidden vectors are sent in whole ones, padded.")
    turns: Annotated[Known, quantity("", zero=True)] = Field(
        NONE,
        description="Share of a product's time on a chip that each other chip of its tensor-parallel group adds: "
        "0, all work at once; 1, one after the other.",
    )
    activation_streaming: Fraction = Field(Known(0.8), description="Share of peak bandwidth for activations.")
    far_streaming: dict[str, Fraction] = Field(
        {"default": Known(0.8)}, description="Share of the bandwidth or link of a tier beside the chip's own, by tier."
    )
    selects_experts: bool = Field(
        True, description="True: of experts in a far tier those of the batch are read. False: all are, every step."
    )
    gather_rate: Fraction = Field(Known(1.0), description="Share that its code reaches of what memory gathers (rows).")
    gather_overhead: Overhead = Field(NONE, description="Per look-up of a layer in a far tier, prefetched or not.")
    prefetch: bool = Field(
        False, description="True: rows known by the token ids are fetched while earlier layers run. False: waited for."
    )
    kv_streaming: Fraction = Field(description="Share of peak bandwidth for keys and values in decode.")
    decode_attention: dict[str, Fraction] = Field(
        description="Share of the 16-bit peak that decode attention reaches, by number format of the cache."
    )
    decode_split: DecodeSplit | None = Field(
        None, description="Its kernel for few sequences; absent: the same for all."
    )
    key_scan: Overhead = Field(NONE, description="Per key of a sequence and layer in decode attention, at the least.")
    prefill_attention: Fraction = Field(description="Share of the 16-bit peak that prefill attention reaches.")
    layer_overhead: Overhead = Field(description="Per layer, whatever the chip and the tensor parallelism.")
    dispatch: Overhead = Field(
        Known(4e-6, "estimated", "recalled: a kernel of a CUDA graph starts in 2 us, one from a stream in 5 to 10 us"),
        description="Per operation of a recommender or solver, which have no layers of a language model.",
    )
    thread_overhead: Overhead = Field(NONE, description="Per layer and core (barriers of CPU stacks).")
    expert_overhead: dict[str, Overhead] = Field(
        default_factory=dict, description="Per layer with experts, by number format of the experts."
    )
    prefill_layer_overhead: Overhead = Field(NONE, description="Per layer, more, in a step that holds a prompt.")
    prefill_dispatch: Overhead = Field(
        NONE, description="Per layer and chip in a step that holds a prompt: the host's time beside the device."
    )
    step_overhead: Overhead = Field(NONE, description="Per step, added.")
    host_floor: Overhead = Field(NONE, description="Time that the serving loop takes for a step, beside the device.")
    host_norm: Order = Field(
        Known(4.0), description="p of the p-norm that joins the device's time and `host_floor`: 1 adds."
    )
    micro_batch: Ratio | None = Field(
        None,
        description="Tokens of a micro-batch: a static batch is halved until its parts, one after the other through "
        "the stages of a pipeline, hold no more; absent: it is cut into as many as there are stages, always.",
    )
    chunked_prefill: bool = Field(
        True,
        description="True: prompts share steps with sequences that decode. False: they run in steps of their own, and "
        "decoding waits.",
    )
    admission_interval: Order = Field(
        Known(1.0),
        description="Steps from one look at waiting requests to the next, a whole number: prompts wait for batches.",
    )
    admission_least: Order = Field(
        Known(1.0), description="Requests that must wait before any of them joins a running batch, a whole number."
    )
    admission_delay: Annotated[Known, quantity("", zero=True)] = Field(
        NONE, description="Steps that pass before the scheduler sees a request, where batches are decided ahead."
    )
    tokenization: Overhead = Field(
        NONE, description="Per token of a prompt that comes as text, in the one thread before the scheduler."
    )
    sequence_overhead: Overhead = Field(NONE, description="Per sequence that emits a token.")
    sequence_layer_overhead: Overhead = Field(NONE, description="Per sequence that emits a token and layer.")
    vocabulary_overhead: Overhead = Field(
        NONE, description="Per entry of the vocabulary and emitting sequence, where the sampler sorts (top-k, top-p)."
    )
    socket_scaling: Fraction = Field(Known(1.0), description="Share that each socket keeps when several work together.")
    expert_popularity: Annotated[Known, quantity("", zero=True)] = Field(
        NONE, description="Zipf exponent of the experts' popularity."
    )
    host: HostPart | None = Field(None, description="Products that the host computes; absent: none.")
    collectives: Collectives


def part_of(model: type[Block]) -> type[Block]:
    """The model with nothing required, blocks inside it likewise: what may be said of one chip alone."""
    fields: dict[str, Any] = {}
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        if name not in Block.model_fields:
            hint = hints[name]
            blocks = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and issubclass(one, Block)]
            inside = part_of(blocks[0]) if blocks else hint
            fields[name] = inside, Field(None, description=field.description)
    part: type[Block] = create_model(f"{model.__name__}OnOneChip", __base__=Block, __doc__=model.__doc__, **fields)
    return part


if TYPE_CHECKING:
    ParametersOnOneChip = Parameters
else:
    ParametersOnOneChip = part_of(Parameters)


def laid_over(below: B, above: Block, label: Label | None = None, source: str | None = None) -> B:
    """`below` with what `above` states, tables entry by entry; each number keeps the label and source it had there."""
    label, source = above.label or label, above.source or source
    update: dict[str, Any] = {}
    for name in above.model_fields_set - set(Block.model_fields):
        value, old = getattr(above, name), getattr(below, name)
        if isinstance(value, Block) and old is not None:
            update[name] = laid_over(old, value, label, source)
        elif isinstance(value, Mapping):
            update[name] = {**old, **{key: _known(item, label, source) for key, item in value.items()}}
        else:
            update[name] = _known(value, label, source)
    return below.model_copy(update=update)


def on_one_chip(whole: B, on: Mapping[str, Block], names: Iterable[str]) -> B:
    """A stack with the numbers that its `on` has under the first of the names, and with nothing left in `on`."""
    if not on:
        return whole
    found = next((on[name] for name in names if name in on), None)
    laid = whole if found is None else laid_over(whole, found, whole.label, whole.source)
    return laid.model_copy(update={"on": {}})


def _known(value: Any, label: Label | None, source: str | None) -> Any:
    if not isinstance(value, Known):
        return value
    return Known(float(value), value.label or label, value.source or source, value.range, value.unit)
