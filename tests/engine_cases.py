"""Made-up step times and random cases for the tests of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simulator.cost.piece import Line, Piece, largest
from simulator.cost.ticks import TICKS_PER_SECOND, ticks
from simulator.engine.batching import BatchLimits
from simulator.engine.cluster import simulate
from simulator.engine.kv_cache import KvLimits
from simulator.engine.records import RunRecords
from simulator.engine.traffic import Workload

MS = round(TICKS_PER_SECOND / 1000)


@dataclass(frozen=True)
class Tariff:
    """Ticks a step, a token, an emitted token, a key and a query-key pair (times 1, 2, ... by window)."""

    step: int = 0
    token: int = 0
    output: int = 0
    key: int = 0
    pair: int = 0
    wave: int = 0  # for each 64 tokens begun

    def line(self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None) -> Line:
        """Duration of the first step, and its growth."""
        value = self.step + self.token * tokens + self.output * outputs - self.wave * (-tokens // 64)
        growth = 0
        for price, lines in ((self.key, keys), (self.pair, pairs or [])):
            for index, (total, increment) in enumerate(lines, 1):
                value += index * price * total
                growth += index * price * increment
        return value, growth


@dataclass(frozen=True)
class MadeUpStep:
    """The largest of several tariffs: runs bend where one overtakes another."""

    windows: tuple[int | None, ...] = (None,)
    tariffs: tuple[Tariff, ...] = (Tariff(4 * MS, MS // 100, MS // 500, MS // 80_000, MS // 3_000_000, MS // 10),)
    swap: int = MS // 50  # ticks a block

    def pieces(
        self, tokens: int, outputs: int, keys: list[Line], pairs: list[Line] | None, steps: int, swapped: int = 0
    ) -> tuple[Piece, ...]:
        """Durations of `steps` steps."""
        found = largest([tariff.line(tokens, outputs, keys, pairs) for tariff in self.tariffs], steps)
        if not swapped:
            return found
        return tuple((count, first + swapped * self.swap, growth) for count, first, growth in found)


def constant_step(seconds: float) -> MadeUpStep:
    """Every step takes the same time, whatever is in it."""
    return MadeUpStep(tariffs=(Tariff(ticks(seconds)),))


@dataclass(frozen=True)
class EngineCase:
    """Arguments of one run."""

    workload: Workload
    step: MadeUpStep
    batch: BatchLimits
    kv: KvLimits
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, **more: Any) -> RunRecords:
        """Simulate it."""
        return simulate(self.workload, self.step, self.batch, self.kv, **self.options, **more)


def requests(
    arrival_s: Any,
    prompts: Any,
    outputs: Any,
    concurrency: int | None = None,
    think_s: float = 0.0,
    cached: Any = None,
) -> Workload:
    """A workload of plain lists, or of numbers that hold for every request."""
    count = max(np.size(each) for each in (arrival_s, prompts, outputs))
    columns = [
        np.broadcast_to(np.asarray(each, dtype=kind), count)
        for each, kind in ((arrival_s, np.float64), (prompts, np.int64), (outputs, np.int64))
    ]
    return Workload(*columns, concurrency, think_s, cached_tokens=cached)


STEPS = st.builds(
    MadeUpStep,
    st.sampled_from([(None,), (64,), (None, 128), (None, 16, 300)]),
    st.sampled_from(
        [
            MadeUpStep().tariffs,
            (*MadeUpStep().tariffs, Tariff(6 * MS)),  # a floor
            (Tariff(5 * MS, MS // 100), Tariff(4 * MS, 1, 1, MS // 800, MS // 50_000), Tariff(8 * MS, MS // 900)),
        ]
    ),
)


@st.composite
def engine_cases(draw: st.DrawFn) -> EngineCase:
    """Small traces with all that the engine knows: ties, bursts, idle spells, tiny caches, chunks, closed loops."""
    longest_prompt, longest_output = draw(st.sampled_from([20, 300, 3000])), draw(st.sampled_from([3, 40, 200]))
    tick = draw(st.sampled_from([0.0, 0.0007, 0.05, 0.5]))
    shapes = draw(
        st.lists(
            st.tuples(st.integers(0, 5), st.integers(1, longest_prompt), st.integers(1, longest_output)),
            min_size=1,
            max_size=30,
        )
    )
    gaps, prompts, outputs = (np.array(column) for column in zip(*shapes, strict=True))
    concurrency = draw(st.none() | st.integers(1, 12))
    thought, found = draw(st.sampled_from([0.0, 0.01])), draw(st.sampled_from([None, None, 0.3, 1.0]))
    cached = None if found is None else (found * (prompts - 1)).astype(np.int64)
    workload = requests(np.cumsum(gaps) * tick, prompts, outputs, concurrency, thought, cached)
    size, fixed = draw(st.sampled_from([1, 4, 16])), draw(st.integers(0, 2))
    need = int((-(-(prompts + outputs) // size)).max()) + fixed
    return EngineCase(
        workload,
        draw(STEPS),
        BatchLimits(
            draw(st.sampled_from([1, 3, 16])),
            draw(st.sampled_from([16, 64, 512, 4096])),
            chunked_prefill=draw(st.booleans()),
            admission_interval=draw(st.sampled_from([1, 1, 2, 7])),
            admission_least=draw(st.sampled_from([1, 1, 3])),
            admission_delay=draw(st.sampled_from([0.0, 0.0, 0.5, 1.3])),
            whole=draw(st.booleans()),
            tokenization=draw(st.sampled_from([0.0, 0.0, 2e-5])),
        ),
        KvLimits(
            need + draw(st.integers(0, need) | st.integers(0, 8 * need)),
            size,
            fixed,
            draw(st.sampled_from([0, need // 2, need, 9 * need])),
        ),
        {
            "replicas": draw(st.integers(1, 3)),
            "router": draw(st.sampled_from(["round_robin", "least_outstanding"])),
        },
    )
