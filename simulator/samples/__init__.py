"""Scenarios of samples or points: cases, their runs, and what these come to."""

from simulator.samples.prepare import prepare
from simulator.samples.runs import report_of, run

__all__ = ["prepare", "report_of", "run"]
