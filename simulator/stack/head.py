"""What every stack says of itself."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.profile import Family
from simulator.provenance import Block
from simulator.quantity import Label


class Head(Block):
    """Dated software on one or several chip families."""

    name: str
    title: str
    date: str = Field(description="Of the software, year or year and month.")
    families: tuple[Family, ...] = Field(min_length=1, description="Chip families that it runs on.")
    label: Label
    source: str = Field(min_length=1)
    notes: str = ""
