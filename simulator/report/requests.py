"""requests.parquet: one row for each request of each run, units in the names of the columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from simulator.report.result import Report, RunResult


def write_requests(report: Report, path: Path) -> None:
    """Write all runs' requests, a row group (or more) for each run; what never happened is null."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, _schema(), compression="zstd") as writer:
        for run in report.runs:
            writer.write_table(requests_table(run))


def requests_table(run: RunResult) -> pa.Table:
    """The requests of one run as an Arrow table. TPOT = (finish - first token) / (output tokens - 1), from 2 tokens."""
    import pyarrow as pa

    records = run.records.requests
    output = np.asarray(records.output_tokens)
    decoded = np.where(output > 1, output - 1, np.nan)  # intervals between output tokens
    columns: dict[str, Any] = {
        "replica": pa.array(np.asarray(records.replica, dtype=np.int32)),
        "arrival_s": _real(records.arrival_s),
        "scheduled_s": _real(records.scheduled_s),
        "ttft_ms": _real(1e3 * (records.first_token_s - records.arrival_s)),
        "tpot_ms": _real(1e3 * (records.finish_s - records.first_token_s) / decoded),
        "e2el_ms": _real(1e3 * (records.finish_s - records.arrival_s)),
        "input_tokens": pa.array(np.asarray(records.input_tokens, dtype=np.int64)),
        "output_tokens": pa.array(output.astype(np.int64)),
        "preemptions": pa.array(np.asarray(records.preemptions, dtype=np.int32)),
    }
    count = len(records)
    words = {name: _repeated(str(run.summary[name]), count) for name in ("machine", "model")}
    return pa.table({**words, **columns}, schema=_schema())


def _schema() -> pa.Schema:
    import pyarrow as pa

    word, real, whole = pa.dictionary(pa.int32(), pa.string()), pa.float64(), pa.int32()
    return pa.schema(
        [
            ("machine", word),
            ("model", word),
            ("replica", whole),
            ("arrival_s", real),
            ("scheduled_s", real),
            ("ttft_ms", real),
            ("tpot_ms", real),
            ("e2el_ms", real),
            ("input_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("preemptions", whole),
        ]
    )


def _real(values: Any) -> pa.Array:
    import pyarrow as pa

    column = np.asarray(values, dtype=float)
    return pa.array(column, mask=~np.isfinite(column))


def _repeated(word: str, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([word]))
