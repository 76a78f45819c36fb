"""Training scenarios: cases, their runs, and what these come to."""

from simulator.train.case import prepare
from simulator.train.runs import report_of, run, simulate

__all__ = ["prepare", "report_of", "run", "simulate"]
