"""How the model of a row lies over its chips."""

from __future__ import annotations

import re
from functools import cache

from simulator.hardware.profile import Profile
from simulator.model.architecture import Architecture
from simulator.model.parallelism import Parallelism, divisors
from simulator.validation import mixed
from simulator.validation.rows import RefusedError, Row, whole


class LayoutNotStatedError(RefusedError):
    """The row does not say it."""

    def __init__(self) -> None:
        super().__init__("layout not stated")


_THREADS = re.compile(r"(\d+) threads")
_DEGREE = re.compile(r"\b(tp|dp)\s*=\s*(\d+)", re.IGNORECASE)
_CORES = "tensorcores ("
_ATTENTION_COPIED = re.compile(r"attention DP enabled", re.IGNORECASE)  # TensorRT-LLM counts its ranks as tp
_GATHERED = "wg "  # weight-gathered layouts of Pope et al.


SERIAL, ROWS = "serial", "rows"
"""What an engine makes of stages: each waits for the one before; or they are no stages, all chips share each matrix but
those of experts (llama.cpp's `--split-mode row`)."""


def layout_of(row: Row, model: Architecture, profile: Profile, stages: str, reading: str) -> Parallelism:
    """How the model lies over the chips. Where stages wait for each other, a token takes as long as on one chip that
    has room for all; pieces of a prompt follow one another."""
    if row.n_chips and not whole(row.n_chips):
        raise RefusedError("chips are not a whole number")
    chips = whole(row.n_chips) if profile.host is None else mixed.chips_in(row.hardware)
    layout = _described(row, chips) if row.parallelism else _degrees(row, chips)
    whole_experts = any(layer.ffn and layer.ffn.routed_experts for layer in model.layers)
    if stages == ROWS and not whole_experts:
        layout = Parallelism(tp=layout.tp * layout.pp)
    elif stages and not reading.startswith("prefill"):
        layout = Parallelism()
    if layout.chips > profile.node.chips and profile.node.scale_out is None:
        raise RefusedError(f"{layout.chips} chips, more than one {profile.name}")
    if profile.family == "tpu-mesh" and layout.pp == layout.ep == 1:
        return layout  # heads are padded to the chips (Pope et al. 2022: 48 of PaLM to 64)
    misfit = _misfit(layout, model)
    if misfit:
        raise RefusedError(f"layout cannot cut the model: {misfit}")
    return layout


def threads_of(row: Row, profile: Profile, layout: Parallelism) -> int | None:
    """Threads of each socket; None for one a core, and where it is not said."""
    found = _THREADS.search(row.parallelism)
    if not found or profile.family != "dram-node" or profile.host is not None:
        return None
    threads, cores = int(found[1]) / layout.chips, int(profile.chip.matrix.units)
    if threads == cores:
        return None
    if threads > cores or threads != int(threads):
        raise RefusedError("more threads than cores")
    if profile.chip.main_memory.core_bandwidth is None:
        raise RefusedError("what one core reads of its memory is not known")
    return int(threads)


@cache
def _misfit(layout: Parallelism, model: Architecture) -> str:
    problems = layout.check(model)
    return problems[0].what if problems else ""


def _described(row: Row, chips: int | None) -> Parallelism:
    """The layout that a phrase states; all chips in one tensor-parallel group where it states none."""
    words = row.parallelism.lower()
    if _GATHERED in words:
        raise RefusedError("weights are gathered over the mesh")
    degrees = {name.lower(): int(value) for name, value in _DEGREE.findall(row.parallelism)}
    if "tp" in degrees and chips and _CORES in words:
        degrees["tp"] = chips  # a chip's cores count as devices (TPU7x)
    if degrees:
        return Parallelism(**degrees)
    if not chips:
        raise LayoutNotStatedError
    return Parallelism(tp=chips)


def _degrees(row: Row, chips: int | None) -> Parallelism:
    """The layout that the columns tp, pp, ep, dp state."""
    given = {name: getattr(row, name) for name in ("tp", "pp", "ep", "dp")}
    if not any(given.values()) and chips != 1:
        raise LayoutNotStatedError
    stated = {name: whole(text) if text else 1 for name, text in given.items()}
    degrees = {name: degree for name, degree in stated.items() if degree}
    if len(degrees) < len(stated):
        raise LayoutNotStatedError
    if _ATTENTION_COPIED.search(row.note) and not row.dp:
        ranks = degrees["tp"]
        degrees |= {"tp": 1, "dp": ranks, "ep": ranks}
    copies = degrees["pp"] * degrees["dp"]
    if chips and degrees["tp"] * copies < chips and degrees["ep"] > 1 and chips % copies == 0:
        degrees["tp"] = chips // copies  # vLLM counts the ranks of the experts, which the attention shares
    layout = Parallelism(**degrees)
    if chips and layout.chips != chips:
        raise RefusedError("degrees do not multiply to the chips")
    return layout


def layouts_of_system(model: Architecture, profile: Profile, chips: int) -> list[Parallelism]:
    """What a replica may take of a system whose layout nobody states: tensor parallelism, or data-parallel attention
    beside spread experts, each within a machine and with a divisor of the chips."""
    sizes = [size for size in divisors(chips) if size <= profile.node.chips]
    found = [Parallelism(tp=size) for size in sizes] + [Parallelism(dp=size, ep=size) for size in sizes if size > 1]
    return [layout for layout in found if not _misfit(layout, model)]
