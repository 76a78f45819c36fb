"""Numbers to people: tables on a terminal, charts, a timeline, and the folder that holds them all."""

from __future__ import annotations

from simulator.report.result import Report, RunResult

__all__ = ["Report", "RunResult"]
