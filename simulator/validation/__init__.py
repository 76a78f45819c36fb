"""Simulated against measured: published measurements, what their words mean, closed forms, and the figures."""

from simulator.validation.compare import Figures, Point
from simulator.validation.report import print_validation, write_validation
from simulator.validation.rows import MeasurementError
from simulator.validation.validation import Validation, validate

__all__ = ["Figures", "MeasurementError", "Point", "Validation", "print_validation", "validate", "write_validation"]
