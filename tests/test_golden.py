"""Golden scenarios: what packaged scenarios gave when somebody last looked. `python tests/test_golden.py` looks again.

A change of physics or of a profile moves these figures on purpose: read the difference, then write them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.api import load, run

GOLDEN = Path(__file__).parent / "golden"
SCENARIOS = Path(__file__).parent.parent / "scenarios"
CASES = {"first": ("traffic.requests=200",), "four-machines": ("traffic.requests=400",), "essay-gpt3": ("samples=4",)}
LEFT_OUT = ("limits", "labels", "warnings", "quality")
"""Keys that say what was asked, not what came out."""


def summaries(name: str) -> list[dict[str, Any]]:
    report = run(load(SCENARIOS / f"{name}.yaml", *CASES[name]))
    runs: list[dict[str, Any]] = report.document()["runs"]
    return [{key: value for key, value in summary.items() if key not in LEFT_OUT} for summary in runs]


def same(now: Any, then: Any) -> bool:
    """Equal, floats to nine digits: libraries' powers and roots may differ in the last bits between machines."""
    if isinstance(then, dict):
        return isinstance(now, dict) and now.keys() == then.keys() and all(same(now[key], then[key]) for key in then)
    if isinstance(then, list):
        return isinstance(now, list) and len(now) == len(then) and all(map(same, now, then))
    return bool(now == pytest.approx(then, rel=1e-9)) if isinstance(then, float) else bool(now == then)


@pytest.mark.parametrize("name", CASES)
def test_a_packaged_scenario_gives_what_it_gave(name: str) -> None:
    then = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(summaries(name)))
    assert [run["machine"] for run in now] == [run["machine"] for run in then]
    for ours, theirs in zip(now, then, strict=True):
        moved = {
            key: (theirs.get(key), ours.get(key))
            for key in {*ours, *theirs}
            if not same(ours.get(key), theirs.get(key))
        }
        assert not moved, f"{ours['model']} on {ours['machine']}"


if __name__ == "__main__":
    for case in CASES:
        (GOLDEN / f"{case}.json").write_text(json.dumps(summaries(case), indent=1) + "\n", encoding="utf-8")
