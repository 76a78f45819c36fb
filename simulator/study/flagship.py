"""The pictures of docs/studies, made anew: python -m simulator.study.flagship [NAME ...].

Every packaged study, and the scenarios of TASKS whose work is no serving. Tables, page and plots of each go to
ramwise-results/NAME as from the command line, its picture to docs/studies/NAME.svg.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.errors import RamwiseError, ScenarioError, unknown
from simulator.report import folder
from simulator.report import samples as sample_folder
from simulator.report.notebook import Shown
from simulator.samples import run
from simulator.scenario import find_scenario, read_samples
from simulator.study.crossover import crossover
from simulator.study.folder import check, write, write_map, write_plan
from simulator.study.plan import plan
from simulator.study.study import find_study, kind_of, packaged_studies
from simulator.study.sweep import sweep

TASKS = ("three-classes",)
"""Packaged scenarios of other tasks that belong to the flagship studies."""

DOCS, RESULTS = Path("docs/studies"), Path("ramwise-results")


def names() -> list[str]:
    """All of them."""
    return [*packaged_studies(), *TASKS]


def regenerate(name: str, docs: Path = DOCS, results: Path = RESULTS) -> Path:
    """Run one and put its picture into `docs`. Raise RamwiseError when it cannot run or its name is unknown."""
    if name not in names():
        raise ScenarioError(unknown("study", name, names()))
    place = (folder.check if name in TASKS else check)(results / name)
    found = _written(name, place)
    docs.mkdir(parents=True, exist_ok=True)
    picture = docs / f"{name}.svg"
    drawn = (place / "plots" / f"{stem}.svg" for stem in found.charts())
    shutil.copyfile(next(file for file in drawn if file.is_file()), picture)
    return picture


def _written(name: str, place: Path) -> Shown:
    """What a study or scenario found; its folder is written to `place`."""
    if name in TASKS:
        report = run(*read_samples(find_scenario(name)))
        sample_folder.write(report, place)
        return report
    file = find_study(name)
    if kind_of(file) == "crossover":
        found_map = crossover(file, place)
        write_map(found_map, file, place)
        return found_map
    if kind_of(file) == "plan":
        proposal = plan(file, place)
        write_plan(proposal, file, place)
        return proposal
    found = sweep(file, place)
    write(found, file, place)
    return found


def main(wanted: Sequence[str]) -> int:
    """The named ones, all when none is named. Return 1 when one of them could not run."""
    failed = 0
    for name in wanted or names():
        try:
            print(regenerate(name))
        except RamwiseError as error:
            failed = 1
            print(f"ramwise: {name}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
