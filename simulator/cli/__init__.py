"""The command `ramwise`, a group of commands a file."""

from simulator.cli.app import app, main

__all__ = ["app", "main"]
