"""The law of random gathers against times measured on real DRAM (rows of 64 B to 16 KiB, tables of 64 MB to 4 GB)."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.cost.access import gather, latency_of
from simulator.cost.amount import Amount
from simulator.cost.cache import hit_rate
from simulator.cost.machine import Machine
from simulator.hardware.catalogue import Catalogue
from simulator.hardware.memory import MemoryTier
from simulator.model.operation import Gather
from simulator.model.parallelism import Parallelism
from simulator.stack.stack import Stacks

ROW_BYTES = (64, 128, 256, 512, 1024, 4096, 16384)
MIB = 2**20

# ns a row and thread, the best of one and of two threads; with Zipf's indices: uniform time / measured speed-up.
UNIFORM = {
    64: (5.5, 8.5, 16.9, 36, 60, 226, 760),
    512: (6.8, 11.0, 22, 41, 78, 299, 1061),
    4096: (11.9, 17.4, 26, 47, 89, 280, 1124),
}
SPEED_UP = {512: (1.4, 2.0, 2.1, 2.2, 1.9, 1.8, 1.8), 4096: (1.3, 1.5, 1.5, 1.8, 1.4, 1.2, 1.5)}
SMALL_PAGES = (30.5, 35, 41, 61, 125.5, 438, 1207)
THREADS, ROWS = 2, 1e6


def nanoseconds(table_mib: float, row_bytes: float, zipf: float = 0.0, hardware: str = "zen3-vm") -> float:
    """Time of a row and thread: both threads share the work."""
    profile = Catalogue().load(hardware)
    machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism())
    look = Gather("rows", "table", ROWS, ROWS, row_bytes, 0.0, table_rows=table_mib * MIB / row_bytes, zipf=zipf)
    return float(np.asarray(gather(look, machine).total_seconds)) / ROWS * THREADS * 1e9


def errors(measured: dict[int, tuple[float, ...]], zipf: float = 0.0, hardware: str = "zen3-vm") -> np.ndarray:
    return np.array(
        [
            nanoseconds(table, row, zipf, hardware) / time - 1
            for table, times in measured.items()
            for row, time in zip(ROW_BYTES, times, strict=True)
        ]
    )


def test_uniform_gathers_are_within_seven_percent_median() -> None:
    found = np.abs(errors(UNIFORM))
    assert np.median(found) < 0.07
    assert found.max() < 0.22


def test_gathers_by_zipf_are_within_ten_percent_median() -> None:
    skewed = {
        table: tuple(t / s for t, s in zip(UNIFORM[table], speed_ups, strict=True))
        for table, speed_ups in SPEED_UP.items()
    }
    by_zipf = np.abs(errors(skewed, zipf=1.0))
    assert np.median(by_zipf) < 0.10
    assert np.median(np.concatenate([np.abs(errors(UNIFORM)), by_zipf])) < 0.085


def test_each_cache_serves_what_the_smaller_ones_before_it_do_not() -> None:
    """The rate of a level is Che's for its size, so bytes from memory are those that the largest one misses."""
    profile = Catalogue().load("zen3-vm")
    core, shared, memory = profile.chip.memory
    rows = 512 * MIB / 256
    look = Gather("rows", "table", ROWS, ROWS, 256.0, 0.0, table_rows=rows, zipf=1.0)

    def cost(*levels: MemoryTier) -> Amount:
        chip = profile.chip.model_copy(update={"memory": (*levels, memory)})
        machine = Machine(
            profile.model_copy(update={"chip": chip}), Stacks().load(profile.default_stack), Parallelism()
        )
        return gather(look, machine)

    none, last, both = cost(), cost(shared), cost(core, shared)
    missed = 1 - hit_rate(rows, 1.0, float(shared.capacity) / 256, "lru")
    for one in (last, both):
        assert one.bytes["ddr"] == pytest.approx(none.bytes["ddr"] * missed)
    seconds = [float(np.asarray(one.total_seconds)) for one in (both, last, none)]
    assert seconds == sorted(seconds)


def test_what_a_cache_holds_is_translated_like_any_other_row() -> None:
    """Rows of a table of 4 GB miss the translation buffers wherever they lie: the same hits save less of the time."""
    assert nanoseconds(512, 64) / nanoseconds(512, 64, 1.0) > 1.3 * nanoseconds(4096, 64) / nanoseconds(4096, 64, 1.0)


def test_small_pages_are_a_profile_of_their_own() -> None:
    assert np.median(np.abs(errors({4096: SMALL_PAGES}, hardware="zen3-vm-4k"))) < 0.15
    assert nanoseconds(4096, 64, hardware="zen3-vm-4k") > 2 * nanoseconds(4096, 64)


def test_the_larger_of_bandwidth_and_latency_would_be_wrong() -> None:
    """Why the law adds: max(bytes / stream, rows * latency / outstanding) is off by a third."""
    simple = [
        max(row / 19.55, latency / 18.8) / time - 1
        for latency, table in ((137, 512), (223, 4096))
        for row, time in zip(ROW_BYTES, UNIFORM[table], strict=True)
    ]
    assert np.median(np.abs(simple)) > 0.25
    assert np.median(np.abs(errors({table: UNIFORM[table] for table in (512, 4096)}))) < 0.06


def test_what_the_code_reaches_of_the_law_is_the_stack_s() -> None:
    profile = Catalogue().load("zen3-vm")
    stack = Stacks().load(profile.default_stack)
    times = [
        float(
            np.asarray(
                gather(
                    Gather("rows", "table", 1e4, 1e4, 256.0),
                    Machine(profile, stack.model_copy(update={"gather_rate": rate}), Parallelism()),
                ).total_seconds
            )
        )
        for rate in (1.0, 0.5)
    ]
    assert times[1] == pytest.approx(2 * times[0])


def test_rows_beside_a_stream_wait_longer_by_the_loaded_latency() -> None:
    profile = Catalogue().load("xeon-6980p-2s-ddr5")
    assert latency_of(profile.chip.memory[0]) == pytest.approx(139e-9)
    assert latency_of(profile.chip.memory[0], load=0.03) == pytest.approx(139e-9)
    assert latency_of(profile.chip.memory[0], load=0.9) == pytest.approx(357e-9)
    machine = Machine(profile, Stacks().load(profile.default_stack), Parallelism())
    look = Gather("rows", "table", 1e6, 1e6, 64.0)
    idle, loaded = (float(np.asarray(gather(look, machine, load).total_seconds)) for load in (0.0, 0.9))
    assert loaded / idle == pytest.approx(357 / 139, rel=0.01)
