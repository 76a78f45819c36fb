"""What the words in measurements mean here: tables of chips, models, engines, number formats, lengths, readings."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

Entry = dict[str, str]
_FOLDER = Path(__file__).parent
_ASIDE = re.compile(r"\s*\((assumed|not stated)\)\s*$")


@cache
def plain(text: str) -> str:
    """Lower case, single blanks, a last "(assumed)" left out: what words are compared by."""
    return _ASIDE.sub("", " ".join(text.lower().split()))


@cache
def table(name: str) -> tuple[Entry, ...]:
    """The entries of aliases/NAME.csv."""
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def _index(name: str, key: str) -> dict[str, Entry]:
    return {plain(entry[key]): entry for entry in table(name)}


def exact(name: str, key: str, text: str) -> Entry | None:
    """The entry whose column `key` is `text`."""
    return _index(name, key).get(plain(text))


def longest(name: str, **texts: str) -> tuple[Entry, ...]:
    """The entries whose columns are prefixes of these texts, the longest prefixes first (an empty one fits all)."""
    return _longest(name, tuple((key, plain(text)) for key, text in texts.items()))


@cache
def _longest(name: str, texts: tuple[tuple[str, str], ...]) -> tuple[Entry, ...]:
    fitting = [entry for entry in table(name) if all(text.startswith(plain(entry[key])) for key, text in texts)]
    return tuple(sorted(fitting, key=lambda entry: tuple(-len(entry[key]) for key, _ in texts)))
