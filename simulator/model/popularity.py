"""How often each row of a table is asked for, and so how many distinct rows a batch touches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simulator.model.operation import Array
from simulator.quantity import Known, quantity
from simulator.strict import Strict

_EXACT = 1024
"""Ranks that are counted one by one; beyond them ranks within 1 % of each other are counted together."""

_WIDTH = 0.01
_BLOCK = 1 << 20


class Uniform(Strict):
    """Every row alike."""

    uniform: Literal[True] = True

    @property
    def exponent(self) -> float:
        """Zipf exponent 0."""
        return 0.0

    def unique(self, rows: float, draws: Array) -> Array:
        """R*(1 - (1 - 1/R)^D): distinct rows among D independent draws from R."""
        return unique_rows(rows, draws, 0.0)


class Zipf(Strict):
    """Row of rank r asked for in proportion to r^-zipf."""

    zipf: Annotated[Known, quantity("", zero=True)]

    @property
    def exponent(self) -> float:
        """The exponent."""
        return float(self.zipf)

    def unique(self, rows: float, draws: Array) -> Array:
        """sum over ranks of 1 - (1 - p_r)^D, p_r = r^-zipf / H: distinct rows among D independent draws from R."""
        return unique_rows(rows, draws, float(self.zipf))


class Trace(Strict):
    """As often as in a recorded sequence of look-ups: n of them, row i occurring c_i times."""

    trace: str = Field(description="Text or CSV file: the id of each look-up's row (a word, an n-gram), one a line.")

    def found(self, folders: Iterable[Path]) -> Trace:
        """The same with the whole path of its file. Raise ValueError where no folder has it, or it holds nothing."""
        for place in (Path(self.trace), *(Path(folder) / self.trace for folder in folders)):
            if place.is_file():
                whole = Trace(trace=str(place.resolve()))
                if not len(_counts(whole.trace)):
                    raise ValueError(f"the trace '{self.trace}' holds no look-up; write one id a line")
                return whole
        raise ValueError(f"there is no trace '{self.trace}'; give a path, from here or from the scenario")

    @property
    def exponent(self) -> float:
        """Of the Zipf law that has as many distinct rows in as many draws as the trace; caches are reckoned with it."""
        return _exponent(self.trace)

    def unique(self, rows: float, draws: Array) -> Array:
        """Distinct rows among D draws: in a random part of the trace (rarefaction), sum_i 1 - (1 - D/n)^c_i; beyond its
        length the Zipf law's, scaled to meet it there. Never more than R or D."""
        counts = _counts(self.trace)
        length = float(counts.sum())
        sizes, often = np.unique(counts, return_counts=True)
        asked = np.atleast_1d(np.asarray(draws, dtype=float))
        left = np.maximum(1.0 - asked / length, 0.0)
        inside = (often * (1.0 - left[:, None] ** sizes)).sum(axis=1)
        scale = len(counts) / float(unique_rows(rows, length, self.exponent))
        result = np.where(asked <= length, inside, scale * unique_rows(rows, asked, self.exponent))
        result = np.minimum(result, np.minimum(asked, rows))
        return result if np.ndim(draws) else float(result[0])


Popularity = Uniform | Zipf | Trace

UNIFORM = Uniform()


def assumed(exponent: float, low: float, high: float, source: str) -> Zipf:
    """A default popularity that no publication gives: estimated, with its range and where the range is from."""
    return Zipf(zipf=Known(exponent, "estimated", source, (low, high), ""))


@lru_cache(maxsize=8)
def _counts(path: str) -> np.ndarray:
    """How often each row of a trace occurs, the most frequent first; a first line 'id' or '#...' is no look-up."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the trace '{path}' cannot be read: {error}") from error
    ids = [line.split(",")[0].strip() for line in lines]
    used = Counter(
        item for place, item in enumerate(ids) if item and not item.startswith("#") and (place or item != "id")
    )
    counts = np.array(sorted(used.values(), reverse=True), dtype=float)
    counts.setflags(write=False)
    return counts


@lru_cache(maxsize=8)
def _exponent(path: str) -> float:
    counts = _counts(path)
    rows, length = float(len(counts)), float(counts.sum())
    # How many rows there are is not known: some were never met. Ten times those met are taken, at most the draws.
    low, high, support = 0.0, 3.0, max(rows + 1.0, min(10.0 * rows, length))
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if unique_rows(support, length, middle) > rows else (low, middle)
    return (low + high) / 2.0


@lru_cache(maxsize=256)
def ranks(rows: float, zipf: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows in a group of like ranks, probability of each of them). Groups grow by 1 % of their rank."""
    most = max(1, int(rows))
    edges = np.arange(1, min(most, _EXACT) + 2, dtype=float)
    if most > _EXACT:
        steps = int(np.ceil(np.log((most + 1) / edges[-1]) / _WIDTH))
        rest = np.unique(np.floor(np.geomspace(edges[-1], most + 1, steps + 1)))
        edges = np.concatenate([edges, rest[rest > edges[-1]]])
    count = np.diff(edges)
    weight = ((edges[:-1] + edges[1:] - 1.0) / 2.0) ** -zipf
    chance = weight / (weight * count).sum()
    count.setflags(write=False)
    chance.setflags(write=False)
    return count, chance


def unique_rows(rows: float, draws: Array, zipf: float) -> Array:
    """Expected number of distinct rows among `draws` independent draws from `rows` with a Zipf popularity.

    The value for one D does not depend on the others in the array, to the last bit.
    """
    asked = np.atleast_1d(np.asarray(draws, dtype=float))
    if zipf == 0.0:
        miss = np.log1p(-1.0 / rows) if rows > 1 else -700.0
        result = -rows * np.expm1(asked * miss)
    else:
        count, chance = ranks(float(rows), float(zipf))
        miss = np.log1p(-np.minimum(chance, 1.0 - 2.0**-53))
        distinct, place = np.unique(asked, return_inverse=True)
        size = max(1, _BLOCK // len(count))
        sums = [
            -(np.expm1(distinct[start : start + size, None] * miss) * count).sum(axis=1)
            for start in range(0, len(distinct), size)
        ]
        result = np.concatenate(sums)[place.reshape(asked.shape)] if sums else asked
    result = np.minimum(result, asked)
    return result if np.ndim(draws) else float(result[0])
