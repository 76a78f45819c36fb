"""Serving scenarios: machines, cases, their runs, and what these come to."""

from simulator.serve.case import Case, case_of, link_of, prepare, slo
from simulator.serve.machine import basis, machine_of, placed, prices
from simulator.serve.runs import execute, report_of, run

__all__ = [
    "Case",
    "basis",
    "case_of",
    "execute",
    "link_of",
    "machine_of",
    "placed",
    "prepare",
    "prices",
    "report_of",
    "run",
    "slo",
]
