"""What a byte of memory costs, in dated scenarios."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from simulator.errors import ProfileError, Where, unknown
from simulator.hardware.memory import TierName
from simulator.provenance import Block
from simulator.quantity import DollarsPerByte
from simulator.yaml_source import read_yaml, validate


class MemoryPrices(Block):
    """Scenario -> tier -> USD per byte. Tiers that are part of a die (sram) have no price."""

    scenarios: dict[str, dict[TierName, DollarsPerByte]] = Field(min_length=1)

    def of(self, scenario: str, where: Where | None = None) -> dict[TierName, DollarsPerByte]:
        """The prices of a scenario. Raise ProfileError for a name that is none."""
        if scenario not in self.scenarios:
            raise ProfileError(unknown("memory price scenario", scenario, self.scenarios, where))
        return self.scenarios[scenario]

    def at(self, date: str) -> dict[TierName, DollarsPerByte]:
        """The prices of the scenario that is nearest to a date ('2024', '2026-05')."""
        return self.scenarios[min(self.scenarios, key=lambda name: (abs(_months(name) - _months(date)), name))]


@cache
def memory_prices() -> MemoryPrices:
    """The prices that come with ramwise (memory_prices.yaml)."""
    source = read_yaml(Path(__file__).with_name("memory_prices.yaml"), error=ProfileError)
    prices: MemoryPrices = validate(MemoryPrices, source, error=ProfileError)
    return prices


def _months(date: str) -> int:
    """Months since the year 0; the middle of a year that stands without a month."""
    year, _, month = date.partition("-")
    return 12 * int(year) + (int(month) if month else 6)
