"""What the words in measurements mean here: tables of chips, models, engines, number formats, lengths, readings."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

Entry = dict[str, str]
_FOLDER = Path(__file__).parent
_ASIDE = re.compile(r"\s*\((assumed|not stated)\)\s*$")


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


def longest(name: str, **texts: str) -> list[Entry]:
    """The entries whose columns are prefixes of these texts, the longest prefixes first (an empty one fits all)."""
    wanted = {key: plain(text) for key, text in texts.items()}
    fitting = [
        entry for entry in table(name) if all(text.startswith(plain(entry[key])) for key, text in wanted.items())
    ]
    return sorted(fitting, key=lambda entry: tuple(-len(entry[key]) for key in wanted))
