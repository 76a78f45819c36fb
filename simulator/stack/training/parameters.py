"""What training software reaches of a machine: numbers that may differ by chip. Forms: simulator/cost/training_*.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from simulator.provenance import Block
from simulator.quantity import Fraction, Known, Ratio, Share, quantity

Overhead = Annotated[Known, quantity("s", zero=True)]
Number = Annotated[Known, quantity("", zero=True)]

NOTHING = Known(0.0)
ONE = Known(1.0)


class TrainingParameters(Block):
    """The numbers of a training stack. Fractions are of the hardware profile's peaks; `exposed` is the share of a
    transfer's time that its overlap with compute does not hide."""

    matmul: dict[str, Fraction] = Field(description="Share of peak FLOP/s of large products, by compute format.")
    half_depth: Number = Field(Known(96.0), description="Inner size of a product at which it reaches half of `matmul`.")
    expert_matmul: Fraction = Field(ONE, description="Of `matmul`, what grouped expert products reach.")
    attention: Fraction = Field(description="Share of the 16-bit peak of attention with heads 128 wide.")
    fused_attention: bool = Field(True, description="True: scores are never stored. False: all of them are.")
    softmax_passes: Number = Field(Known(5.0), description="Unfused: 16-bit passes over the scores, forward.")
    misaligned: Ratio = Field(ONE, description="Unfused: slowdown when the width of a head is no multiple of 8.")
    elementwise: Ratio = Field(ONE, description="Memory traffic of norms and activations over what they must move.")
    cast: Number = Field(NOTHING, description="Traffic of casts to 8- and 4-bit formats over 3 B a value.")
    permutation: Number = Field(NOTHING, description="Traffic of sorting tokens to experts, over 2 B a value.")
    layer_floor: Overhead = Field(NOTHING, description="Host time to launch a layer's forward pass, without graphs.")
    expert_floor: Overhead = Field(NOTHING, description="Host time that experts add to it: routing, sorting, products.")
    expert_wait: Overhead = Field(NOTHING, description="Until the host knows how many tokens chose an expert.")
    scan: Fraction = Field(Known(0.1), description="Share of the 16-bit peak of scans over states (Mamba-2) in fp32.")
    selective: Fraction = Field(Known(0.3), description="Fused: share of the forward that selective recompute redoes.")
    accumulation: Share = Field(Known(0.5), description="Exposed share of adding a micro-batch's gradients in fp32.")
    tp_exposed: Number = Field(ONE, description="Exposed share of tensor-parallel collectives.")
    ep_exposed: Number = Field(ONE, description="Exposed share of the experts' exchange that overlaps.")
    dp_exposed: Number = Field(ONE, description="Exposed share of gradient reduction and weight gathering.")
    pp_exposed: Number = Field(ONE, description="Exposed share of sends between stages whose chunks interleave.")
    cp_exposed: Share = Field(Known(0.1), description="Exposed share of a context-parallel ring shorter than compute.")
    dcn_exposed: Number = Field(ONE, description="Exposed share of gradient reduction between slices.")
    dcn_slices: Ratio = Field(Known(12.0), description="Slices at which reduction between slices takes twice as long.")
    jitter: Number = Field(NOTHING, description="Share of a step lost for each doubling of the scale-up domains.")
    latency: Overhead = Field(NOTHING, description="Of one step of a collective, in place of the fabric's; 0: its own.")
    link: Fraction = Field(Known(0.75), description="Share of the scale-up link that long messages reach.")
    network: Fraction = Field(Known(0.8), description="Share of the scale-out link that long messages reach.")
    streaming: Fraction = Field(Known(0.85), description="Share of peak memory bandwidth.")
    reserved: Annotated[Known, quantity("B", zero=True)] = Field(
        NOTHING, description="Memory of a chip that context, communication buffers and fragmentation take."
    )
