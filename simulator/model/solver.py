"""Solvers of differential equations: a stencil, and the neural network that may stand in its place."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from simulator.model.number_format import Precision
from simulator.model.operation import Array, Collective, Matmul, Operation, Vector
from simulator.model.parallelism import Parallelism
from simulator.model.samples import Count, SolverModel
from simulator.quantity import Known, quantity

VALUE = 8.0
"""Bytes of a double."""

FACTOR = Known(
    27.0,
    "estimated",
    "about 3 for forward and backward and 3 more for each of two orders of derivatives: recalled, a rule of thumb",
    (9.0, 30.0),
    "",
)


class Jacobi(SolverModel):
    """Sweeps of a 7-point stencil over a grid of doubles: 8 FLOPs a point; 16 bytes with an ideal cache (one read, one
    write), 24 where a write reads the line first. Bound by bandwidth: 0.33 to 0.5 FLOP a byte.

    Chips hold cubes of the grid and swap the six faces of each with their neighbours in every sweep.
    """

    unit: ClassVar[str] = "point"

    kind: Literal["jacobi"]
    grid: tuple[Count, Count, Count]
    bytes_per_point: Annotated[float, Field(ge=8, le=64, description="16: ideal cache; 24: with write allocate.")] = (
        24.0
    )
    flops_per_point: Annotated[float, Field(gt=0)] = 8.0

    @property
    def points_in_step(self) -> int:
        """Points of a sweep."""
        return prod(self.grid)

    @property
    def launches(self) -> float:
        """One kernel a sweep."""
        return 1.0

    @property
    def precision(self) -> Precision:
        """Doubles: two values of fp32 each."""
        return Precision(weights="fp32")

    def parameters(self, parallelism: Parallelism) -> dict[str, float]:
        """Two copies of the grid, counted in values of 4 bytes."""
        return {"activation": 2.0 * self.points_in_step * VALUE / 4.0 / parallelism.dp}

    def operations(self, count: Array, parallelism: Parallelism, precision: Precision) -> list[Operation]:
        """The sweep, and the faces that a chip sends and receives."""
        own = count / parallelism.dp
        found: list[Operation] = [Vector("sweep", own * self.flops_per_point, own * self.bytes_per_point)]
        if parallelism.dp > 1:
            faces = 6.0 * own ** (2.0 / 3.0) * VALUE
            found.append(Collective("halo", "send_receive", faces, 2))
        return found


class Pinn(SolverModel):
    """Training steps of a physics-informed network: a tanh MLP through which all collocation points pass.

    FLOPs a step are points * 2P * cost_factor with P its parameters; chips share the points and add their gradients.
    Source: Raissi et al. 2019 (depth 5 to 9, width 20 to 100, 20,000 points; recalled).
    """

    unit: ClassVar[str] = "point"

    kind: Literal["pinn"]
    points: Count = 20_000
    depth: Annotated[int, Field(ge=2, description="Hidden layers.")] = 8
    width: Count = 50
    inputs: Count = 2
    outputs: Count = 1
    cost_factor: Annotated[
        Known, quantity(""), Field(description="Forward, backward and derivatives over one forward pass.")
    ] = FACTOR

    @property
    def points_in_step(self) -> int:
        """Collocation points of a step."""
        return self.points

    @property
    def launches(self) -> float:
        """Every matrix as often as the factor says, one kernel each with what is element-wise."""
        return (self.depth + 1) * float(self.cost_factor)

    @property
    def precision(self) -> Precision:
        """Single precision."""
        return Precision(weights="fp32")

    def widths(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every matrix."""
        return [(self.inputs, self.width), *[(self.width, self.width)] * (self.depth - 1), (self.width, self.outputs)]

    def parameters(self, parallelism: Parallelism) -> dict[str, float]:
        """The network, its gradients and Adam's two moments on each chip."""
        return {"ffn": 4.0 * sum(into * out + out for into, out in self.widths())}

    def operations(self, count: Array, parallelism: Parallelism, precision: Precision) -> list[Operation]:
        """Every matrix as often as the factor says, and the gradients' all-reduce."""
        rows = count / parallelism.dp * float(self.cost_factor)
        stored = precision.format_of("ffn")
        found: list[Operation] = [Matmul("layer", rows, out, into, stored, "ffn") for into, out in self.widths()]
        if parallelism.dp > 1:
            size = 4.0 * sum(into * out + out for into, out in self.widths())
            found.append(Collective("gradients", "all_reduce", size, parallelism.dp))
        return found
