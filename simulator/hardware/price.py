"""What a machine costs. Prices move by half a year: each carries its date."""

from __future__ import annotations

from pydantic import Field

from simulator.provenance import Block
from simulator.quantity import DollarRate, Dollars


class Price(Block):
    """A dated price: to buy, to rent, or both."""

    date: str = Field(pattern=r"^\d{4}(-\d{2})?$", description="Year or year-month of the price, in quotes: '2026-05'.")
    capital: Dollars | None = Field(None, description="USD for the whole machine of this profile.")
    rental: DollarRate | None = Field(None, description="USD per hour for one chip.")
