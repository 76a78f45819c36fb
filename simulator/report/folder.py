"""The folder that a run leaves: written beside its place under another name, and put there only when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from simulator.errors import OutputError
from simulator.report import charts, tables, timeline
from simulator.report.requests import write_requests
from simulator.report.result import Report, Runs
from simulator.report.run_page import run_page

AnyReport = TypeVar("AnyReport", bound=Runs[Any])

SUMMARY, PAGE = "summary.json", "report.html"
OURS = frozenset({SUMMARY, PAGE, "summary.txt", "requests.parquet", "timeline.json.gz", "plots"})


def write(report: Report, out: str | Path, plots: bool = True, complete: bool = True) -> Path:
    """Write summary.json, summary.txt, requests.parquet, timeline.json.gz, plots/ and report.html into `out`."""

    def more(folder: Path) -> None:
        write_requests(report, folder / "requests.parquet")
        (folder / "timeline.json.gz").write_bytes(timeline.compressed(report))

    drawn = Drawn(lambda folder: charts.save_all(report, folder), lambda folder: run_page(report, folder))
    return write_runs(report, out, tables.plain_text, drawn if plots else None, complete, more)


class Drawn(NamedTuple):
    """What shows a report in pictures: saves its charts into a folder, and makes the page of those that are there."""

    charts: Callable[[Path], object]
    page: Callable[[Path], str]


def write_runs(
    report: AnyReport,
    out: str | Path,
    text: Callable[[AnyReport], str],
    drawn: Drawn | None,
    complete: bool,
    more: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write what every task leaves: summary.json, summary.txt, and plots/ with report.html if `drawn`."""

    def fill(folder: Path) -> None:
        (folder / "summary.txt").write_text(text(report), encoding="utf-8")
        more(folder)
        if drawn is not None:
            (folder / "plots").mkdir()
            drawn.charts(folder / "plots")
            (folder / PAGE).write_text(drawn.page(folder / "plots"), encoding="utf-8")
        (folder / SUMMARY).write_text(report.summary_json(complete), encoding="utf-8")

    return put(fill, out, complete)


def put(fill: Callable[[Path], None], out: str | Path, complete: bool = True) -> Path:
    """Let `fill` write into a fresh folder, and put that in the place of `out`.

    An earlier result in `out` is replaced as a whole or not at all; other files that stand in it are kept.
    `complete=False` marks the results of an interrupted command; they never replace complete ones, but go beside them
    into `out`-partial. Returns the folder that was written. Raises OutputError: see `check`.
    """
    place = check(out)
    if not complete and (_summary(place) or {}).get("complete"):
        place = check(place.with_name(f"{place.name}-partial"))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
        try:
            fill(fresh)
            _make_public(fresh)
            _put(fresh, place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)  # gone already unless something failed
    except OSError as error:
        raise _refusal(place, error) from error
    return place


def check(out: str | Path) -> Path:
    """The absolute path of `out` if results may be written there, before hours are spent on computing them.

    Raises OutputError when it is a file, a folder that is no ramwise result (it holds files and no summary.json of
    ours), the folder that the command runs in, or not writable.
    """
    try:
        place = Path(out).expanduser().resolve()
        if place.exists() and not place.is_dir():
            raise OutputError(f"'{out}' is a file, not a folder; choose another one with --out DIR")
        if Path.cwd().is_relative_to(place):
            raise OutputError(f"'{out}' holds the current folder; choose a new one with --out DIR")
        if place.is_dir() and any(place.iterdir()) and _summary(place) is None:
            raise OutputError(
                f"'{out}' is not empty and holds no ramwise results (no {SUMMARY}); choose another one with --out DIR"
            )
        ground = next(parent for parent in place.parents if parent.exists())
    except OSError as error:
        raise _refusal(Path(out), error) from error
    if not ground.is_dir():
        raise OutputError(f"cannot write results to '{out}': '{ground}' is a file; choose another one with --out DIR")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write results to '{out}': '{ground}' is not writable; choose another one with --out DIR"
        )
    return place


def _make_public(folder: Path) -> None:
    """A temporary folder is private; a result is as public as any other folder."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def _put(fresh: Path, place: Path) -> None:
    """Rename the old folder away and the new one in; the old one comes back when that fails."""
    if not place.exists():
        fresh.rename(place)
        return
    away = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
    old = away / place.name
    try:
        place.rename(old)
        fresh.rename(place)
        for other in sorted(old.iterdir()):
            if other.name not in OURS:
                other.rename(place / other.name)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        _remove_ours(old)
        with suppress(OSError):  # a file that is not ours could not be moved: it stays where it is
            away.rmdir()


def _remove_ours(folder: Path) -> None:
    """Remove what ramwise wrote in `folder`, and the folder when nothing else is in it."""
    for name in OURS:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _summary(folder: Path) -> dict[str, object] | None:
    """What summary.json in `folder` says, when ramwise wrote it."""
    try:
        document = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and {"scenario", "seed", "runs"} <= document.keys() else None


def _refusal(place: Path, error: OSError) -> OutputError:
    why = error.strerror or str(error)
    return OutputError(f"cannot write results to '{place}': {why}; choose another folder with --out DIR")
