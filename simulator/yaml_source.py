"""YAML text -> plain data, and where each value stands, so that an error can name file, line and column.

Scalars are YAML 1.2's: `no`, `on` and `1_000` are text, `010` is 10, `1e12` is a number. A key twice is an error.
`extends: other.yaml` lays a file over another one: mappings key by key, memory tiers by name; null takes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from simulator.errors import InputError, Problem, Where, nearest
from simulator.problems import Key, Location, problems_of

Model = TypeVar("Model")

DEEPEST = 64
LARGEST = 100_000
"""Bounds on nesting and on values after aliases are expanded: a few short lines can ask for billions."""

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_KEY_BEFORE = re.compile(r"[{,]\s*[\w.]+$")
_INDEX = re.compile(r"\[[\d*]+\]")
_FLOW_MEND = "write a key with brackets in quotes within {...}: {'machines[0].tp': [1, 2]}"


@dataclass(frozen=True)
class Marked:
    """A value with its place: `value` is a scalar, or a dict or list of Marked. `keys` holds the places of the keys."""

    value: Any
    where: Where
    keys: dict[Key, Where] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


@dataclass(frozen=True)
class Source:
    """What a YAML file says (`data`), and where (`marks`). `files`: it and those that it extends, nearest first."""

    path: str
    data: Any
    marks: Marked
    files: tuple[str, ...] = ()

    def where(self, location: Location = (), *, key: bool = False) -> Where:
        """The place of the value at `location`, or of its nearest known ancestor; with `key` that of its key."""
        mark, place = self.marks, self.marks.where
        for part in location:
            if isinstance(mark.value, dict) and part in mark.value:
                place = mark.keys[part] if key else mark.value[part].where
                mark = mark.value[part]
            elif isinstance(mark.value, list) and isinstance(part, int) and -len(mark.value) <= part < len(mark.value):
                mark = mark.value[part]
                place = mark.where
            else:
                break
        return place

    def replaced(self, location: Location, text: str, name: str, error: type[InputError] = InputError) -> Source:
        """A Source with the value at `location` read from YAML `text`; `name` is its place in messages.

        Missing keys on the way are made. Raises: error, when a part of the location leads through a scalar or
        past the end of a list.
        """
        new = _value(text, name, error)  # type: ignore[arg-type]  # of a class of errors, which has a hash
        marks = _put(self.marks, location, new.marks, Where(name), error)
        return replace(self, data=_with(self.data, location, new.data), marks=marks)


def parse_yaml(text: str, name: str, error: type[InputError] = InputError) -> Source:
    """The data of YAML text; `name` stands for the file in messages, and `extends` is relative to its folder."""
    return _finished(_parse(text, name, error), name, error, None)


@lru_cache(maxsize=10_000)
def _value(text: str, name: str, error: type[InputError]) -> Source:
    """A value that lies over another one: studies lay the same ones over many places."""
    return parse_yaml(text, name, error)


def read_yaml(
    path: str | Path, error: type[InputError] = InputError, find: Callable[[str], Path | None] | None = None
) -> Source:
    """The data of a YAML file. `find` looks up an `extends` that is no file beside this one (a catalogue's name).

    Raises: error, with the place, when the file cannot be read or is not the YAML described above.
    """
    return _finished(_parse(_text(Path(path), error, None), str(path), error), str(path), error, find)


def as_yaml(data: Any) -> str:
    """Plain data as YAML text that reads back to it, keys in their order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def validate(
    model_type: type[Model] | Any, source: Source, error: type[InputError] = InputError, context: Any = None
) -> Model:
    """The source as an instance of a pydantic model (or of any annotated type).

    Raises: error, with everything that is wrong at once, each with its place and the nearest valid name.
    """
    if source.data is None:
        raise error(Problem("there is nothing in it", source.marks.where, "write keys and values"))
    try:
        if isinstance(model_type, type) and get_origin(model_type) is None and issubclass(model_type, BaseModel):
            instance: Any = model_type.model_validate(source.data, context=context)
        else:
            instance = TypeAdapter(model_type).validate_python(source.data, context=context)
    except ValidationError as failure:
        raise error(problems_of(failure, model_type, source.data, source.where)) from None
    return instance  # type: ignore[no-any-return]


def _text(path: Path, error: type[InputError], where: Where | None) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        beside = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        close = nearest(path.name, beside)
        mend = f"did you mean '{path.parent / close}'?" if close else None
        raise error(Problem(f"there is no file '{path}'", where, mend)) from None
    except UnicodeDecodeError as failure:
        raise error(Problem(f"byte {failure.start} is not UTF-8", Where(str(path)), "save it as UTF-8")) from None
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else failure
        raise error(Problem(f"'{path}' cannot be read: {reason}", where)) from None


def _parse(text: str, name: str, error: type[InputError]) -> Marked:
    try:
        return _Builder(text, name, error).document()
    except yaml.MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        where = Where(name, mark.line + 1, mark.column + 1) if mark else Where(name)
        mend = _FLOW_MEND if _unquoted_bracket(text, mark) else None
        raise error(Problem(failure.problem or "this is not YAML", where, mend)) from None
    except yaml.reader.ReaderError as failure:
        read = text[: failure.position]
        where = Where(name, read.count("\n") + 1, len(read) - read.rfind("\n"))
        raise error(Problem(f"a character that YAML does not allow: {failure.reason}", where)) from None
    except UnicodeEncodeError as failure:
        raise error(Problem(f"character {failure.start} is not Unicode text", Where(name))) from None


def _unquoted_bracket(text: str, mark: yaml.Mark | None) -> bool:
    """Whether a place is the '[' of a key like machines[0].tp within {...}, which YAML takes for a list."""
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        return False
    before, at = lines[mark.line][: mark.column], lines[mark.line][mark.column :]
    return bool(_KEY_BEFORE.search(before)) and bool(_INDEX.match(at))


class _Builder:
    """Marked values from the events of PyYAML's C parser, so that an alias has a place and depth has a bound."""

    def __init__(self, text: str, name: str, error: type[InputError]) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        self.name = name
        self.error = error
        self.anchors: dict[str, Marked | None] = {}  # None while the anchored value is being read
        self.size = 0
        self.depth = 0

    def document(self) -> Marked:
        next(self.events)  # the stream's start
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return Marked(None, Where(self.name, 1, 1))
        root = self.value(next(self.events))
        next(self.events)  # the document's end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self.refuse("a second document begins", after, "keep one document in a file")
        return root

    def value(self, event: Any) -> Marked:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        self.grow(1, event)
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            mark = Marked(self.scalar(event), self.place(event))
        else:
            self.depth += 1
            if self.depth > DEEPEST:
                raise self.refuse(f"it is nested more than {DEEPEST} deep", event)
            mark = self.mapping(event) if isinstance(event, yaml.MappingStartEvent) else self.sequence(event)
            self.depth -= 1
        if event.anchor:
            self.anchors[event.anchor] = mark
        return mark

    def alias(self, event: Any) -> Marked:
        if event.anchor not in self.anchors:
            raise self.refuse(f"no anchor '&{event.anchor}' before this alias", event)
        mark = self.anchors[event.anchor]
        if mark is None:
            raise self.refuse(f"the alias '*{event.anchor}' stands inside what it repeats", event)
        self.grow(mark.size, event)
        return mark

    def sequence(self, start: Any) -> Marked:
        self.check_tag(start, "tag:yaml.org,2002:seq")
        items: list[Marked] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event))
        return Marked(items, self.place(start), size=1 + sum(item.size for item in items))

    def mapping(self, start: Any) -> Marked:
        self.check_tag(start, "tag:yaml.org,2002:map")
        items: dict[Key, Marked] = {}
        keys: dict[Key, Where] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.value(event).value
            if isinstance(key, bool) or not isinstance(key, str | int | float):
                raise self.refuse("a key is neither text nor a number", event, "put it in quotes")
            if key in items:
                raise self.refuse(f"the key '{key}' stands here twice, first at line {keys[key].line}", event)
            if key == "<<":
                raise self.refuse("merge keys '<<' are not read", event, "use an alias or 'extends: FILE'")
            keys[key] = self.place(event)
            items[key] = self.value(next(self.events))
        return Marked(items, self.place(start), keys, 1 + sum(item.size for item in items.values()))

    def scalar(self, event: Any) -> Any:
        if event.implicit[1]:
            return event.value  # quoted or a block
        kind = (event.tag or "").removeprefix("tag:yaml.org,2002:")
        if kind == "str":
            return event.value
        value = _plain(event.value)
        if value is None and event.value and _INT.fullmatch(event.value):
            raise self.refuse(f"a whole number of {len(event.value)} digits is too long", event)
        wanted = {"": object, "int": int, "float": float, "bool": bool, "null": type(None)}.get(kind)
        if wanted is None or not isinstance(value, wanted):
            raise self.refuse(f"the tag '{event.tag}' is not read here", event, "leave it out")
        return value

    def check_tag(self, event: Any, known: str) -> None:
        if event.tag not in (None, "!", known):
            raise self.refuse(f"the tag '{event.tag}' is not read here", event, "leave it out")

    def grow(self, size: int, event: Any) -> None:
        self.size += size
        if self.size > LARGEST:
            raise self.refuse(f"it holds more than {LARGEST:,} values once aliases are expanded", event)

    def place(self, event: Any) -> Where:
        return Where(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def refuse(self, what: str, event: Any, mend: str | None = None) -> InputError:
        return self.error(Problem(what, self.place(event), mend))


def _plain(text: str) -> Any:
    """A plain scalar by the core schema of YAML 1.2 (None for a whole number that Python refuses to read)."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if _INT.fullmatch(text):
        try:
            return int(text)
        except ValueError:
            return None
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if infinity := _INFINITY.fullmatch(text):
        return float(infinity[1] + "inf")
    return float("nan") if _NAN.fullmatch(text) else text


def _finished(marks: Marked, path: str, error: type[InputError], find: Callable[[str], Path | None] | None) -> Source:
    if not isinstance(marks.value, dict) or "extends" not in marks.value:
        return Source(path, marks.plain(), marks, (path,))
    read: dict[Path, Marked] = {}
    marks = _extended(marks, path, error, find, (Path(path).resolve(),), read)
    below = [mark.where.file for mark in reversed(read.values())]  # a file is put there after those that it extends
    return Source(path, marks.plain(), marks, (path, *below))


def _extended(
    marks: Marked,
    path: str,
    error: type[InputError],
    find: Callable[[str], Path | None] | None,
    chain: tuple[Path, ...],
    read: dict[Path, Marked],
) -> Marked:
    """The marks laid over those of the files that `extends` names; of several the later ones lie over the earlier."""
    if not isinstance(marks.value, dict) or "extends" not in marks.value:
        return marks
    given = marks.value["extends"]
    names = given.value if isinstance(given.value, list) else [given]
    below: Marked | None = None
    for name in names:
        if not isinstance(name.value, str) or not name.value:
            raise error(Problem("'extends' is not the name of a file", name.where, "write 'extends: other.yaml'"))
        beside = Path(path).parent / name.value
        target = beside if beside.is_file() or find is None else find(name.value) or beside
        resolved = target.resolve()
        if resolved in chain:
            circle = " -> ".join(file.name for file in (*chain[chain.index(resolved) :], resolved))
            raise error(Problem(f"files extend each other in a circle: {circle}", name.where))
        if resolved not in read:
            mark = _parse(_text(target, error, name.where), str(target), error)
            read[resolved] = _extended(mark, str(target), error, find, (*chain, resolved), read)
        below = read[resolved] if below is None else _merged(below, read[resolved])
    own = {key: item for key, item in marks.value.items() if key != "extends"}
    mine = replace(marks, value=own)
    return mine if below is None else _merged(below, mine)


def _merged(below: Marked, above: Marked) -> Marked:
    """Mappings are merged key by key, and lists of memory tiers tier by tier: the list above says which tiers there
    are, and each is laid over the one of that name below. A null above takes away what is below; anything else hides
    it, a number with its label too."""
    if isinstance(below.value, list) and isinstance(above.value, list):
        tiers = {_tier(item): item for item in below.value if _tier(item) is not None}
        laid = [_merged(tiers[tier], item) if (tier := _tier(item)) in tiers else item for item in above.value]
        return replace(above, value=laid)
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)) or "value" in above.value:
        return above
    items = dict(below.value)
    for key, item in above.value.items():
        if key in items and item.value is None:
            del items[key]
        else:
            items[key] = _merged(items[key], item) if key in items else item
    return Marked(items, above.where, {**below.keys, **above.keys})


def _tier(item: Marked) -> str | None:
    """What a mapping in a list states as its `tier`."""
    tier = item.value.get("tier") if isinstance(item.value, dict) else None
    return tier.value if tier is not None and isinstance(tier.value, str) else None


def _with(data: Any, location: Location, new: Any) -> Any:
    """Plain data with another value at a location to which `_put` has found a way."""
    if not location:
        return new
    part, rest = location[0], location[1:]
    if isinstance(data, list) and isinstance(part, int):
        return [*data[:part], _with(data[part], rest, new), *data[part + 1 :]]
    inside = data or {}
    return {**inside, part: _with(inside.get(part), rest, new)}


def _put(mark: Marked, location: Location, new: Marked, where: Where, error: type[InputError]) -> Marked:
    if not location:
        return new
    part, rest = location[0], location[1:]
    if isinstance(mark.value, dict) or mark.value is None:
        items = dict(mark.value or {})
        items[part] = _put(items.get(part, Marked(None, where)), rest, new, where, error)
        return Marked(items, mark.where, {**mark.keys, part: where}, mark.size)
    if not isinstance(mark.value, list):
        raise error(Problem(f"there is no '{part}' in a value that is no mapping and no list", where))
    if not isinstance(part, int) or not 0 <= part < len(mark.value):
        mend = "write the number of an item, [0], or [*] for all" if isinstance(part, str) else None
        raise error(Problem(f"there is no item [{part}] in a list of {len(mark.value)}", where, mend))
    listed = list(mark.value)
    listed[part] = _put(listed[part], rest, new, where, error)
    return Marked(listed, mark.where, mark.keys, mark.size)
