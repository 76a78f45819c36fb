"""ramwise: when is memory worth more than compute? A discrete-event simulator of large-model inference.

from simulator import load, run
report = run(load("scenarios/four-machines.yaml"))

Studies: sweep, plan, crossover; each takes a study (a file, a packaged name, or what would stand in one). Results are
shown by notebooks; they have a `table`, a `frame()` with units, and `plot()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.api import crossover, load, plan, run, sweep

__all__ = ["crossover", "load", "plan", "run", "sweep"]


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used, so that the command starts at once."""
    if name in __all__:
        from simulator import api

        return getattr(api, name)
    raise AttributeError(f"module 'simulator' has no attribute '{name}'")
