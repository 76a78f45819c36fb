"""What a joule of electricity emits, by grid and year."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simulator.errors import ProfileError, Where, unknown
from simulator.provenance import Block
from simulator.quantity import Known, quantity
from simulator.yaml_source import read_yaml, validate


class GridCarbon(Block):
    """Grid and year -> kg of CO2e a joule, of making the electricity alone."""

    grids: dict[str, Annotated[Known, quantity("kg/J")]] = Field(min_length=1)

    def of(self, grid: str, where: Where | None = None) -> Known:
        """The intensity of a grid. Raise ProfileError for a name that is none."""
        if grid not in self.grids:
            raise ProfileError(unknown("grid", grid, self.grids, where))
        return self.grids[grid]


@cache
def grid_carbon() -> GridCarbon:
    """The grids that come with ramwise (grid_carbon.yaml)."""
    source = read_yaml(Path(__file__).with_name("grid_carbon.yaml"), error=ProfileError)
    grids: GridCarbon = validate(GridCarbon, source, error=ProfileError)
    return grids
