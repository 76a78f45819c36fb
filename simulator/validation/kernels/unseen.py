"""Products on a chip that nobody timed: its datasheet, and the numbers that fit the other chips' products."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.validation.compare import Point
from simulator.validation.kernels.fitting import FIXED, Job, fit
from simulator.validation.kernels.kind import Products
from simulator.validation.rows import Row


class UnseenProducts(Products):
    """gemm_*.csv, each chip and format with one set of numbers fitted to that format's rows on all other chips."""

    def points(self, rows: Sequence[Row]) -> list[Point]:
        """Every row with its time, or why there is none."""
        groups, reasons = self.calls(rows)
        jobs = [Job(self, call, members) for call, members in groups]
        seconds: dict[str, float] = {}
        for job in jobs:
            slot = job.call.slot
            others = [other for other in jobs if other.call.slot.entry == slot.entry and other is not job]
            if not others:
                reasons |= {row.id: f"{slot.entry} was timed on no other chip" for row in job.rows}
                continue
            names = [name for name in type(job.kernel).model_fields if (others[0].value(name) or 0.0) > 0.0]
            numbers = fit(others, [name for name in names if name not in (*FIXED, "wave")])
            seconds |= dict(zip((row.id for row in job.rows), job.seconds(numbers).tolist(), strict=True))
        return [self.point(row, seconds.get(row.id), reasons) for row in rows]
