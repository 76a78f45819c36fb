"""Recommenders: large embedding tables with several look-ups each, and a small dense network (DLRM-DCNv2)."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from simulator.model.ffn.kind import Visit
from simulator.model.ffn.look_up import Shard, brought_together, look_up
from simulator.model.number_format import FORMATS, FormatName, Precision
from simulator.model.operation import Array, Gather, Matmul, Operation, Vector
from simulator.model.parallelism import ACTIVATION_BYTES, Parallelism
from simulator.model.popularity import Uniform, Zipf, assumed
from simulator.model.samples import Count, SampleModel

TABLES = Path(__file__).parent / "recommenders"

GRID = np.unique(np.round(2.0 ** np.arange(0.0, 24.0, 0.125)))
"""Samples in a step for which distinct rows are counted; between them log-log lines are right to 1e-4."""

CROSS = "cross"
"""The matrices that may have a format of their own."""

ITEMS = assumed(
    0.8, 0.0, 1.2, "no access statistics of the benchmark's synthetic multi-hot data are published: vary it"
)


@dataclass(frozen=True)
class Table:
    """rows x width values, of which a sample reads `lookups` rows and adds them."""

    rows: int
    width: int
    lookups: int


@lru_cache(maxsize=8)
def tables_of(name: str) -> tuple[Table, ...]:
    """The tables of a packaged recommender."""
    text = (TABLES / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(
        Table(int(row["rows"]), int(row["embedding_dim"]), int(row["multi_hot_lookups_per_sample"]))
        for row in csv.DictReader(text.splitlines())
    )


def width_of(name: str) -> float:
    """Bytes of a value between operations, at the most 16 bits."""
    return min(FORMATS[name].bytes, ACTIVATION_BYTES)


class Recommender(SampleModel):
    """DLRM-DCNv2 of MLPerf: 26 tables, dense features through a bottom MLP, low-rank cross layers, a top MLP.

    Cross layer: x_0 * (U (V x) + b) + x with V [n, rank], U [rank, n] on the n = (tables + 1) * width joined values.
    FLOPs a sample: 2 * (bottom + 2*cross*n*rank + top). Tables are spread over the chips, the rows of a table that a
    sample reads are added where they lie; the sums go to the sample's chip in an all-to-all. Dense parts are copied.
    Source: mlcommons/inference, recommendation/dlrm_v2 (tables, multi-hot sizes, layers).
    """

    unit: ClassVar[str] = "sample"

    kind: Literal["dlrm"]
    tables: Literal["dlrm-dcnv2"] = "dlrm-dcnv2"
    dense_features: Count = 13
    bottom: tuple[Count, ...] = (512, 256, 128)
    cross_layers: Count = 3
    rank: Count = 512
    top: tuple[Count, ...] = (1024, 1024, 512, 256, 1)
    dtype: Annotated[FormatName, Field(description="Of the tables.")] = "fp32"
    mlp_dtype: Annotated[FormatName, Field(description="Of both MLPs and what they read and write.")] = "bf16"
    cross_dtype: Annotated[FormatName, Field(description="The same of the cross layers.")] = "bf16"
    popularity: Uniform | Zipf = ITEMS
    shard: Shard = "row"

    @property
    def title(self) -> str:
        """Its name, else that of its tables."""
        return self.name or self.tables

    @property
    def launches(self) -> float:
        """One kernel for each matrix, with what is element-wise behind it, and one for all tables."""
        return len(self.matrices()) + 1.0

    @property
    def precision(self) -> Precision:
        """The matrices of MLPs and cross layers, and the tables, as they say."""
        return Precision(weights=self.mlp_dtype, tensors=((CROSS, self.cross_dtype), ("table", self.dtype)))

    @property
    def joined(self) -> int:
        """n: values after the tables' sums and the bottom MLP."""
        return sum(table.width for table in tables_of(self.tables)) + self.bottom[-1]

    def matrices(self) -> list[tuple[str, int, int]]:
        """(name, inputs, outputs) of every matrix."""
        found: list[tuple[str, int, int]] = []
        for name, into, widths in (("bottom", self.dense_features, self.bottom), ("top", self.joined, self.top)):
            found += [(f"{name} MLP", *pair) for pair in pairwise((into, *widths))]
        cross = [("cross in", self.joined, self.rank), ("cross out", self.rank, self.joined)]
        return found + cross * self.cross_layers

    def parameters(self, parallelism: Parallelism) -> dict[str, float]:
        """Tables over the chips, matrices on each."""
        chips = parallelism.tp * parallelism.dp
        return {
            "table": sum(float(table.rows) * table.width for table in tables_of(self.tables)) / chips,
            "ffn": float(sum(into * out for _, into, out in self.matrices())),
        }

    def operations(self, count: Array, parallelism: Parallelism, precision: Precision) -> list[Operation]:
        """Look-ups, their sums, the exchange, then the matrices."""
        own = count / parallelism.dp
        visit = Visit(self.joined, own, count, parallelism, precision)
        tables = tables_of(self.tables)
        found: list[Operation] = [self._rows(count, parallelism, precision)]
        summed = own * sum(table.lookups * table.width for table in tables)
        pooled = sum(table.width for table in tables)
        found.append(Vector("sums of rows", summed, own * (pooled * ACTIVATION_BYTES)))
        found += brought_together("sums of rows", visit, pooled)
        for name, into, out in self.matrices():
            stored = precision.format_of(CROSS if name.startswith(CROSS) else "ffn")
            found.append(Matmul(name, own, out, into, stored, "ffn", activation_bytes=width_of(stored)))
        crossed = own * (self.cross_layers * self.joined)
        moved = 2.0 * width_of(precision.format_of(CROSS))  # x_0 and x, behind the product that writes the result
        found.append(Vector("cross products", 3.0 * crossed, crossed * moved))
        return found

    def _rows(self, count: Array, parallelism: Parallelism, precision: Precision) -> Gather:
        """The look-ups of all tables as one call (a fused embedding bag), of many counts from those on a grid."""
        if np.size(count) <= len(GRID):
            return self._exact_rows(count, parallelism, precision)
        few = self._exact_rows(GRID, parallelism, precision)
        some, place = np.asarray(count) > 0, np.log(np.maximum(count, 1.0))
        rows, unique = (
            some * np.exp(np.interp(place, np.log(GRID), np.log(value))) for value in (few.rows, few.unique_rows)
        )
        return replace(few, rows=rows, unique_rows=unique)

    def _exact_rows(self, count: Array, parallelism: Parallelism, precision: Precision) -> Gather:
        """Distinct rows counted table by table."""
        visit = Visit(self.joined, count / parallelism.dp, count, parallelism, precision)
        each = [
            look_up(
                "table rows",
                "table",
                visit,
                per_token=table.lookups,
                tables=1,
                rows=table.rows,
                width=table.width,
                popularity=self.popularity,
                address_known="token",
                shard=self.shard,
            )
            for table in tables_of(self.tables)
        ]
        return replace(
            each[0],
            rows=sum((one.rows for one in each), 0.0),
            unique_rows=sum((one.unique_rows for one in each), 0.0),
            table_rows=sum(one.table_rows for one in each),
        )
