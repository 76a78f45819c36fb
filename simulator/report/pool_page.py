"""Machines that prefill and machines that decode, side by side; and where the time to the first token goes."""

from __future__ import annotations

from simulator.report.names import run_names
from simulator.report.page import Section, table_of
from simulator.report.pools import WAY
from simulator.report.result import Report


def pool_section(report: Report) -> tuple[Section, ...]:
    """A table of the pools of all runs that have several; nothing where none has."""
    rows = []
    for name, run in zip(run_names(report), report.runs, strict=True):
        for role, pool in (run.summary.get("pools") or {}).items():
            bound = max(pool["bound_by"] or {"-": 0.0}, key=lambda part: (pool["bound_by"] or {}).get(part, 0.0))
            figures = [pool[key] for key in ("chips", "utilisation", "mfu", "mbu", "average_power_w", "cost_usd")]
            layout = f"{pool['layout']} x{pool['replicas']}"
            rows.append([run.summary["model"], name, role, pool["hardware"], layout, *figures, bound])
    if not rows:
        return ()
    figures = ["chips", "busy (share)", "MFU", "MBU", "average power (W)", "USD"]
    names = ["model", "machine", "pool", "hardware", "layout", *figures, "bound by"]
    return (Section("Prefill and decode", table=table_of(names, rows)), *_ways(report))


def _ways(report: Report) -> tuple[Section, ...]:
    rows = []
    for name, run in zip(run_names(report), report.runs, strict=True):
        moves = run.summary.get("transfer")
        if moves and moves["moved"] and not run.saturated:
            parts = [moves[f"{part}_mean_ms"] for part in WAY]
            rows.append([run.summary["model"], name, *parts, moves["bytes_mean"] / 1e6])
    if not rows:
        return ()
    names = ["model", "machine", *(f"{words} (ms)" for words in WAY.values()), "cache (MB)"]
    return (Section("", "Where the time to the first token goes, on average.", table=table_of(names, rows)),)
