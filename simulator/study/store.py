"""Results by key, one line of JSON each, only ever appended: what was finished survives whatever stops the study."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from simulator.errors import OutputError

STORE = "points.jsonl"

Result = dict[str, Any]
"""{"summary": {...}} of a finished point, or {"error": "..."} of one that cannot be computed."""


class Store:
    """The file of results of one or several studies. Two processes may append at once: a line is one write."""

    def __init__(self, path: Path) -> None:
        """Read what is there. A last line that was cut off by a crash is left out. Raise OutputError."""
        self.path = path
        self._results: dict[str, Result] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as file:
                file.seek(0)
                lines = file.read().split(b"\n")
                if lines[-1]:
                    file.write(b"\n")
        except OSError as error:
            raise OutputError(f"cannot write results to '{path}': {error.strerror}; choose another --out DIR") from None
        for line in lines:
            record = _record(line)
            if record is not None:
                self._results[record.pop("key")] = record

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __getitem__(self, key: str) -> Result:
        return self._results[key]

    def add(self, key: str, result: Result) -> None:
        """Keep a result, on disk before this returns."""
        self._results[key] = result
        line = json.dumps({"key": key, **result}, allow_nan=False, ensure_ascii=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
        except OSError as error:
            raise OutputError(f"cannot write results to '{self.path}': {error.strerror}") from None
        finally:
            os.close(descriptor)


def _record(line: bytes) -> Result | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None
