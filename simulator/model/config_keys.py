"""The text of a config.json -> its keys, each checked and with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simulator.errors import ModelError, Problem, Where, nearest


def parse_config(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of a JSON file and its object; duplicate keys and NaN are refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise ModelError(Problem(f"'{twice}' is written twice", Where(str(path)), "keep one of them"))
        return found

    def refuse(constant: str) -> float:
        if constant.endswith("Infinity"):
            return float(constant)  # a limit that is none; as a shape it is refused where it is read
        raise ModelError(Problem(f"{constant} is not a number that a shape can have", Where(str(path))))

    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except OSError as error:
        raise ModelError(Problem(f"cannot read the config: {error.strerror}", Where(str(path)))) from error
    except json.JSONDecodeError as error:
        raise ModelError(Problem(f"not JSON: {error.msg}", Where(str(path), error.lineno, error.colno))) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(Problem(f"not a config: {error}", Where(str(path)))) from error
    if not isinstance(data, dict):
        raise ModelError(Problem("not a JSON object", Where(str(path)), "give a HuggingFace config.json"))
    return text, data


class Keys:
    """The keys of one config; `text` is the file's text, for places.

    A bad value is noted and replaced by a harmless one, so that all are found at once.
    """

    def __init__(self, data: Mapping[str, Any], file: str, text: str = "") -> None:
        self.data, self.file, self.text = data, file, text
        self.problems: list[Problem] = []

    def where(self, key: str | None = None) -> Where:
        """The place of a key, as far as the text tells."""
        found = re.search(rf'"{re.escape(key)}"\s*:', self.text) if key else None
        if not found:
            return Where(self.file)
        before = self.text[: found.start()]
        return Where(self.file, before.count("\n") + 1, found.start() - before.rfind("\n"))

    def wrong(self, what: str, key: str | None = None, mend: str | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(what, self.where(key), mend))

    def given(self, *names: str) -> str | None:
        """The first of the names that has a value."""
        return next((name for name in names if self.data.get(name) is not None), None)

    def integer(self, *names: str, default: int | None = None, least: int = 1, most: int = 10**9) -> int:
        """A whole number under the first name that is there; required unless there is a default."""
        name = self.given(*names)
        if name is None:
            if default is None:
                close = nearest(names[0], self.data)
                self.wrong(
                    f"missing '{names[0]}'",
                    None,
                    f"is '{close}' meant?" if close else "write it as the checkpoint does",
                )
            return least if default is None else default
        value = self.data[name]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(f"{name} is {value!r}", name, f"write a whole number from {least} to {most}")
            return least
        return value

    def optional(self, name: str) -> int | None:
        """A whole number, or None where the key is missing or null."""
        return self.integer(name) if self.given(name) else None

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(f"{name} is {value!r}", name, "write true or false")
            return default
        return value

    def entries(self, name: str, count: int, words: Iterable[str]) -> list[str]:
        """A list with one of the words for each layer."""
        value = self.data.get(name)
        known = tuple(words)
        if not isinstance(value, list) or len(value) != count or any(entry not in known for entry in value):
            self.wrong(f"{name} is not a list of {count} of {', '.join(known)}", name, "write one for each layer")
            return [known[0]] * count
        return value

    def numbers(self, name: str, most: int, count: int | None = None) -> list[int]:
        """A list of whole numbers from 0 to `most`, `count` of them where that is known."""
        value = self.data.get(name)
        right = isinstance(value, list) and all(type(entry) is int and 0 <= entry <= most for entry in value)
        if not right or (count is not None and len(value or []) != count):
            many = "whole numbers" if count is None else f"{count} whole numbers"
            self.wrong(f"{name} is not a list of {many} from 0 to {most}", name, "write it as the checkpoint does")
            return [0] * (count or 0)
        return list(value or [])

    def inner(self, name: str) -> Keys:
        """The keys of a nested object; its problems are this config's too."""
        value = self.data.get(name)
        if not isinstance(value, Mapping):
            self.wrong(f"{name} is not an object" if value is not None else f"missing '{name}'", name)
            value = {}
        return self.of(value)

    def of(self, data: Mapping[str, Any]) -> Keys:
        """Other keys of the same file; their problems are this config's too."""
        keys = Keys(data, self.file, self.text)
        keys.problems = self.problems
        return keys
