"""The progress bar of every command that takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simulator.progress import Progress, untold

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress(quiet: bool = False, console: Console | None = None) -> Iterator[Progress]:
    """A line with a bar, a count, a rate and the time left for each thing that is counted, on a terminal's standard
    error; nothing elsewhere. What is finished goes."""
    if console is None and (quiet or not sys.stderr.isatty()):
        yield untold
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console or Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of, rate="")
            task = tasks[what]
            bars.update(task, completed=done, total=of)
            speed = next((known.speed for known in bars.tasks if known.id == task), None)
            bars.update(task, rate=f"{speed:.3g}/s" if speed else "", visible=done < of)

        yield tell
