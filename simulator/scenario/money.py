"""What a scenario says about money."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.quantity import DollarRate, Dollars, DollarsPerJoule, Fraction, Known, Seconds, Share
from simulator.strict import Strict


class Money(Strict):
    """How machines are paid for. What is left out is as stated here, and results print all of it."""

    basis: Literal["rental", "capital"] | None = Field(
        None, description="Hourly rental, or purchase over its life; left out: rental where every machine has one."
    )
    amortisation: Seconds = Field(
        Known(5 * 31_536_000.0, source="Epoch AI, cost of a 1 GW site, 2026-05-14: IT lives 5 years"),
        description="Life of the machine; the essay of 2023 took 3 years. It moves costs more than energy does.",
    )
    interest: Share = Field(Known(0.0), description="Per year, on what is not paid back yet.")
    electricity: DollarsPerJoule = Field(
        Known(0.1 / 3.6e6, source="essay of 2023: 0.1 USD/kWh", unit="USD/J"),
        description="Beside capital; rental holds it.",
    )
    facility: Share = Field(
        Known(0.4, source="Epoch AI, 2026-05-14: (8.5 - 5.0 - 0.9 - 0.6) / 5.0 of what servers cost a year"),
        description="Buildings, cooling plant and network, as a share of the machine's own cost.",
    )
    operation: Share = Field(
        Known(0.18, source="Epoch AI, 2026-05-14: 0.9 / 5.0 of what servers cost a year"),
        description="Staff and maintenance, as a share of the machine's own cost.",
    )
    utilisation: Fraction = Field(Known(1.0), description="Share of the paid hours in which the machine serves.")
    memory_prices: str | None = Field(
        None, description="Memory price scenario (2023, 2025-12, 2026-06); the date of each price when left out."
    )
    capital: dict[str, Dollars] = Field(default_factory=dict, description="USD of a machine, by profile, in its place.")
    rental: dict[str, DollarRate] = Field(default_factory=dict, description="USD/h of one chip, by profile.")
