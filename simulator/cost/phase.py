"""What one algorithm of a collective does: it waits for steps and it streams bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.model.operation import Array
from simulator.stack.parameters import Collectives


@dataclass(frozen=True)
class Phase:
    """waited: seconds of latency, all steps together; streamed: seconds that the busiest link sends; chunked: whether
    the message is cut so that its steps overlap."""

    waited: Array
    streamed: Array
    chunked: bool = True

    def then(self, other: Phase) -> Phase:
        """One after the other."""
        return Phase(self.waited + other.waited, self.streamed + other.streamed)

    def beside(self, other: Phase) -> Phase:
        """Chunks of a message pass one while later chunks pass the other: each waits, the slower one streams."""
        return Phase(self.waited + other.waited, np.maximum(self.streamed, other.streamed))

    def seconds(self, software: Collectives) -> Array:
        """launch + waited + streamed + 2 s sqrt(launch * streamed).

        The root is the optimum of cutting a message into chunks: few waste bandwidth, many latency (s = 0: none).
        """
        start = launch(software)
        whole = start + self.waited + self.streamed
        if not self.chunked:
            return whole
        return whole + 2 * float(software.pipelining) * np.sqrt(start * self.streamed)


def launch(software: Collectives) -> float:
    """Fixed time of one collective; 0 where it is inside the stack's `layer_overhead`."""
    return 0.0 if software.fused else float(software.launch)
