"""What a result depends on, as a key: equal keys, equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from simulator.hardware.catalogue import Catalogue
from simulator.model.zoo import load_model
from simulator.report.result import version
from simulator.scenario import Scenario
from simulator.stack.stack import Stacks
from simulator.workload import find_trace

PACKAGE = Path(__file__).parent.parent


class Contents:
    """Keys of scenarios whose names are looked up in `folders`; what has been read once is not read again."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._catalogue, self._stacks = Catalogue(folders), Stacks(folders)
        self._read: dict[tuple[str, str], str] = {}

    def key(self, scenario: Scenario) -> str:
        """SHA-256 of the scenario with its defaults, its profiles, stacks, models and trace, and of the code.

        Raise InputError for a name that nobody knows.
        """
        pools = [pool for machine in scenario.machines for pool in machine.pools]
        parts = {
            "scenario": scenario.model_dump_json(exclude={"description"}, exclude_none=True),
            "models": [
                self._once("model", model if isinstance(model, str) else model.base) for model in scenario.models
            ],
            "machines": [self._once("hardware", machine.hardware) for machine in pools],
            "stacks": [
                self._once("stack", machine.stack or self._catalogue.load(machine.hardware).default_stack)
                for machine in pools
            ],
            "trace": self._once("trace", scenario.traffic.trace) if scenario.traffic.trace else "",
            "version": version(),
            "code": code(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _once(self, kind: str, name: str) -> str:
        if (kind, name) not in self._read:
            self._read[kind, name] = digest(self._content(kind, name))
        return self._read[kind, name]

    def _content(self, kind: str, name: str) -> bytes:
        if kind == "model":
            return repr(load_model(name, self._folders)).encode()
        if kind == "hardware":
            return repr(self._catalogue.load(name)).encode()
        if kind == "stack":
            return repr(self._stacks.load(name)).encode()
        return find_trace(name, self._folders[-1], None).read_bytes()


@cache
def code() -> str:
    """Digest of the package's source and data: a changed formula or price makes results new."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".yaml", ".csv"))
    return digest(b"\0".join(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() for path in files))


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
