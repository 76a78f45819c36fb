"""What a result depends on, as a key: equal keys, equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from simulator.hardware.catalogue import Catalogue
from simulator.model.zoo import load_model
from simulator.report.result import version
from simulator.scenario import AnyScenario, MachineChoice, Scenario, TrainingScenario
from simulator.stack.stack import Stacks
from simulator.stack.training.stack import TrainingStacks
from simulator.workload import find_trace

PACKAGE = Path(__file__).parent.parent


class Contents:
    """Keys of scenarios whose names are looked up in `folders`; what has been read once is not read again."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._catalogue, self._stacks, self._training = Catalogue(folders), Stacks(folders), TrainingStacks(folders)
        self._read: dict[tuple[str, str], str] = {}

    def key(self, scenario: AnyScenario) -> str:
        """SHA-256 of the scenario with its defaults, its profiles, stacks, models and trace, and of the code.

        Raise InputError for a name that nobody knows.
        """
        hosts = {pool.host for pool in _pools(scenario) if pool.host}
        parts = {
            "scenario": scenario.model_dump_json(exclude={"description"}, exclude_none=True),
            "models": [self._once("model", base) for base in map(_base, scenario.models) if base],
            "machines": [self._once("hardware", name) for name in (*_machines(scenario), *sorted(hosts))],
            "stacks": self._stacks_of(scenario),
            "trace": self._trace_of(scenario),
            "version": version(),
            "code": code(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _stacks_of(self, scenario: AnyScenario) -> list[str]:
        if isinstance(scenario, TrainingScenario):
            profiles = [(machine.stack, self._catalogue.load(machine.hardware)) for machine in scenario.machines]
            names = [stack or self._training.default(profile).name for stack, profile in profiles]
            return [self._once("training", name) for name in names]
        return [
            self._once("stack", pool.stack or self._catalogue.load(pool.hardware).default_stack)
            for pool in _pools(scenario)
        ]

    def _trace_of(self, scenario: AnyScenario) -> str:
        trace = scenario.traffic.trace if isinstance(scenario, Scenario) else None
        return self._once("trace", trace) if trace else ""

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
        if kind == "training":
            return repr(self._training.load(name)).encode()
        return find_trace(name, self._folders[-1], None).read_bytes()


def _pools(scenario: AnyScenario) -> list[MachineChoice]:
    """The machines of a scenario that is no training."""
    if isinstance(scenario, Scenario):
        return [pool for machine in scenario.machines for pool in machine.pools]
    return [] if isinstance(scenario, TrainingScenario) else list(scenario.machines)


def _machines(scenario: AnyScenario) -> list[str]:
    if isinstance(scenario, TrainingScenario):
        return [machine.hardware for machine in scenario.machines]
    return [pool.hardware for pool in _pools(scenario)]


def _base(model: Any) -> str | None:
    """The model that must be looked up by its name."""
    return model if isinstance(model, str) else getattr(model, "base", None)


@cache
def code() -> str:
    """Digest of the package's source and data: a changed formula or price makes results new."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".yaml", ".csv"))
    return digest(b"\0".join(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() for path in files))


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
