"""Which replica takes a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Routable(Protocol):
    """What a router may look at."""

    outstanding: int  # requests sent there and not finished


Router = Callable[[Sequence[Routable]], int]


def round_robin() -> Router:
    """Each replica in turn."""
    turn = -1

    def choose(replicas: Sequence[Routable]) -> int:
        nonlocal turn
        turn = (turn + 1) % len(replicas)
        return turn

    return choose


def least_outstanding() -> Router:
    """The replica with the fewest unfinished requests; among equals the first."""

    def choose(replicas: Sequence[Routable]) -> int:
        loads = [replica.outstanding for replica in replicas]
        return loads.index(min(loads))

    return choose


ROUTERS: dict[str, Callable[[], Router]] = {
    "round_robin": round_robin,
    "least_outstanding": least_outstanding,
}
