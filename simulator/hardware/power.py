"""What a chip and its node draw: idle + active while a kernel runs + marginal energy of FLOPs and bytes, capped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.provenance import Block
from simulator.quantity import JoulePerByte, JoulePerFlop, Ratio, Watts

Level = Literal["device", "board", "node", "facility"]


class ChipPower(Block):
    """Power of one chip. Coefficients of different levels differ 2.4 to 4.6 fold, so every block names its level."""

    level: Level = Field(description="What the figures include: the device, its board, the node, the facility.")
    idle: Watts = Field(description="Power with nothing running.")
    active: Watts = Field(description="Extra power while any kernel runs, whatever it does.")
    cap: Watts = Field(description="Power limit, which no work exceeds.")
    flop: dict[str, JoulePerFlop] = Field(
        description="Marginal energy of a FLOP, for every compute format of the chip."
    )
    link: JoulePerByte | None = Field(None, description="Marginal energy of a byte sent to another chip.")


class NodePower(Block):
    """Power of the node around its chips."""

    base: Watts = Field(description="Hosts, fans, NICs, switches and power supplies; nothing that is inside the chips.")
    pue: Ratio = Field(description="Facility power over node power.")
